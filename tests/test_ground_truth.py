"""Ground truth on made-up scores: each of its claims can come out either way."""

from dataclasses import replace

import pytest
import torch
from conftest import generator

from reproduce.claims import Outcome, judge
from reproduce.datasets.images import Images
from reproduce.maps import IG, methods_for
from reproduce.nets import Net
from reproduce.studies import ground_truth
from reproduce.studies.ground_truth import Measurement, against_masks, truth_metrics
from reproduce.tasks import Result

NET = Net("alexnet", "regular", "blobs", 1.0, "trained", 0)
BEST = torch.tensor([9.0, 1.0, 30.0, 1.0, 9.0, 5.0])  # KPM, KNM, KAM, RPM, RNM, RAM
POOR = torch.tensor([5.0, 5.0, 20.0, 5.0, 5.0, 10.0])


def result(variant: str, best: str, level: float, preferred: str = "gradient") -> Result:
    """Every metric against the truth at ``level`` for ``best`` and at 0.2 for the rest; the mask metrics prefer another."""
    methods, noise = methods_for(variant), 0.01 * torch.randn(40, generator=generator())
    levels = {name: (level if name == best else 0.2) + noise for name in methods}
    truth = {
        view: {name: dict.fromkeys(truth_metrics(), levels[name]) for name in methods} for view in ground_truth.VIEWS
    }
    flat = {name: torch.ones(3) for name in methods}
    means = {name: BEST if name == preferred else POOR for name in methods}
    return Result(replace(NET, variant=variant), Measurement(truth, flat, flat, flat, means), 1.0, {})


def outcomes(*results: Result) -> dict[str, Outcome]:
    rows = ground_truth.rows(results)
    return {finding.claim.id: finding.outcome for finding in judge(ground_truth.STUDY.claims, rows)}


@pytest.mark.parametrize("level, outcome", [(0.5, Outcome.REPRODUCED), (0.3, Outcome.NOT_REPRODUCED)])
def test_an_x_net_that_finds_less_is_said_to(level, outcome):
    found = outcomes(result("regular", IG, 0.4), result("x", "x_gradient", level))
    assert found["x-not-worse-than-regular-ig"] is outcome
    assert found["x-not-worse-than-regular-input-x-gradient"] is Outcome.REPRODUCED  # that one is at 0.2


@pytest.mark.parametrize(
    "preferred, outcome, cost", [("x_gradient", Outcome.REPRODUCED, 0), ("gradient", Outcome.NOT_REPRODUCED, -20)]
)
def test_what_trusting_the_mask_metrics_costs_is_measured_on_every_net(preferred, outcome, cost):
    results = [result("regular", "gradient", 0.4), result("x", "x_gradient", 0.4, preferred)]
    assert outcomes(*results)["mask-metrics-find-the-best"] is outcome
    rows = ground_truth.rows(results)
    costs = rows[rows["metric"] == "ap_minus_best"].set_index("variant")["value"]
    assert costs["regular"] == 0 and costs["x"] == pytest.approx(cost, abs=1e-4)


def test_ranks_leave_out_what_was_run_on_fewer_images():
    rows = ground_truth.rows([result("x", "x_gradient", 0.4)])
    for metric, first in (("mask_rank", "gradient"), ("truth_rank", "x_gradient")):
        ranks = rows[rows["metric"] == metric].set_index("method")["value"]
        assert ranks[first] == 1 and IG not in ranks
    assert len(ground_truth.table(rows)) == len(methods_for("x"))


def test_maps_of_fewer_images_are_held_against_the_first_masks_and_magnitudes_see_both_signs():
    masks = torch.zeros(3, 4, 4, dtype=torch.bool)
    masks[:, 0, 0] = True
    pixels, targets = torch.zeros(3, 3, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)
    images = Images(pixels, targets, (0.0,) * 3, (1.0,) * 3, classes=2, masks=masks)
    maps = torch.full((2, 4, 4), 0.1)
    maps[:, 0, 0] = -1.0
    truth = against_masks({"random": maps}, images)
    assert truth["positive"]["random"]["pointing"].tolist() == [0, 0]
    assert truth["absolute"]["random"]["pointing"].tolist() == [1, 1]
    with pytest.raises(ValueError, match="needs images with masks"):
        against_masks({"random": maps}, replace(images, masks=None))
