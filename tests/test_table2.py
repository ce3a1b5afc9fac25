"""Table 2 on made-up scores: each of its claims can come out either way."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from conftest import generator

from reproduce.claims import Outcome, judge
from reproduce.maps import IG, Protocol, methods_for
from reproduce.nets import Net
from reproduce.studies import table2
from reproduce.tasks import Result
from xdnn import METHODS
from xdnn.metrics.masks import FRACTIONS

NET = Net("alexnet", "regular", "blobs", 1.0, "trained", 0)
BEST = torch.tensor([9.0, 1.0, 30.0, 1.0, 9.0, 5.0])  # KPM, KNM, KAM, RPM, RNM, RAM
POOR = torch.tensor([5.0, 5.0, 20.0, 5.0, 5.0, 10.0])
IMAGES = 40


def result(net: Net, noise: float = 0.1, **means: torch.Tensor) -> Result:
    """Every method has POOR scores unless said otherwise, with noise over images that most of is common to the methods."""
    common = noise * torch.randn(IMAGES, 6, generator=generator(net.seed))
    curves = {}
    for i, name in enumerate(methods_for(net.variant)):
        scores = means.get(name, POOR) + common + 0.01 * torch.randn(IMAGES, 6, generator=generator(100 + i))
        count = Protocol(IMAGES, ()).count(name, net.variant)
        curves[name] = (scores / (FRACTIONS[-1] - FRACTIONS[0]))[:count, :, None].expand(-1, -1, len(FRACTIONS))
    value = table2.Measurement(curves, [0.0, 1e-5], [True, False], [False, False])
    return Result(net, value, 1.0, {})


def variant(name: str, model: str = "alexnet") -> Net:
    return replace(NET, variant=name, model=model)


def outcomes(*results: Result) -> dict[str, Outcome]:
    rows = table2.rows(results)
    return {finding.claim.id: finding.outcome for finding in judge(table2.STUDY.claims, rows)}


def one(rows: pd.DataFrame, **where: object) -> pd.Series:
    for column, value in where.items():
        rows = rows[rows[column] == value]
    assert len(rows) == 1
    return rows.iloc[0]


def test_every_method_is_defined_on_its_net():
    assert methods_for("regular") == ("random", "gradient", "expected_gradients_1", "input_x_gradient", IG)
    assert methods_for("x") == ("random", "gradient", "expected_gradients_1", "x_gradient", IG)
    assert methods_for("wrapped") == methods_for("converted") == ("random", "x_gradient", IG)
    assert all(name in METHODS for name in methods_for("x", "alexnet"))


@pytest.mark.parametrize(
    "method, net, count",
    [(IG, "x", 9), (IG, "regular", 41), ("gradient", "x", 41), ("random", "x", 9), ("idgi_128", "x", 1)],
)
def test_what_only_confirms_is_run_on_fewer_images(method, net, count):
    assert Protocol(41, ()).count(method, net) == count


def test_the_papers_values_would_confirm_its_claims():
    claims = [claim for claim in table2.STUDY.claims if claim.effect is not None]
    assert len(claims) == 4 + 3 + 1 + 1
    assert {claim.id: claim.effect for claim in claims}["x-net-ram-loss"] == 0.56
    for claim in claims:
        assert claim.criterion.judge(claim.effect, claim.effect), claim.id


def test_scores_that_are_as_in_the_paper_confirm_its_claims():
    gradient = POOR.clone()
    gradient[5] = 4.0  # the best RAM
    found = outcomes(
        result(variant("regular"), **{IG: BEST}),
        result(variant("x"), **{IG: BEST, "x_gradient": BEST, "gradient": gradient}),
        result(variant("wrapped"), **{IG: BEST, "x_gradient": BEST}),
    )
    run = {name for name, outcome in found.items() if outcome is not Outcome.NOT_RUN}
    assert {name for name in run if name.endswith("-others")} == set()  # there are no other nets
    assert len(run) == len(found) - 4 - 3 - 1 - 3 * 4  # nor is the wrapped net an EfficientNet or a SqueezeNet
    assert all(found[name] is Outcome.REPRODUCED for name in run)


@pytest.mark.parametrize(
    "claim, means",
    [
        ("x-gradient-is-ig", {"x": {IG: BEST}}),
        ("regular-net-ig-kam", {"regular": {}}),
        ("regular-net-ig-ram", {"regular": {IG: BEST, "gradient": BEST - 1}}),
        ("x-net-x-gradient-kpm", {"x": {"x_gradient": BEST, "expected_gradients_1": BEST + 1}}),
        ("x-net-gradient-ram", {"x": {"x_gradient": BEST}}),
        ("x-net-ram-loss", {"regular": {IG: BEST}, "x": {"x_gradient": POOR}}),
    ],
)
def test_other_scores_refute_them(claim, means):
    found = outcomes(*(result(variant(name), **scores) for name, scores in means.items()))
    assert found[claim] is Outcome.NOT_REPRODUCED


def test_a_loss_within_its_margin_is_none_and_one_that_noise_hides_is_left_open():
    for loss, noise, outcome in ((0.5, 0.1, Outcome.REPRODUCED), (0.9, 1.0, Outcome.INCONCLUSIVE)):
        worse = BEST.clone()
        worse[5] += loss
        regular = result(replace(variant("regular"), seed=1), noise, **{IG: BEST})
        x_net = result(variant("x"), noise, x_gradient=worse)
        x_net = replace(x_net, about=replace(x_net.about, seed=1))  # of the same training, with noise of its own
        assert outcomes(regular, x_net)["x-net-ram-loss"] is outcome


def test_a_difference_is_paired_and_has_the_right_sign():
    rows = table2.rows([result(variant("x"), x_gradient=BEST)])
    row = one(rows, method="x_gradient", against="gradient", metric="kpm_difference")
    assert row["value"] == pytest.approx(4, abs=0.01) and row["high"] - row["low"] < 0.02 and row["n"] == IMAGES
    assert one(rows, method=IG, against="", metric="kpm")["n"] == 8


def test_the_best_rival_is_the_one_that_leaves_least():
    rows = table2.rows([result(variant("regular"), **{IG: BEST, "expected_gradients_1": (BEST + POOR) / 2})])
    assert one(rows, method=IG, metric="kpm_minus_best")["value"] == pytest.approx(2, abs=0.01)
    assert one(rows, method=IG, metric="knm_minus_best")["value"] == pytest.approx(-2, abs=0.01)


def test_trainings_are_rows_together_and_pair_with_those_of_the_regular_net():
    nets = [replace(variant(name), seed=seed) for name in ("regular", "x") for seed in range(3)]
    shift = {seed: torch.full((6,), float(seed)) for seed in range(3)}
    rows = table2.rows(
        [result(net, **{IG: BEST + shift[net.seed], "x_gradient": BEST + shift[net.seed]}) for net in nets]
    )
    mean = one(rows, variant="x", method="x_gradient", against="", metric="kpm")
    assert (mean["trainings"], mean["n"]) == (3, IMAGES) and mean["value"] == pytest.approx(10, abs=0.1)
    paired = one(rows, variant="x", against=f"regular {IG}", metric="kpm_difference")
    assert paired["value"] == pytest.approx(0, abs=0.01) and paired["high"] - paired["low"] < 0.1


def test_the_table_has_a_line_for_each_method_and_the_net_itself():
    table = table2.table(table2.rows([result(variant("regular")), result(variant("x"))]))
    assert len(table) == 2 * (5 + 1)
    assert [line.entries[0] for line in table.lines][:6] == ["8", "40", "40", "40", "40", "2"]


def test_a_converted_net_s_accuracy_is_that_on_images_it_has_not_learnt_from():
    """Of 100 photographs it has learnt from the last 50, and classifies only those rightly."""
    net = Net("squeezenet", "converted", "open-photographs", 1.0, "package", 0)
    learnt = [False] * 50 + [True] * 50
    found = result(net, x_gradient=BEST)
    found = replace(found, value=replace(found.value, top1=learnt, top1_contrast=learnt))
    row = one(table2.rows([found]), metric="top1")
    assert (row["value"], row["n"]) == (0, 50)
