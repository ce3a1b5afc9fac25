"""One pass or many: what maps are worth equals the definitions, differences are paired, claims can come out either way."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from conftest import generator

from reproduce.claims import Outcome, judge
from reproduce.datasets.images import Images
from reproduce.map_quality import BASELINES, Evaluation, Explained, at, with_passes
from reproduce.maps import IG
from reproduce.nets import Net
from reproduce.studies import one_pass
from reproduce.studies.one_pass import CURVES, FITTED, IXG, MEAN, OWN, Measurement, Protocol
from reproduce.tasks import Result
from xdnn import integrated_gradients, wrapped_x_gradient
from xdnn.logits import target_logits
from xdnn.metrics.insertion_deletion import area, insertion_deletion
from xdnn.metrics.localisation import average_precision
from xdnn.metrics.masks import blur, mask_metrics

close = torch.testing.assert_close
NET = Net("squeezenet", "regular", "open-photographs", 1.0, "package", 0)
COUNT = 40


@pytest.fixture
def images():
    pixels = torch.randint(256, (5, 3, 16, 16), generator=generator(), dtype=torch.uint8)
    masks = torch.rand(5, 16, 16, generator=generator(1)) > 0.7
    return Images(pixels, torch.tensor([0, 3, 4, 1, 2]), (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), classes=5, masks=masks)


# --- measuring ---


def test_baselines_are_what_they_are_called(images):
    x = images.inputs()
    assert not at("zero", x, images).any()
    pixels = at("black", x, images) * torch.tensor(images.std).view(3, 1, 1) + torch.tensor(images.mean).view(3, 1, 1)
    close(pixels, torch.zeros_like(x), atol=1e-6, rtol=0)
    close(at("blurred", x, images), blur(x))


def test_a_map_is_scored_by_the_metrics_definitions(net, images):
    net, x, t = net.float(), images.inputs(), images.targets
    evaluation = Evaluation(net, 8, torch.device("cpu"))
    maps, passes = evaluation.make(images, with_passes(4, lambda *args: integrated_gradients(*args, steps=4)))
    full = integrated_gradients(net, x, t, steps=4)
    close(maps, full.mean(1))
    assert passes == [4.0] * 5
    reference = torch.cat([maps.flip(1), maps])  # of more images than are scored
    found = evaluation.score(images, ("a", "zero", 0.0), maps, passes, reference)
    close(found.masks, mask_metrics(net, x, t, full))
    curves = insertion_deletion(net, x, full, step=32, ranking="pixels")
    close(torch.stack([found.insertion, found.deletion]), torch.stack([area(curves.insertion), area(curves.deletion)]))
    close(found.ap, average_precision(full.mean(1), images.masks))
    change = target_logits(net, x, t) - target_logits(net, 0 * x, t)
    close(torch.tensor(found.gap), (full.flatten(1).sum(1) - change).abs(), atol=1e-6, rtol=1e-4)
    distance = (maps.flip(1) - maps).flatten(1).abs().sum(1) / maps.flatten(1).abs().sum(1)
    close(torch.tensor(found.distance), distance)
    known = evaluation.score(images, ("a", "zero", 0.0), maps, passes, maps, masks=torch.ones(5, 6))
    assert known.masks.eq(1).all() and known.distance == [0.0] * 5


def test_from_another_baseline_ig_and_the_own_radius_are_those_of_the_library(net, images):
    net, x, t = net.float(), images.inputs(), images.targets
    evaluation = Evaluation(net, 4, torch.device("cpu"))
    ig, own = one_pass.from_baseline(evaluation, images, "blurred", 16)
    assert (ig.method, own.method, ig.passes[0], own.passes[0]) == ("integrated_gradients_16", OWN, 16.0, 1.0)
    first = integrated_gradients(net, x, t, baseline=blur(x), steps=16).mean(1)
    second = wrapped_x_gradient(net, x, t, baseline=blur(x)).mean(1)
    close(torch.tensor(own.distance), (first - second).flatten(1).abs().sum(1) / first.flatten(1).abs().sum(1))
    close(own.masks, mask_metrics(net, x, t, second))
    assert max(own.gap) < 1e-5 < max(ig.gap)


def test_the_methods_are_those_of_the_protocol(net, batch):
    protocol = Protocol(images=4, explained=4, steps=(2, 8), radii=(0.5, 2.0))
    found = one_pass.methods(protocol, 10.0)
    names = [(OWN, 0.0), (MEAN, 0.0), (FITTED, 0.5), (FITTED, 2.0)]
    assert list(found) == [
        *names,
        ("integrated_gradients_2", 0.0),
        ("integrated_gradients_8", 0.0),
        ("adaptive_ig", 0.0),
    ]
    taken = [found[key](net, *batch)[1].tolist() for key in found]
    assert [passes[0] for passes in taken[:-1]] == [1, 2, 1, 1, 2, 8]
    close(found[FITTED, 2.0](net, *batch)[0], wrapped_x_gradient(net, *batch, radius=20.0))
    close(found[MEAN, 0.0](net, *batch)[0], wrapped_x_gradient(net, *batch, radius=(5.0, 20.0)))
    fewer = one_pass.methods(replace(protocol, each_radius=False, adaptive=False), 10.0)
    assert len(fewer) == 4


def test_predictions_and_the_closed_form_are_those_of_the_wrapped_net(net, images):
    evaluation = Evaluation(net.float(), 4, torch.device("cpu"))
    protocol = Protocol(images=5, explained=5, radii=(0.5, 2.0))
    found = one_pass.predictions(evaluation, images, protocol, 30.0)
    assert list(found) == ["own", "0.5", "2"] and all(len(hits) == 2 for hits in found.values())
    plain = (net(images.inputs()).argmax(1) == images.targets).tolist()
    assert found["own"][0] == plain
    gaps = one_pass.check(evaluation, images, protocol, 30.0)
    assert list(gaps) == list(BASELINES) and all(len(g) == 2 and max(g) < 1e-4 for g in gaps.values())


# --- rows and claims ---


def explained(
    method: str, baseline: str = "zero", radius: float = 0.0, *, ap: bool = False, **means: float
) -> Explained:
    noise = 0.01 * torch.randn(COUNT, 6, generator=generator(3))
    score = means.get("masks", 5.0)
    curve = means.get("curve", 0.5) + noise[:, 0] / 10
    return Explained(
        method,
        baseline,
        radius,
        [means.get("passes", 1.0)] * COUNT,
        [0.1] * COUNT,
        [means.get("gap", 0.0)] * COUNT,
        score + noise,
        curve,
        curve,
        means.get("ap", 0.5) + noise[:, 0] if ap else torch.empty(0),
    )


def result(net: Net = NET, *, ap: bool = False, wrapped: float = 0.0, **means: dict[str, float]) -> Result:
    names = (IXG, IG, OWN, "integrated_gradients_16")
    found = [explained(name, ap=ap, **means.get(name, {})) for name in names]
    found += [explained(name, "black", ap=ap) for name in ("integrated_gradients_32", OWN)]
    hits = {"own": [[True] * COUNT, [False] * COUNT], "1": [[True] * 20 + [False] * 20, [False] * COUNT]}
    gaps = {"zero": [0.0, wrapped], "black": [0.0]}
    return Result(net, Measurement(found, {"zero": [2.0] * COUNT, "black": [4.0] * COUNT}, hits, gaps), 1.0, {})


def outcomes(*results: Result) -> dict[str, Outcome]:
    return {f.claim.id: f.outcome for f in judge(one_pass.STUDY.claims, one_pass.rows(results))}


def one(rows: pd.DataFrame, **where: object) -> pd.Series:
    for column, value in where.items():
        rows = rows[rows[column] == value]
    assert len(rows) == 1
    return rows.iloc[0]


def test_equal_maps_confirm_every_claim():
    digits = replace(NET, model="alexnet", dataset="digits-on-photos", weights="trained")
    assert set(outcomes(result(), result(digits, ap=True)).values()) == {Outcome.REPRODUCED}
    assert {name for name, o in outcomes(result()).items() if o is Outcome.NOT_RUN} == {
        "one-pass-ap",
        "own-radius-ap",
        "few-steps-ap",
    }


@pytest.mark.parametrize(
    "claim, means",
    [
        ("own-radius-complete", {OWN: {"gap": 0.01}}),
        ("wrapped-is-ig", {"wrapped": 0.05}),
        ("one-pass-kpm", {IXG: {"masks": 4.0}}),
        ("one-pass-knm", {IXG: {"masks": 6.0}}),
        ("one-pass-insertion", {IXG: {"curve": 0.4}}),
        ("one-pass-deletion", {IXG: {"curve": 0.6}}),
        ("own-radius-ram", {OWN: {"masks": 9.0}}),
        ("few-steps-kpm", {"integrated_gradients_16": {"masks": 4.0}}),
    ],
)
def test_worse_maps_refute_it(claim, means):
    assert outcomes(result(**means))[claim] is Outcome.NOT_REPRODUCED


def test_a_gap_is_in_percent_of_the_mean_difference_of_logits():
    rows = one_pass.rows([result(**{OWN: {"gap": 0.01}})])
    assert one(rows, method=OWN, baseline="zero", metric="completeness_gap")["value"] == pytest.approx(0.5)


def test_differences_are_to_ig_from_the_same_baseline_and_to_input_x_gradient():
    rows = one_pass.rows([result(**{IG: {"masks": 7.0}, IXG: {"masks": 4.0}})])
    assert one(rows, method=OWN, against=IG, metric="kpm_difference")["value"] == pytest.approx(-2)
    assert one(rows, method=OWN, against=IXG, metric="kpm_difference", baseline="zero")["value"] == pytest.approx(1)
    black = rows[(rows["baseline"] == "black") & (rows["method"] == OWN)]
    assert set(black["against"]) == {"", "integrated_gradients_32"}
    assert rows[(rows["method"] == IG) & (rows["against"] == IG)].empty


def test_a_wrapped_nets_predictions_are_compared_with_the_nets():
    rows = one_pass.rows([result()])
    assert one(rows, method=OWN, metric="top1")["value"] == 100
    row = one(rows, method=FITTED, metric="top1_change")
    assert (row["value"], row["radius"], row["against"]) == (-50, 1.0, OWN)


def test_table_and_figure_are_drawn():
    digits = replace(NET, model="alexnet", dataset="digits-on-photos", weights="trained")
    results = [result(), result(digits, ap=True)]
    rows = one_pass.rows(results)
    table = one_pass.table(rows)
    assert len(table) == 2 * (6 + 1) and [c.heading for c in table.columns][:2] == ["passes", "KPM"]
    assert len(one_pass.figure(rows, results).axes) == 8
    assert set(CURVES) < set(rows["metric"])
