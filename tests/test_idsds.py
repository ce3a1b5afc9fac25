"""In-domain single deletion as a study: the images that nets are fine-tuned on, and claims that can come out either way."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import generator

from reproduce.cache import ResultCache
from reproduce.claims import Outcome, judge
from reproduce.context import Context
from reproduce.datasets.images import Images
from reproduce.nets import Net
from reproduce.scales import SCALES
from reproduce.studies import idsds
from reproduce.studies.idsds import IXG, OWN, XG, Measurement, Scores
from reproduce.tasks import Result
from reproduce.training.in_domain import with_holes
from xdnn.metrics.single_deletion import GRID

IG = "integrated_gradients_128"
NET = Net("alexnet", "regular", "digits-on-photos", 0.25, "trained", 0)
COUNT = 40


# --- images with holes ---


def test_about_half_of_the_images_lack_one_patch_and_another_one_each_time():
    pixels = torch.full((400, 3, 16, 16), 255, dtype=torch.uint8)
    images = Images(pixels, torch.zeros(400, dtype=torch.int64), (0.5,) * 3, (0.5,) * 3, classes=2)
    holes = with_holes(images, generator())
    first = holes.inputs()
    assert set(first.unique().tolist()) == {0.0, 1.0}
    missing = (first == 0).view(400, 3, GRID, 4, GRID, 4)
    patches = missing.amin((1, 3, 5))  # (400, 4, 4): where all of a patch is gone, in every channel
    assert torch.equal(missing.amax((1, 3, 5)), patches)  # and no part of another
    per_image = patches.flatten(1).sum(1)
    assert set(per_image.tolist()) == {0, 1} and 0.4 < per_image.float().mean() < 0.6
    assert patches.flatten(1).any(0).all()  # each patch in some image
    assert not torch.equal(holes.inputs(), first)
    assert torch.equal(with_holes(images, generator()).inputs(), first)
    assert first.is_contiguous(memory_format=torch.channels_last) and len(holes) == 400


# --- rows and claims ---


def scores(ap: bool, **means: float) -> Scores:
    """Of each method what is said, with noise that is common to all: its correlation, and its average precision in a hundredth."""
    noise = 0.05 * torch.randn(COUNT, generator=generator(1))
    found = {name: (mean + noise).clamp(-1, 1) for name, mean in means.items()}
    return Scores([True] * COUNT, found, {name: 0.5 + mean / 10 + noise for name, mean in means.items()} if ap else {})


def regular(net: Net = NET, *, ixg: float = 0.5, ig: float = 0.6, own: float = 0.55, tuned: bool = True) -> Result:
    means = {"gradient": 0.1, IXG: ixg, OWN: own, IG: ig}
    stages = {"trained": scores(tuned, **means)} | ({"in_domain": scores(tuned, **means)} if tuned else {})
    return Result(net, Measurement(stages), 1.0, {})


def x_net(net: Net = NET, variant: str = "x", xg: float = 0.7, tuned: bool = True) -> Result:
    means = {"gradient": 0.1, XG: xg}
    stages = {"trained": scores(tuned, **means)} | ({"in_domain": scores(tuned, **means)} if tuned else {})
    return Result(replace(net, variant=variant), Measurement(stages), 1.0, {})


PHOTOS = Net("squeezenet", "regular", "open-photographs", 1.0, "package", 0)


def outcomes(*results: Result) -> dict[str, Outcome]:
    return {f.claim.id: f.outcome for f in judge(idsds.STUDY.claims, idsds.rows(results))}


def real(**means: float) -> list[Result]:
    xg = means.pop("xg", 0.6)
    return [regular(PHOTOS, tuned=False, **means), x_net(PHOTOS, "converted", xg, tuned=False)]


def test_better_x_nets_confirm_every_claim():
    assert set(outcomes(regular(), x_net(), *real(ixg=0.6, own=0.6)).values()) == {Outcome.REPRODUCED}


@pytest.mark.parametrize(
    "claim, results",
    [
        ("x-net-gains", [regular(ixg=0.7), x_net()]),
        ("x-net-not-worse-than-ig", [regular(ig=0.8), x_net()]),
        ("one-pass-real-net", real(ixg=0.4)),
        ("own-radius-real-net", real(ixg=0.6, own=0.4)),
        ("converted-real-net", real(xg=0.4)),
    ],
)
def test_worse_ones_refute_it(claim, results):
    assert outcomes(*results)[claim] is Outcome.NOT_REPRODUCED


def test_a_best_by_the_score_that_is_not_the_best_by_truth_refutes_that_claim():
    found = regular()
    in_domain = found.value.stages["in_domain"]
    in_domain.ap["gradient"] = in_domain.ap[IG] + 0.2
    assert outcomes(found, x_net())["idsds-finds-the-best"] is Outcome.NOT_REPRODUCED
    rows = idsds.rows([found])
    cost = rows[rows["metric"] == "ap_in_domain_minus_best"].iloc[0]
    assert cost["value"] == pytest.approx(-20)
    agreement = rows[rows["metric"] == "idsds_agreement"].iloc[0]["value"]
    assert agreement == pytest.approx(-0.2)  # ranks 1 2 3 4 by the score, 4 1 2 3 by the truth


def test_differences_are_paired():
    rows = idsds.rows([regular(), x_net()])
    one = rows[(rows["against"] == f"regular {IXG}") & (rows["metric"] == "idsds_difference")].iloc[0]
    assert one["value"] == pytest.approx(0.2, abs=0.01) and one["high"] - one["low"] < 0.01


def test_table_and_figure_are_drawn():
    results = [regular(), x_net(), *real()]
    rows = idsds.rows(results)
    table = idsds.table(rows)
    assert len(table) == 2 * (4 + 1) + 2 * (2 + 1) and len(idsds.figure(rows, results).axes) == 2
    assert isinstance(rows, pd.DataFrame) and np.isfinite(rows["value"]).all()


def test_nets_that_are_trained_here_are_fine_tuned_from_their_own_training(tmp_path):
    context = Context(SCALES["smoke"], ResultCache(tmp_path, {}), tmp_path, seeds=2)
    tasks = idsds.STUDY.at(context)
    for task in tasks:
        tuned = [need for need in task.needs if "in domain" in need.name]
        assert len(tuned) == (task.about.weights == "trained")
        for need in tuned:
            assert [found.about for found in need.needs] == [task.about] and need.protocol.epochs == 1
    assert {task.about.variant for task in tasks} == {"regular", "x", "wrapped", "converted"}
