"""The study of axioms: what methods are tried on, that NaN is refused, verdicts, and that each claim can come out either way."""

from dataclasses import replace

import pytest
import torch
from conftest import generator

from reproduce.axiom_rows import IG, MFABA, net_rows
from reproduce.axiom_subjects import Power, Setting, paper_functions, random_net
from reproduce.axiom_trials import BASELINES, CONTROLS, DECOMPOSITION, Trial, tried, try_methods
from reproduce.claims import Outcome, judge
from reproduce.errors import UserError
from reproduce.nets import Net
from reproduce.studies import axioms as study
from reproduce.studies.axioms import Drawn, Measurement
from reproduce.tasks import Result, no_progress
from xdnn import METHODS, Method, input_x_gradient, integrated_gradients
from xdnn.metrics.axioms import AXIOMS

SETTING = Setting()


@pytest.fixture(autouse=True)
def one_thread():
    """Nets this small spend their time handing work to a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- what is tried ---


def test_every_method_is_measured_or_says_why_not():
    found = try_methods(*random_net("x", 2, SETTING, generator()), METHODS, SETTING, no_progress)
    assert [trial.method for trial in found] == [DECOMPOSITION, *METHODS]
    assert all(trial.values or trial.reason for trial in found)
    assert all(len(values) == 2 for trial in found for values in trial.values.values())


def test_baselines_named_in_the_registry_are_known():
    assert {m.baseline for m in METHODS.values()} - {None} <= set(BASELINES)


def test_homogeneity_is_tried_with_a_factor_that_floats_round():
    numbers = torch.rand(1_000, generator=generator(), dtype=torch.float64)
    assert ((numbers * SETTING.factor) / SETTING.factor != numbers).any()


def test_captums_short_weights_are_found_and_ours_are_not():
    subject, references = random_net("regular", 8, SETTING, generator())
    shares = [
        tried(name, CONTROLS[name], subject, references, SETTING)["accounted"].mean().item()
        for name in ("ig_captum_trapezoid_50", "ig_trapezoid_50")
    ]
    assert shares[0] / shares[1] == pytest.approx(49 / 50, abs=1e-6)


def test_deep_lift_breaks_invariance_and_the_gradient_sensitivity_on_the_papers_functions():
    subject, references = paper_functions(30, SETTING, generator())
    lift = tried("deep_lift_captum", CONTROLS["deep_lift_captum"], subject, references, SETTING)
    assert lift["implementation"].max() > 0.1 and not lift["sensitivity_a"].any()
    assert tried("gradient", METHODS["gradient"], subject, references, SETTING)["sensitivity_a"].any()
    ig = tried(IG, METHODS[IG], subject, references, SETTING)
    assert max(ig[axiom].max() for axiom in AXIOMS if axiom not in ("completeness", "homogeneity")) < 1e-9


def test_a_method_that_gives_nan_is_an_error_and_not_a_method_that_keeps_everything():
    broken = Method(lambda net, inputs, targets: inputs * torch.nan, 0, "broken")
    subject, references = random_net("x", 2, SETTING, generator())
    with pytest.raises(UserError, match="broken gives attributions that are NaN or infinite"):
        try_methods(subject, references, {"broken": broken}, SETTING, no_progress)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_of_a_homogeneous_net_of_degree_k_ig_is_input_x_gradient_over_k(degree):
    for variant, equal in (("x", True), ("regular", False)):
        subject, _ = random_net(variant, 4, SETTING, generator())
        net = Power(subject.net, degree)
        reference = integrated_gradients(net, subject.inputs, subject.targets)
        ours = input_x_gradient(net, subject.inputs, subject.targets) / degree
        assert torch.allclose(reference, ours, rtol=1e-9, atol=1e-12) is equal
    subject, _ = random_net("x", 4, SETTING, generator())
    net, x = Power(subject.net, degree), subject.inputs
    torch.testing.assert_close(net(0.3 * x), 0.3**degree * net(x))


# --- rows ---

DRAWS = 40
NET = Net("alexnet", "x", "blobs", 1.0, "trained", 0)


def trial(method, changes=None):
    """Nothing is broken, and the sum accounts for all, but where ``changes`` says: axiom -> violations of each draw."""
    values = {axiom: [0.0] * DRAWS for axiom in AXIOMS}
    values |= {"accounted": [1.0, 2.0] * (DRAWS // 2), "change": [1.0, 2.0] * (DRAWS // 2)}
    return Trial(method, values | (changes or {}))


def of(rows, method, metric):
    found = [row for row in rows if (row["method"], row["metric"]) == (method, metric)]
    assert len(found) == 1
    return found[0]


def test_verdicts_are_by_dtype_and_completeness_is_by_its_gap_and_by_what_the_sum_accounts_for():
    changes = {"dummy": [1e-5] * DRAWS, "completeness": [0.04] * DRAWS}
    for dtype, verdict in (("float32", "holds"), ("float64", "violated")):
        rows = net_rows({"model": "a", "variant": "x", "dtype": dtype}, [[trial("gradient", changes)]])
        assert of(rows, "gradient", "dummy")["verdict"] == verdict
        assert of(rows, "gradient", "completeness")["verdict"] == "holds"
    short = changes | {"accounted": [0.98, 1.96] * (DRAWS // 2)}
    rows = net_rows({"model": "a", "variant": "x", "dtype": "float32"}, [[trial("gradient", short)]])
    assert of(rows, "gradient", "completeness")["verdict"] == "violated"
    share = of(rows, "gradient", "accounted")
    assert share["value"] == share["low"] == share["high"] == pytest.approx(0.98)  # a ratio: the draws' sizes cancel


def test_what_is_not_asked_and_what_does_not_apply_say_so():
    refused = Trial("x_gradient", {}, "not homogeneous")
    rows = net_rows({"model": "a", "variant": "regular", "dtype": "float32"}, [[trial("gradient"), refused]])
    assert of(rows, "gradient", "homogeneity")["verdict"].startswith("not asked")
    assert of(rows, "x_gradient", "dummy")["reason"] == "not homogeneous" and not of(rows, "x_gradient", "dummy")["n"]


def test_the_largest_violation_is_of_what_is_asserted_and_leaves_out_errors_of_quadrature():
    changes = {"completeness": [0.03] * DRAWS, "symmetry": [1e-8] * DRAWS, "homogeneity": [0.9] * DRAWS}
    rows = net_rows(
        {"model": "a", "variant": "x", "dtype": "float64"}, [[trial(IG, changes), trial("x_gradient", changes)]]
    )
    assert of(rows, IG, "largest_violation")["value"] == 1e-8
    assert of(rows, "x_gradient", "largest_violation")["value"] == pytest.approx(0.03)


def test_one_draw_in_which_an_axiom_is_broken_refutes_that_it_always_holds():
    one = {"sensitivity_a": [1.0] + [0.0] * (DRAWS - 1)}
    rows = net_rows({"model": "a", "variant": "x", "dtype": "float64"}, [[trial(MFABA[0], one), trial(MFABA[1])]])
    broken, kept = of(rows, MFABA[0], "sensitivity_a_broken"), of(rows, MFABA[1], "sensitivity_a_broken")
    assert broken["value"] == pytest.approx(100 / DRAWS) and broken["low"] > 0
    assert kept["value"] == kept["low"] == 0 < kept["high"]


# --- the study ---

SHORT = {"ig_captum_trapezoid_50": 0.98 * (1 - 1 / 98), "ig_trapezoid_50": 1 - 1 / 98, "idgi_128": 1 - 1 / 127}
TRIED = (IG, "x_gradient", "gradient", "deep_lift_captum", *MFABA, *SHORT)


def results(changes=None, powers=1e-15):
    """``changes``: (model's variant or "functions", method) -> axiom -> violations."""
    out = []
    for about, kind in (
        (Drawn("papers' functions", "regular"), "functions"),
        (Drawn("random CNN", "regular"), "regular"),
        (Drawn("random CNN", "x"), "x"),
        (NET, "x"),
        (replace(NET, variant="regular"), "regular"),
    ):
        trials = []
        for method in TRIED:
            found = {}
            if method in SHORT:
                share = SHORT[method] if kind == "x" else {"ig_captum_trapezoid_50": 0.98}.get(method, 1.0)
                found["accounted"] = [share, 2 * share] * (DRAWS // 2)
            if kind == "functions" and method in ("gradient", "deep_lift_captum"):
                found["sensitivity_a" if method == "gradient" else "implementation"] = [0.5] * 5 + [0.0] * (DRAWS - 5)
            trials.append(trial(method, found | (changes or {}).get((kind, method), {})))
        bias = 0.0 if kind == "x" else 0.4
        decomposed = {"completeness": [0.0] * DRAWS, "bias_share": [bias] * DRAWS}
        trials.append(Trial(DECOMPOSITION, decomposed | (changes or {}).get((kind, DECOMPOSITION), {})))
        measured = {k: [powers] * DRAWS for k in (1, 2)} if about == Drawn("random CNN", "x") else {}
        out.append(Result(about, Measurement(trials, measured), 1.0, {}))
    return out


def outcomes(*arguments, **options):
    return {f.claim.id: f.outcome for f in judge(study.STUDY.claims, study.rows(results(*arguments, **options)))}


def test_all_theorems_hold_where_nothing_is_broken_and_mfaba_is_left_open():
    found = outcomes()
    assert found.pop("mfaba-adheres") == Outcome.INCONCLUSIVE  # no number of draws confirms it
    assert set(found.values()) == {Outcome.REPRODUCED}


def spoilt(kind, method, axiom, value=0.01):
    return {(kind, method): {axiom: [value] * DRAWS}}


@pytest.mark.parametrize(
    ("claim", "changes"),
    [
        ("ig-axioms-float64", spoilt("functions", IG, "linearity", 1e-5)),
        ("ig-axioms-float32", spoilt("x", IG, "linearity")),
        ("ig-completeness", spoilt("regular", IG, "completeness", 0.06)),
        ("x-gradient-axioms-float64", spoilt("x", "x_gradient", "completeness")),
        ("x-gradient-homogeneous-float64", spoilt("x", "x_gradient", "homogeneity")),
        ("ig-homogeneous-float32", spoilt("x", IG, "homogeneity")),
        ("gradient-breaks-sensitivity", spoilt("functions", "gradient", "sensitivity_a", 0.0)),
        ("deep-lift-breaks-invariance", spoilt("functions", "deep_lift_captum", "implementation", 0.0)),
        ("mfaba-adheres", {("functions", MFABA[2]): {"sensitivity_a": [1.0, 1.0] + [0.0] * (DRAWS - 2)}}),
        ("full-gradient-complete-float32", spoilt("regular", DECOMPOSITION, "completeness")),
        ("x-has-no-bias-part", spoilt("x", DECOMPOSITION, "bias_share")),
        ("regular-has-a-bias-part", spoilt("regular", DECOMPOSITION, "bias_share", 0.0)),
        ("captum-is-short", spoilt("x", "ig_captum_trapezoid_50", "accounted", 1.0)),
        ("first-node-trapezoid", spoilt("x", "ig_trapezoid_50", "accounted", 1.0)),
        ("first-node-idgi", spoilt("x", "idgi_128", "accounted", 1.0)),
        ("no-node-at-zero", spoilt("x", IG, "accounted", 1.01)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_claim_fails_where_its_axiom_is_broken(claim, changes):
    assert outcomes(changes)[claim] == Outcome.NOT_REPRODUCED


def test_the_proposition_fails_where_ig_is_something_else():
    assert outcomes(powers=1e-3)["degree-k"] == Outcome.NOT_REPRODUCED


def test_a_table_and_a_figure_say_what_is_kept_and_what_is_broken():
    rows = study.rows(results(spoilt("x", IG, "linearity", 0.25)))
    shown = study.table(rows)
    lines = {line.ids: line.entries for line in shown.lines}
    place = [column.heading for column in shown.columns].index("linearity")
    assert lines[IG, "papers' functions"][place] == "kept, as is said"
    assert lines[IG, "X-nets"][place].value == 0.25 and lines[IG, "X-nets"][place].note == "broken, said to hold"
    words = [text.get_text() for ax in study.figure(rows, []).axes for text in ax.texts]
    assert words.count("broken\n0.25") == 1 and "kept" in words
