"""Claims are decided by intervals: each criterion, the outcomes, what has no interval, and many claims at once."""

import math
from functools import partial

import pandas as pd
import pytest

from reproduce.claims import (
    Claim,
    Kind,
    NotRun,
    Outcome,
    at_least,
    at_most,
    better,
    between,
    judge,
    not_worse,
    select,
)

NAN = math.nan


def rows(*intervals, metric="gain"):
    """Rows from (low, high), or from a value alone, which has no interval."""
    out = []
    for number, bounds in enumerate(intervals):
        low, high = bounds if isinstance(bounds, tuple) else (NAN, NAN)
        value = (low + high) / 2 if isinstance(bounds, tuple) else bounds
        out.append({"model": f"m{number}", "metric": metric, "value": value, "low": low, "high": high, "n": 9})
    return pd.DataFrame(out)


def claim(criterion, *, kind=Kind.EMPIRICAL, every=True, metric="gain", name="c"):
    evidence = partial(select, metric=metric)
    return Claim(name, "It holds", kind, "X-DNN Sec. 1", "", metric, criterion, evidence, "enough", every=every)


def outcome(criterion, *intervals, **options):
    return judge([claim(criterion, **options)], rows(*intervals))[0].outcome


YES, NO, OPEN = Outcome.REPRODUCED, Outcome.NOT_REPRODUCED, Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    ("criterion", "interval", "expected"),
    [
        (at_least(20), (21, 30), YES),
        (at_least(20), (10, 19), NO),
        (at_least(20), (15, 25), OPEN),
        (at_most(0.1), (0.0, 0.09), YES),
        (at_most(0.1), (0.2, 0.3), NO),
        (at_most(0.1), (0.0, 0.2), OPEN),
        (between(4, 8), (5, 7), YES),
        (between(4, 8), (1, 3), NO),
        (between(4, 8), (9, 10), NO),
        (between(4, 8), (3, 5), OPEN),
        (between(4, 8), (3, 9), OPEN),
        (not_worse(1.5), (-1.0, 0.5), YES),  # the whole interval within the margin, below 0 or not
        (not_worse(1.5), (-3.0, -2.0), NO),
        (not_worse(1.5), (-2.0, 3.0), OPEN),  # a part of it is not enough
        (better(0.5), (0.1, 2.0), YES),
        (better(0.5), (-2.0, -0.1), NO),
        (better(0.5), (-0.1, 2.0), OPEN),
        (better(0.5), (0.1, 0.4), NO),  # more than nothing, but less than what counts
        (better(0.5), (-0.4, 0.4), NO),
    ],
)
def test_each_criterion_has_three_outcomes(criterion, interval, expected):
    assert outcome(criterion, interval) is expected


def test_every_row_must_support_a_claim_unless_one_is_enough():
    assert outcome(at_least(0), (1, 2), (3, 4)) is YES
    assert outcome(at_least(0), (1, 2), (-4, -3)) is NO
    assert outcome(at_least(0), (1, 2), (-1, 3)) is OPEN
    assert outcome(at_least(0), (1, 2), (-4, -3), every=False) is YES
    assert outcome(at_least(0), (-2, -1), (-4, -3), every=False) is NO
    assert outcome(at_least(0), (-2, 1), (-4, -3), every=False) is OPEN


def test_a_finding_says_what_each_row_says_and_why_it_is_open():
    finding = judge([claim(at_least(0))], rows((1, 2), (-1, 3), (-5, -4)))[0]
    assert finding.says == (True, None, False) and list(finding.evidence["model"]) == ["m0", "m1", "m2"]
    finding = judge([claim(at_least(0))], rows((1, 2), (-1, 3)))[0]
    assert finding.reason == "1 of 2 intervals reach over the limit, or are missing"


def test_a_number_without_an_interval_decides_a_theorem_or_a_time_and_leaves_an_empirical_claim_open():
    assert outcome(at_most(1), 0.5) is OPEN
    assert outcome(at_most(1), 0.5, kind=Kind.THEOREM) is YES
    assert outcome(at_most(1), 1.5, kind=Kind.THEOREM) is NO
    assert outcome(at_most(1), 0.5, kind=Kind.SPEED) is YES
    assert outcome(at_most(1), NAN, kind=Kind.THEOREM) is OPEN
    assert outcome(at_most(1), (0, 0.5), 0.5) is OPEN
    assert outcome(at_most(1), (0, 0.5), 0.5, every=False) is YES


def test_a_claim_without_rows_is_not_run_and_says_why():
    found = judge([claim(at_least(0), metric="loss")], rows((1, 2)))[0]
    assert (
        found.outcome is Outcome.NOT_RUN
        and found.reason == "nothing was measured at this scale with metric loss"
        and found.says == ()
    )
    assert judge([claim(at_least(0))], pd.DataFrame())[0].outcome is Outcome.NOT_RUN

    def refuse(found):
        raise NotRun("needs the released X-VGG16")

    asked = Claim("c", "It holds", Kind.EMPIRICAL, "X-DNN", "", "gain", at_least(0), refuse, "")
    assert judge([asked], rows((1, 2)))[0].reason == "needs the released X-VGG16"


def test_select_takes_the_rows_with_these_values():
    table = pd.DataFrame({"model": ["a", "a", "b"], "metric": ["x", "y", "x"]})
    assert list(select(table, metric="x")["model"]) == ["a", "b"]
    with pytest.raises(NotRun, match="method ig"):
        select(table, method="ig")


# --- many claims at once ---


def several(*lows, **options):
    """Claims ``gain_i >= 0``, each of one row with low end ``lows[i]`` and a standard error of 1 / 1.96."""
    table = pd.concat([rows((low, low + 2), metric=f"gain_{i}") for i, low in enumerate(lows)])
    claims = [claim(at_least(0), metric=f"gain_{i}", name=str(i), **options) for i in range(len(lows))]
    return judge(claims, table)


def test_one_claim_needs_no_correction():
    assert several(0.001)[0].outcome is YES


def test_many_claims_that_are_barely_supported_are_left_open():
    """Holm: the smallest of ten p-values has to be below 0.05 / 10, which is 2.58 standard errors, not 1.96."""
    barely = several(*[0.01] * 10)
    assert {finding.outcome for finding in barely} == {OPEN}
    assert all("Holm" in finding.reason and "10 empirical" in finding.reason for finding in barely)
    assert {finding.outcome for finding in several(*[0.5] * 10)} == {YES}  # 2.9 standard errors


def test_holm_goes_from_the_strongest_to_the_weakest_and_stops_at_the_first_that_fails():
    """p-values of three claims against 0.05 / 3, 0.05 / 2 and 0.05."""
    assert [f.outcome for f in several(0.01, 3, 2)] == [YES, YES, YES]  # the weakest is tested last, against 0.05
    assert [f.outcome for f in several(0.01, 0.02, 0.01)] == [OPEN, OPEN, OPEN]
    assert [f.outcome for f in several(-0.5, 0.01, 0.5)] == [OPEN, YES, YES]  # the first alone is open, and counts
    assert several(-0.5, 0.01, 0.5)[0].reason.startswith("1 of 1 intervals")


def test_theorems_and_times_are_not_corrected_and_do_not_count():
    theorems = several(*[0.01] * 10, kind=Kind.THEOREM)
    assert {finding.outcome for finding in theorems} == {YES}
    table = pd.concat([rows((0.01, 2.01)), rows((1, 2), metric="other")])
    both = judge([claim(at_least(0)), claim(at_least(0), metric="other", name="t", kind=Kind.THEOREM)], table)
    assert both[0].outcome is YES


def test_where_one_row_is_enough_the_number_of_rows_counts():
    one_of_many = judge([claim(at_least(0), every=False)], rows((0.01, 2.01), *[(-9, -8)] * 9))[0]
    assert one_of_many.outcome is OPEN and "Holm" in one_of_many.reason
    assert outcome(at_least(0), (3, 5), *[(-9, -8)] * 9, every=False) is YES


def test_the_p_value_is_that_of_the_side_that_faces_the_limit():
    """An interval that reaches far upwards is no weaker against a limit from below."""
    skewed = pd.concat([rows((1, 2)).assign(value=1.9, low=1.0, high=90.0, metric=f"gain_{i}") for i in range(10)])
    claims = [claim(at_least(0), metric=f"gain_{i}", name=str(i)) for i in range(10)]
    assert {finding.outcome for finding in judge(claims, skewed)} == {YES}
    assert {f.outcome for f in judge([claim(at_most(91), metric=c.metric, name=c.id) for c in claims], skewed)} == {
        OPEN
    }


def test_equal_values_are_certain():
    certain = pd.concat([rows((1.0, 1.0), metric=f"gain_{i}") for i in range(10)])
    claims = [claim(at_least(0), metric=f"gain_{i}", name=str(i)) for i in range(10)]
    assert {finding.outcome for finding in judge(claims, certain)} == {YES}
