"""The two tables of MFABA: each protocol is another map, rankings and leads are those of the scores, and claims can fail."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from reproduce import mfaba_lines
from reproduce.claims import Kind, Outcome, judge
from reproduce.datasets.images import Images
from reproduce.experiment import Experiment
from reproduce.mfaba_lines import (
    ADDED,
    CORRECTED,
    DESCRIBED,
    FEWER,
    LINES,
    MFABA,
    MFABA_BATCH,
    OTHERS,
    REGULAR,
    RELEASED,
    Spaces,
)
from reproduce.nets import Net
from reproduce.rankings import kendall_tau, rank, resampled
from reproduce.studies import mfaba_table1, mfaba_table2
from reproduce.studies.mfaba_table1 import Explained, stand_in
from reproduce.studies.mfaba_table2 import EQUAL, RELEASED_BATCH, TIMED, Protocol, Timing
from reproduce.tasks import Result
from xdnn import agi, big, in_pixels, mfaba

NET = Net("torchvision_inception_v3", "regular", "imagenet-sample", 1.0, "torchvision", 0)
IMAGES = 40
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def one(rows: pd.DataFrame, **where: object) -> pd.Series:
    for column, value in where.items():
        rows = rows[rows[column] == value]
    assert len(rows) == 1
    return rows.iloc[0]


def outcomes(study, rows: pd.DataFrame) -> dict[str, Outcome]:
    return {finding.claim.id: finding.outcome for finding in judge(study.claims, rows)}


class OnCpu:
    device = CPU
    seed = 0


def experiment(about: Net, protocol: object) -> Experiment:
    return Experiment(OnCpu(), about, protocol, lambda share: None)


@pytest.fixture
def images() -> Images:
    pixels = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Images(pixels, torch.tensor([0, 3, 1, 4, 2, 0]), (0.5, 0.4, 0.3), (0.2, 0.3, 0.25), classes=5)


# --- the lines ---


def test_the_authors_batches_are_those_of_their_script():
    for kind in MFABA:
        assert LINES[f"{kind} {RELEASED}"].batch == MFABA_BATCH == 128 == RELEASED_BATCH[kind]
    assert LINES[f"agi {RELEASED}"].batch == 64 == RELEASED_BATCH["agi"] == RELEASED_BATCH["gradient"]
    assert {RELEASED_BATCH[m] for m in ("ig", "big", "smoothgrad", "deeplift")} == {4}


def test_the_released_methods_explain_the_label_but_agi():
    assert {line.method for line in LINES.values() if line.protocol == RELEASED and line.predicted} == {"agi"}
    assert all(line.predicted for line in LINES.values() if line.protocol in (CORRECTED, ADDED))


def test_a_line_in_pixels_is_the_method_in_pixels(net, images):
    model = net.float()
    spaces, inputs, targets = Spaces(model, images, CPU), images.inputs(), images.targets
    for key, method, options in (
        ("big released", big, {}),
        ("big corrected", big, {"protocol": CORRECTED}),
        ("agi described", agi, {"protocol": DESCRIBED}),
        ("mfaba_sharp released", mfaba, {"kind": "sharp"}),
        ("mfaba_smooth corrected", mfaba, {"kind": "smooth", "protocol": CORRECTED}),
    ):
        found = spaces.run(LINES[key], inputs, targets)
        found = getattr(found, "attributions", found)
        expected = in_pixels(method, images.mean, images.std)(model, inputs, targets, **options)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-7)


def test_every_method_of_the_paper_has_a_line_in_every_protocol():
    for method in (*OTHERS, *MFABA):
        for protocol in (RELEASED, DESCRIBED, CORRECTED):
            assert stand_in(method, protocol) in FEWER and set(FEWER) < set(REGULAR)


def test_smoothgrads_noise_is_a_share_of_the_pixels_range(net, images):
    model, pixels = net.float(), images.pixels[:2].float() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (images.mean, images.std))
    draws = torch.Generator().manual_seed(4)
    expected = torch.zeros_like(pixels)
    for _ in range(50):
        x = (pixels + 0.15 * torch.randn(pixels.shape, generator=draws)).requires_grad_()
        probability = model((x - mean) / std).softmax(1).gather(1, images.targets[:2, None]).sum()
        expected += torch.autograd.grad(probability, x)[0] / 50
    spaces, draws = Spaces(model, images, CPU), torch.Generator().manual_seed(4)
    found = spaces.run(mfaba_lines.SMOOTHGRAD, images.inputs(slice(2)), images.targets[:2], generator=draws)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-7)


# --- rankings ---


def test_ranks_and_tau_by_hand():
    assert [rank(place, np.array([0.3, 0.9, 0.5])) for place in range(3)] == [3, 1, 2]
    assert kendall_tau([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(2 / 3)
    assert kendall_tau([1, 2, 3], [3, 2, 1]) == -1


def test_a_ranking_that_chance_decides_has_a_wide_interval():
    draws = np.random.default_rng(0)
    apart = np.array([0.9, 0.5, 0.1])[:, None, None] + 0.01 * draws.standard_normal((3, 1, 30))
    level = 0.5 + 0.3 * draws.standard_normal((3, 1, 30))
    sure, unsure = (resampled(kendall_tau, apart, other) for other in (apart + 0.001, level))
    assert (sure.value, sure.low, sure.high, sure.n) == (1, 1, 1, 30)
    assert unsure.high - unsure.low > 1
    two = resampled(kendall_tau, np.repeat(apart, 2, 1), np.repeat(apart, 2, 1))
    assert (two.trainings, two.spread) == (2, 0)
    assert np.isnan(resampled(kendall_tau, apart[..., :3], apart[..., :3]).low)


# --- Table 1 ---


def explained(
    insertion: float, deletion: float, pixels: float | None = None, seed: int = 0, gap: float = 0.0
) -> Explained:
    """Flat curves whose areas are the values, with a little noise over images."""
    noise = 0.003 * torch.randn(IMAGES, 1, generator=torch.Generator().manual_seed(seed))

    def flat(value: float) -> Tensor:
        return (value + noise).expand(-1, 5)

    by_pixel = insertion if pixels is None else pixels
    curves = {
        "insertion": flat(insertion),
        "deletion": flat(deletion),
        "insertion_pixels": flat(by_pixel),
        "deletion_pixels": flat(deletion),
    }
    fall = [0.5] * IMAGES
    return Explained(curves, 3.0, 3.0, [2] * IMAGES, [True] * IMAGES, [f * (1 + gap) for f in fall], fall)


PAPER = {method: values for (model, method), values in mfaba_table1.REPORTED.items() if model == NET.model}


def result1(net: Net = NET, gap: float = 0.0, pixels: dict[str, float] | None = None, **changes: tuple[float, float]):
    """The paper's values in all protocols, unless ``changes`` ("big_corrected") says otherwise."""
    lines = {}
    for number, key in enumerate(FEWER):
        line = LINES[key]
        values = changes.get(f"{line.method}_{line.protocol}", PAPER.get(line.method, (0.1, 0.1)))
        lines[key] = explained(*values, pixels=(pixels or {}).get(line.method), seed=number + net.seed, gap=gap)
    return Result(net, mfaba_table1.Measurement(lines, {}), 1.0, {})


def elsewhere(**changes: tuple[float, float]):
    vgg = {f"{m}_{RELEASED}": v for (model, m), v in mfaba_table1.REPORTED.items() if model == "torchvision_vgg16"}
    return result1(replace(NET, model="torchvision_vgg16"), **(vgg | changes))


def test_the_papers_values_confirm_what_the_paper_says():
    rows = mfaba_table1.rows([result1(), elsewhere()])
    found = outcomes(mfaba_table1.STUDY, rows)
    assert found["insertion-inception"] == found["insertion-elsewhere"] == Outcome.REPRODUCED
    assert found["insertion-above-sm-and-ig"] == found["deletion-worst"] == Outcome.REPRODUCED
    assert found["more-faithful"] == Outcome.NOT_REPRODUCED  # by its own Table 1: AGI's difference is larger on VGG16
    assert found["complete-released"] == Outcome.REPRODUCED
    lead = one(rows, metric="insertion_lead", model=NET.model, protocol=RELEASED, against="best")
    assert lead["reason"].startswith("mfaba_sharp against") and lead["value"] == pytest.approx(
        0.5407 - 0.4840, abs=2e-3
    )
    assert one(rows, metric="insertion", model=NET.model, method="big", protocol=RELEASED)["reported"] == 0.4840
    assert pd.isna(one(rows, metric="insertion", model=NET.model, method="big", protocol=CORRECTED)["reported"])


@pytest.mark.parametrize(
    ("claim", "changes", "outcome"),
    [
        ("insertion-inception", {"ig_released": (0.7, 0.04)}, Outcome.NOT_REPRODUCED),
        ("insertion-inception", {"big_released": (0.5400, 0.05)}, Outcome.NOT_REPRODUCED),
        ("insertion-above-sm-and-ig", {"gradient_released": (0.6, 0.04)}, Outcome.NOT_REPRODUCED),
        ("deletion-worst", {"gradient_released": (0.2, 0.09)}, Outcome.NOT_REPRODUCED),
        ("more-faithful", {}, Outcome.REPRODUCED),
    ],
)
def test_other_values_refute_it(claim, changes, outcome):
    assert outcomes(mfaba_table1.STUDY, mfaba_table1.rows([result1(**changes)]))[claim] == outcome


def test_where_mfaba_wins_elsewhere_the_papers_other_finding_is_refuted():
    rows = mfaba_table1.rows([elsewhere(mfaba_sharp_released=(0.5, 0.04))])
    found = outcomes(mfaba_table1.STUDY, rows)
    assert found["insertion-elsewhere"] == Outcome.NOT_REPRODUCED and found["insertion-inception"] == Outcome.NOT_RUN


def test_sums_that_miss_the_fall_are_not_complete():
    rows = mfaba_table1.rows([result1(gap=0.3)])
    assert one(rows, metric="completeness_gap", method="mfaba_sharp", protocol=RELEASED)["value"] == pytest.approx(0.3)
    found = outcomes(mfaba_table1.STUDY, rows)
    assert found["complete-released"] == found["complete-described"] == Outcome.NOT_REPRODUCED


def test_a_protocol_can_turn_the_ranking_round():
    best_first = ["mfaba_sharp", "mfaba_smooth", "agi", "big", "ig", "gradient"]
    turned = {f"{m}_{CORRECTED}": (0.1 * (place + 1), 0.05) for place, m in enumerate(best_first) if m != "agi"}
    upright = {f"{m}_{RELEASED}": (0.6 - 0.1 * place, 0.05) for place, m in enumerate(best_first)}
    described = {"agi_described": (0.3, 0.05)}
    rows = mfaba_table1.rows([result1(**upright, **turned, **described)])
    assert one(rows, metric="rank", method="mfaba_sharp", protocol=RELEASED)["value"] == 1
    assert one(rows, metric="rank", method="mfaba_sharp", protocol=CORRECTED)["value"] == 6
    assert one(rows, metric="rank", method="gradient", protocol=DESCRIBED)["value"] == 6  # its released line stands in
    assert one(rows, metric="tau", against=CORRECTED)["value"] == pytest.approx(-1)
    found = outcomes(mfaba_table1.STUDY, rows)
    assert (
        found["ranking-corrected"] == Outcome.NOT_REPRODUCED and found["ranking-released-pixels"] == Outcome.REPRODUCED
    )
    assert one(rows, metric="tau", against="released_pixels")["value"] == pytest.approx(1)
    table = mfaba_table1.table(rows)
    assert "ranking" in {line.ids[-2] for line in table.lines}


def test_the_order_of_pixels_can_turn_it_round_too():
    by_pixel = {"gradient": 0.9, "ig": 0.8, "agi": 0.7, "big": 0.6, "mfaba_smooth": 0.5, "mfaba_sharp": 0.4}
    rows = mfaba_table1.rows([result1(pixels=by_pixel)])
    assert one(rows, metric="rank_pixels", method="gradient", protocol=RELEASED)["value"] == 1
    assert one(rows, metric="tau", against="released_pixels")["value"] < -0.7
    assert outcomes(mfaba_table1.STUDY, rows)["ranking-released-pixels"] == Outcome.NOT_REPRODUCED


@pytest.mark.parametrize(
    ("place", "outcome"), [(0.4, Outcome.REPRODUCED), (0.6, Outcome.REPRODUCED), (0.8, Outcome.NOT_REPRODUCED)]
)
def test_a_ranking_stays_where_one_pair_changes_places(place, outcome):
    """SM, last of six as released, comes to lie at its place, one before or two before it."""
    values = {m: (0.3 + 0.2 * i, 0.05) for i, m in enumerate(("ig", "big", "agi", "mfaba_smooth", "mfaba_sharp"), 1)}
    both = {f"{m}_{protocol}": v for m, v in values.items() for protocol in (RELEASED, DESCRIBED, CORRECTED)}
    rows = mfaba_table1.rows([result1(**both, gradient_released=(0.4, 0.05), gradient_corrected=(place, 0.05))])
    assert outcomes(mfaba_table1.STUDY, rows)["ranking-corrected"] == outcome
    assert outcomes(mfaba_table1.STUDY, rows)["ranking-described"] == Outcome.REPRODUCED


def test_several_trainings_share_a_row():
    results = [result1(replace(NET, weights="trained", seed=seed)) for seed in range(3)]
    row = one(mfaba_table1.rows(results), metric="insertion", method="big", protocol=RELEASED)
    assert row["trainings"] == 3 and row["n"] == IMAGES


def test_the_table_says_as_released_first():
    lines = mfaba_table1.table(mfaba_table1.rows([result1()])).lines
    protocols = [line.ids[-1] for line in lines if line.ids[-2] != "ranking"]
    assert list(dict.fromkeys(protocols)) == [RELEASED, DESCRIBED, CORRECTED, ADDED]


def test_measuring_tells_the_protocols_apart(net, images):
    protocol = mfaba_table1.Protocol(images=6, steps=4, lines=FEWER)
    about = replace(NET, model="alexnet", weights="untrained")
    found = mfaba_table1.measure(net.float(), images, protocol, experiment(about, protocol))
    assert set(found.lines) == set(FEWER) and not found.refused
    for key, one_line in found.lines.items():
        assert {tuple(c.shape) for c in one_line.curves.values()} == {(6, 5)}
        assert all(torch.isfinite(c).all() for c in one_line.curves.values())
        assert len(one_line.steps) == len(one_line.fall) == (6 if LINES[key].output else 0)
    assert found.lines["gradient released"].forward == found.lines["gradient released"].backward == 1
    assert found.lines["ig released"].forward == 50 and found.lines["big released"].forward == 101
    for kind in MFABA:
        line = found.lines[f"{kind} {RELEASED}"]
        assert line.forward == pytest.approx(np.mean(line.steps) + 1)
        assert np.isfinite(line.total).all()


def test_on_the_mean_colour_insertion_starts_from_the_net_s_zero(net, images):
    protocol = mfaba_table1.Protocol(
        images=6, steps=4, lines=("gradient released", "gradient corrected", "random added")
    )
    about = replace(NET, model="alexnet", weights="untrained")
    found = mfaba_table1.measure(net.float(), images, protocol, experiment(about, protocol)).lines
    inputs = images.first(6).inputs()
    with torch.no_grad():
        classes, zero = net.float()(inputs).argmax(1), net.float()(torch.zeros_like(inputs)).softmax(1)
    expected = zero.gather(1, classes[:, None])[:, 0]
    for key in ("gradient released", "random added"):
        torch.testing.assert_close(found[key].curves["insertion_mean_colour"][:, 0], expected)
        assert not torch.allclose(found[key].curves["insertion"][:, 0], expected)
    assert "insertion_mean_colour" not in found["gradient corrected"].curves
    rows = mfaba_table1.rows([Result(about, mfaba_table1.Measurement(found, {}), 1.0, {})])
    assert set(rows.query("metric == 'deletion_mean_colour'")["method"]) == {"gradient", "random"}


# --- Table 2 ---


def timing(line, seconds: float, batching: str = EQUAL, batch: int = 4, rounds: int = 5, wrong: str = "") -> Timing:
    times = [seconds * (1 + 0.001 * r) for r in range(rounds)]
    return Timing(line.method, line.protocol, batching, batch, times, [0.01] * rounds, 2.0, 2.0, wrong)


SECONDS = {"gradient": 0.01, "mfaba_sharp": 0.02, "mfaba_smooth": 0.03, "deeplift": 0.05, "agi": 4.0, "ig": 0.12}
SECONDS |= {"smoothgrad": 0.12, "big": 2.4}


def result2(net: Net = NET, wrong: str = "", **changes: float) -> Result:
    """``changes`` of a method, or of a method in one protocol ("agi_described")."""
    seconds = SECONDS | changes
    timings = [
        timing(
            line,
            seconds.get(f"{line.method}_{line.protocol}", seconds[line.method]),
            wrong=wrong if line.method == "big" else "",
        )
        for line in TIMED
    ]
    timings += [timing(line, seconds[line.method], RELEASED, 8) for line in TIMED if line.protocol == RELEASED]
    return Result(net, mfaba_table2.Measurement(timings, {}), 1.0, {})


def x_result(seconds: float) -> Result:
    timings = [timing(mfaba_table2.X_GRADIENT, seconds)]
    return Result(replace(NET, variant="x"), mfaba_table2.Measurement(timings, {}), 1.0, {})


def test_the_papers_speeds_confirm_its_claims():
    rows = mfaba_table2.rows([result2(), x_result(0.012)])
    assert set(outcomes(mfaba_table2.STUDY, rows).values()) == {Outcome.REPRODUCED}
    faster = one(rows, metric="times_big", batching=EQUAL)
    assert faster["reason"] == "mfaba_sharp" and faster["value"] == pytest.approx(120, rel=1e-6)
    assert faster["low"] < 120 < faster["high"] and faster["n"] == 5
    assert all(claim.kind is Kind.SPEED for claim in mfaba_table2.STUDY.claims)
    for claim in mfaba_table2.STUDY.claims:
        assert claim.effect is None or claim.criterion.judge(claim.effect, claim.effect), claim.id


@pytest.mark.parametrize(
    ("changes", "refuted"),
    [
        ({"big": 1.0}, "big"),
        ({"ig": 0.05}, "ig"),
        ({"ig": 0.272}, "ig"),  # 13.6 times is outside the window as well
        ({"agi": 0.1}, "agi"),
    ],
)
def test_other_speeds_refute_them(changes, refuted):
    found = outcomes(mfaba_table2.STUDY, mfaba_table2.rows([result2(**changes)]))
    no = {claim for claim, outcome in found.items() if outcome is Outcome.NOT_REPRODUCED}
    assert no == {f"{refuted}-{EQUAL}", f"{refuted}-{RELEASED}"}


def test_a_protocol_can_change_the_order_by_speed():
    """As released: AGI, BIG, IG, smooth, sharp from slow to fast. One pair may change places."""
    rows = mfaba_table2.rows([result2(agi_described=0.1, big_corrected=5.0)])
    assert one(rows, metric="rank", method="agi", protocol=RELEASED)["value"] == 5
    assert one(rows, metric="rank", method="agi", protocol=DESCRIBED)["value"] == 3
    assert one(rows, metric="rank", method="agi", protocol=CORRECTED)["value"] == 3  # its described path stands in
    assert one(rows, metric="tau", against=DESCRIBED)["value"] == pytest.approx(1 - 2 * 2 / 10)
    found = outcomes(mfaba_table2.STUDY, rows)
    assert found["ranking-described"] == found["ranking-corrected"] == Outcome.NOT_REPRODUCED
    rows = mfaba_table2.rows([result2(agi_described=1.0)])
    assert one(rows, metric="tau", against=CORRECTED)["value"] == pytest.approx(1 - 2 / 10)
    assert outcomes(mfaba_table2.STUDY, rows)["ranking-corrected"] == Outcome.REPRODUCED
    lines = mfaba_table2.table(rows).lines
    assert [line.ids[6] for line in lines if line.ids[5] == "ranking"] == [
        "released and described",
        "released and corrected",
    ]


def test_without_a_method_there_is_no_ranking():
    rows = mfaba_table2.rows([result2(wrong="attributions that are zero")])
    assert not rows["metric"].isin(("rank", "tau")).any()
    assert outcomes(mfaba_table2.STUDY, rows)["ranking-described"] == Outcome.NOT_RUN


def test_x_gradient_is_held_against_the_fastest_other():
    assert outcomes(mfaba_table2.STUDY, mfaba_table2.rows([result2(), x_result(0.03)]))["x-gradient-fastest"] == (
        Outcome.NOT_REPRODUCED
    )


def test_a_time_of_a_wrong_result_is_not_shown():
    rows = mfaba_table2.rows([result2(wrong="attributions that are zero")])
    refused = one(rows, metric="images_per_second", method="big", batching=EQUAL, protocol=RELEASED)
    assert np.isnan(refused["value"]) and refused["reason"] == "attributions that are zero"
    assert not len(rows[(rows["metric"] == "times_big") & (rows["batching"] == EQUAL)])
    entry = next(line for line in mfaba_table2.table(rows).lines if line.ids[5] == "BIG" and line.ids[7] == EQUAL)
    assert "not run: attributions that are zero" in entry.entries


def test_what_is_wrong_is_said():
    good, zero, nan = torch.ones(2, 3), torch.tensor([[1.0, 0, 0], [0, 0, 0]]), torch.tensor([[1.0], [torch.nan]])
    assert mfaba_table2.fault(good, good) == mfaba_table2.fault(good, None) == ""
    assert "zero" in mfaba_table2.fault(zero, None) and "not finite" in mfaba_table2.fault(nan, None)
    assert "differ by 0.5" in mfaba_table2.fault(good, 0.5 * good)


def test_each_method_is_warm_before_the_clock_starts(net, images, monkeypatch):
    """One call of each, and of BIG one of its seven searches; the clock then sees the calls of the rounds only."""
    timed: list[int] = []
    clock = mfaba_table2.clocked
    monkeypatch.setattr(mfaba_table2, "clocked", lambda call, device: timed.append(1) or clock(call, device))
    seen: list[str] = []
    run = Spaces.run

    def counted(self, line, *rest, **options):
        seen.append(line.key if "repeat_equal" not in options else f"{line.key}, one search")
        return run(self, line, *rest, **options)

    monkeypatch.setattr(Spaces, "run", counted)
    protocol = Protocol(images=4, rounds=1)
    found = mfaba_table2.measure(net.float(), images.first(4), protocol, experiment(NET, protocol))
    assert not any(t.wrong for t in found.timings), [t for t in found.timings if t.wrong]
    keys = [line.key for line in TIMED]
    assert [f"{t.method} {t.protocol}" for t in found.timings] == [k for k in keys if k not in found.refused]
    assert len(timed) == 2 * len(found.timings)  # the method and the plain gradient beside it
    assert seen.index("big released, one search") + 1 == seen.index("big released")
    passes = {f"{t.method} {t.protocol}": t.forward for t in found.timings}
    assert (passes["big released"], passes["ig released"], passes["smoothgrad released"]) == (407, 50, 50)


def test_the_authors_batches_need_their_number_of_images(net, images):
    few = mfaba_table2.rows([Result(NET, mfaba_table2.Measurement([timing(TIMED[1], 0.1)], {}), 1.0, {})])
    finding = next(f for f in judge(mfaba_table2.STUDY.claims, few) if f.claim.id == f"ig-{RELEASED}")
    assert finding.outcome is Outcome.NOT_RUN and "128 images" in finding.reason
