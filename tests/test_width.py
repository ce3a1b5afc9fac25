"""The cost of removing biases, by width and by normalisation: differences of differences, and the BatchNorm net."""

import numpy as np
import pytest
import torch

from reproduce.cache import ResultCache
from reproduce.claims import Outcome, judge
from reproduce.context import Context
from reproduce.models import build
from reproduce.models.batch_norm_resnet import BatchNormResNet
from reproduce.nets import Net
from reproduce.scales import SCALES
from reproduce.studies import table1, width
from reproduce.studies.table1 import Measurement
from reproduce.tasks import Result
from xdnn import BiasFreeBatchNorm, is_homogeneous

COUNT = 1_000


# --- the net ---


def test_the_batch_norm_net_has_the_fixup_nets_convolutions_and_an_x_variant():
    def convolutions(name: str) -> list[tuple[int, ...]]:
        net = build(name, "regular", classes=10, width=0.25, image_px=64)
        return sorted(tuple(m.weight.shape) for m in net.modules() if isinstance(m, torch.nn.Conv2d))

    assert convolutions("bn_resnet18") == convolutions("resnet18")
    x_net = build("bn_resnet18", "x", classes=10, width=0.125, image_px=64).eval()
    assert sum(isinstance(m, BiasFreeBatchNorm) for m in x_net.modules()) == 20
    assert is_homogeneous(x_net, torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(ValueError, match="depth must be 18 or 34, got 50"):
        BatchNormResNet(50)


# --- rows and claims ---


def result(model: str, of: float, variant: str, missed: int, mard: float = 0.0, seed: int = 0) -> Result:
    """Of 1,000 images ``missed`` are not recognised: every so manieth, the same for a smaller number."""
    hits = np.ones(COUNT, bool)
    hits[np.arange(missed) * 7 % COUNT] = False
    net = Net(model, variant, "cifar10", of, "trained", seed)
    return Result(net, Measurement(hits.tolist(), hits.tolist(), [mard] * 5, []), 1.0, {})


def pair(model: str, of: float, regular: int, x: int, **options: float) -> list[Result]:
    return [result(model, of, "regular", regular, 0.5), result(model, of, "x", x, **options)]


GOOD = [
    *pair("alexnet", 0.125, 200, 260),
    *pair("alexnet", 0.25, 150, 180),
    *pair("alexnet", 0.5, 100, 110),
    *pair("resnet18", 0.125, 150, 160),
    *pair("bn_resnet18", 0.125, 140, 150),
]


def outcomes(results: list[Result]) -> dict[str, Outcome]:
    return {f.claim.id: f.outcome for f in judge(width.STUDY.claims, width.rows(results))}


def test_the_difference_is_that_of_the_costs_of_the_widest_and_the_narrowest():
    rows = width.rows(GOOD).set_index(["model", "width", "variant", "metric", "against"])
    assert rows.loc["alexnet", 0.125, "x", "top1_change", ""]["value"] == pytest.approx(-6)
    found = rows.loc["alexnet", 0.5, "x", "top1_change_difference", "width 0.125"]
    assert found["value"] == pytest.approx(5) and found["low"] > 0
    assert rows.loc["bn_resnet18", 0.125, "x", "top1_change_difference", "resnet18"]["value"] == pytest.approx(0)
    assert sum(metric == "top1_change_difference" for _, _, _, metric, _ in rows.index) == 2


def test_costs_that_shrink_confirm_every_claim():
    assert set(outcomes(GOOD).values()) == {Outcome.REPRODUCED}


@pytest.mark.parametrize(
    "claim, worse",
    [
        ("x-mard", pair("alexnet", 1.0, 100, 105, mard=0.01)),
        ("wider-costs-less", pair("alexnet", 1.0, 100, 300)),
        ("norm-costs-no-more", [*pair("resnet18", 0.25, 100, 100), *pair("bn_resnet18", 0.25, 100, 200)]),
    ],
)
def test_other_costs_refute_them(claim, worse):
    assert outcomes([*GOOD, *worse])[claim] is Outcome.NOT_REPRODUCED


def test_several_trainings_are_one_row():
    results = [
        result("alexnet", of, v, 100, seed=s) for of in (0.125, 0.25) for v in ("regular", "x") for s in range(3)
    ]
    rows = width.rows(results)
    assert set(rows["trainings"]) == {3} and len(rows) == 4 * 2 + 2 + 1


def test_table_and_figure_are_drawn():
    rows = width.rows(GOOD)
    assert len(width.table(rows)) == len(GOOD) and len(width.figure(rows, GOOD).axes) == 2


def test_nets_that_table1_has_too_are_measured_once(tmp_path):
    context = Context(SCALES["embedded"], ResultCache(tmp_path, {}), tmp_path)
    own = {task.about: task.digest for task in width.STUDY.at(context)}
    theirs = {task.about: task.digest for task in table1.STUDY.at(context)}
    shared = {net for net in own if own[net] == theirs.get(net)}
    assert len(own) == 4 and {(net.model, net.width, net.variant) for net in shared} == {
        ("alexnet", 0.25, "regular"),
        ("alexnet", 0.25, "x"),
    }
