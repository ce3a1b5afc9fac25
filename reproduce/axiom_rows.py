"""Rows of what was tried on the axioms: how large each violation is, whether that is rounding, and what the papers say."""

from collections.abc import Sequence
from typing import Any

from reproduce.axiom_trials import DECOMPOSITION, Trial
from reproduce.statistics import Interval, exact, mean_interval, ratio_interval, share_interval
from xdnn.metrics.axioms import AXIOMS

FUNCTIONS_MODEL, CNN_MODEL = "papers' functions", "random CNN"
TOLERANCE = {"float64": 1e-6, "float32": 1e-3}  # what counts as rounding
COMPLETE = 0.05  # mean completeness gap; IG paper Sec. 5 asks for 5 %
ACCOUNTED = 0.01  # what the sum over all draws may miss: errors of quadrature average out of it, short weights do not

# What the papers say of each method: axiom -> (does it hold?, where they say so).
_SIX = ("sensitivity_a", "dummy", "implementation", "completeness", "linearity", "symmetry")
MFABA = ("mfaba_sharp", "mfaba_sharp_described", "mfaba_smooth", "mfaba_smooth_described")
IG = "integrated_gradients_128"
ASSERTED: dict[tuple[str, str], tuple[bool, str]] = {
    **{(IG, axiom): (True, "IG paper Sec. 2 to 4") for axiom in _SIX},
    **{("x_gradient", axiom): (True, "X-DNN Cor. 3.4") for axiom in _SIX},
    **{(name, axiom): (True, "MFABA, abstract") for name in MFABA for axiom in ("sensitivity_a", "implementation")},
    ("gradient", "sensitivity_a"): (False, "IG paper Sec. 2.1"),
    ("gradient", "implementation"): (True, "IG paper Sec. 2.2"),
    ("deep_lift_captum", "sensitivity_a"): (True, "IG paper Sec. 2.1"),
    ("deep_lift_captum", "implementation"): (False, "IG paper Sec. 2.2"),
    (DECOMPOSITION, "completeness"): (True, "Srinivas & Fleuret 2019"),
}
QUADRATURE = (IG, "completeness")  # holds for the integral; with so many points up to COMPLETE
Trials = list[list[Trial]]  # of a method on one net: for each training, for each subject


def net_rows(ids: dict[str, Any], trainings: Sequence[list[Trial]]) -> list[dict[str, Any]]:
    """Rows of all methods on one net: each axiom, what the sum accounts for, and the largest violation of what is asserted.

    Args:
        ids:       that name the net; ``dtype`` decides what counts as rounding.
        trainings: what was tried on each training of the net, several subjects one after the other.
    """
    out = []
    shares: dict[str, Interval] = {}
    for method in dict.fromkeys(trial.method for trial in trainings[0]):
        trials = [[trial for trial in trained if trial.method == method] for trained in trainings]
        mine = [_row(ids, method, axiom, trials) for axiom in AXIOMS]
        if _samples(trials, "accounted"):
            shares[method] = ratio_interval(_samples(trials, "accounted"), _samples(trials, "change"))
            mine.append(_plain(ids, method, "accounted", shares[method]))
        if _samples(trials, "bias_share"):
            mine.append(_plain(ids, method, "bias_share", mean_interval(_samples(trials, "bias_share"))))
        asserted = [
            row for row in mine if row["asserted"] == "holds" and row["n"] and (method, row["metric"]) != QUADRATURE
        ]
        if asserted:
            largest = exact(max(row["value"] for row in asserted), min(row["n"] for row in asserted))
            mine.append(_plain(ids, method, "largest_violation", largest))
        out += mine + [_said(ids, row, trials) for row in mine if row["asserted"] and row["n"]]
    if {"ig_captum_trapezoid_50", "ig_trapezoid_50"} <= shares.keys():
        ratio = shares["ig_captum_trapezoid_50"].value / shares["ig_trapezoid_50"].value
        out.append(_plain(ids, "ig_captum_trapezoid_50", "accounted_ratio", exact(ratio, shares["ig_trapezoid_50"].n)))
    return out


def _said(ids: dict[str, Any], row: dict[str, Any], trials: Trials) -> dict[str, Any]:
    """What single draws say of an axiom that a paper speaks of.

    Is it said to hold, in how many draws it is broken: one refutes it. Is it said to fail, the largest violation: one shows it.
    """
    method, axiom = row["method"], row["metric"]
    violations = [value for sample in _samples(trials, axiom) for value in sample]
    if row["asserted"] == "fails":
        return _plain(ids, method, f"{axiom}_largest", exact(max(violations), len(violations)))
    share = share_interval([value > TOLERANCE[ids["dtype"]] for value in violations])
    in_percent = Interval(100 * share.value, 100 * share.low, 100 * share.high, share.n)
    return _plain(ids, method, f"{axiom}_broken", in_percent) | {"unit": "%"}


def _samples(trials: Trials, metric: str) -> list[list[float]]:
    """(trainings, inputs); [] where a training has none."""
    samples = [[value for trial in trained for value in trial.values.get(metric, [])] for trained in trials]
    return samples if all(samples) else []


def _plain(ids: dict[str, Any], method: str, metric: str, interval: Interval) -> dict[str, Any]:
    about = {"method": method, "metric": metric, "unit": "", "better": "lower", "asserted": "", "source": ""}
    return ids | about | interval.columns() | {"verdict": "", "reason": ""}


def _row(ids: dict[str, Any], method: str, axiom: str, trials: Trials) -> dict[str, Any]:
    asserted, source = ASSERTED.get((method, axiom), (None, ""))
    if asserted is False and ids["model"] != FUNCTIONS_MODEL:
        asserted, source = None, ""  # said of some function, not of every net
    said = {True: "holds", False: "fails", None: ""}[asserted]
    about = ids | {"method": method, "metric": axiom, "unit": "", "better": "lower", "asserted": said, "source": source}
    draws = _samples(trials, axiom)
    if not draws:
        nothing = {"value": None, "low": None, "high": None, "n": 0, "trainings": len(trials)}
        return about | nothing | {"verdict": "not applicable", "reason": _why(method, axiom, trials)}
    interval = mean_interval(draws)
    holds = interval.value <= (COMPLETE if axiom == "completeness" else TOLERANCE[ids["dtype"]])
    if axiom == "completeness" and _samples(trials, "accounted"):
        share = ratio_interval(_samples(trials, "accounted"), _samples(trials, "change"))
        holds &= abs(share.value - 1) <= ACCOUNTED or share.low <= 1 <= share.high
    verdict = "holds" if holds else "violated"
    if axiom == "homogeneity" and ids["variant"] == "regular":
        verdict = "not asked: the net is not homogeneous"
    return about | interval.columns() | {"verdict": verdict, "reason": ""}


def _why(method: str, axiom: str, trials: Trials) -> str:
    if reason := next((trial.reason for trained in trials for trial in trained if trial.reason), ""):
        return reason
    if method == DECOMPOSITION:
        return "parts of several shapes, not one attribution"
    if axiom == "completeness":
        return "names no baseline that its sum is relative to"
    return "its baseline is not the one input that differs in a single feature"
