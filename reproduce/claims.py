"""Claims as data: what a paper says, what would count for it and against it, and what was found.

A claim selects rows of its study (``evidence``) and names the values that it allows (``criterion``). Each selected row is
supported, refuted or undecided by its interval; together they give one of three outcomes. The criteria are written down,
and committed, before the run that judges them.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import pandas as pd
import scipy

ALPHA = 0.05


class Kind(StrEnum):
    """What a failure of the claim would mean."""

    THEOREM = "theorem"  # rounding moved a map past a jump, or the code is broken
    EMPIRICAL = "empirical"  # the paper's finding does not carry over to these nets and data
    SPEED = "speed on this machine"


class Outcome(StrEnum):
    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    INCONCLUSIVE = "inconclusive"
    NOT_RUN = "not run"


class NotRun(Exception):
    """A claim's rows are not there at this scale; the message says what they need."""


@dataclass(frozen=True)
class Criterion:
    """The values that a claim allows: ``low`` to ``high``, in the unit of its metric.

    Attributes:
        margin: of practical equivalence. A difference that is smaller is none.
        smallest: the smallest effect that counts: an interval that does not reach ``low + smallest`` (or, where only
            ``high`` is given, ``high - smallest``) refutes the claim, also where it lies within low..high.
    """

    low: float = -math.inf
    high: float = math.inf
    margin: float = 0.0
    smallest: float = 0.0

    def judge(self, low: float, high: float) -> bool | None:
        """Does an estimate of ``low`` to ``high`` support the claim (True), refute it (False), or leave it open (None)?"""
        if math.isnan(low) or math.isnan(high):
            return None
        reaches = high >= self.low + self.smallest and low <= self.high - self.smallest
        if not reaches:
            return False
        return True if self.low <= low and high <= self.high else None


def better(margin: float) -> Criterion:
    """A difference above 0, and one that matters: an interval below ``margin`` refutes it."""
    return Criterion(low=0.0, margin=margin, smallest=margin)


def not_worse(margin: float) -> Criterion:
    """A difference above ``-margin``: the whole interval, not only a part of it."""
    return Criterion(low=-margin, margin=margin)


def at_least(value: float) -> Criterion:
    return Criterion(low=value)


def at_most(value: float) -> Criterion:
    return Criterion(high=value)


def between(low: float, high: float) -> Criterion:
    return Criterion(low=low, high=high)


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper that a study can confirm or not.

    Attributes:
        id: unique within the study; never changed, since results are compared by it.
        text: the claim in words that stand alone.
        kind: what its failure would mean.
        source: where the paper makes it.
        reported: the paper's values in words, with unit; "" where it gives none.
        metric: the rows' metric that decides it.
        criterion: the values that it allows.
        evidence: rows -> the rows that are held against the criterion. May raise NotRun.
        n_chosen: how the number of units was chosen.
        effect: the paper's effect in the unit of ``metric``; None where it gives none.
        every: must every row support it, or is one enough?
    """

    id: str
    text: str
    kind: Kind
    source: str
    reported: str
    metric: str
    criterion: Criterion
    evidence: Callable[[pd.DataFrame], pd.DataFrame]
    n_chosen: str
    effect: float | None = None
    every: bool = True


@dataclass(frozen=True)
class Finding:
    """A claim's outcome, with the rows that decided it.

    Attributes:
        says: of each row of ``evidence``: does it support the claim (True), refute it (False), or leave it open (None)?
        reason: why the claim was not run, or is left open.
    """

    claim: Claim
    outcome: Outcome
    evidence: pd.DataFrame
    says: tuple[bool | None, ...] = ()
    reason: str = ""


def judge(claims: Sequence[Claim], rows: pd.DataFrame) -> list[Finding]:
    """The findings of a study's claims, in their order; among the empirical ones Holm's correction holds."""
    return _correct([_judge(claim, rows) for claim in claims])


def select(rows: pd.DataFrame, **where: object) -> pd.DataFrame:
    """The rows with these values; NotRun where there are none."""
    for column, value in where.items():
        rows = rows[rows[column] == value] if column in rows else rows.iloc[:0]
    if rows.empty:
        asked = ", ".join(f"{column} {value}" for column, value in where.items())
        raise NotRun(f"nothing was measured at this scale with {asked}")
    return rows


def measured(rows: pd.DataFrame, **where: object) -> pd.DataFrame:
    """The same rows without intervals: for a theorem, which one number that was measured refutes, whatever its interval."""
    return select(rows, **where).assign(low=math.nan, high=math.nan)


def _judge(claim: Claim, rows: pd.DataFrame) -> Finding:
    try:
        evidence = claim.evidence(rows) if len(rows) else rows
    except NotRun as error:
        return Finding(claim, Outcome.NOT_RUN, rows.iloc[:0], reason=str(error))
    if evidence.empty:
        return Finding(claim, Outcome.NOT_RUN, evidence, reason="no rows")
    says = tuple(claim.criterion.judge(low, high) for low, high in _bounds(claim, evidence))
    supported, refuted = (all, any) if claim.every else (any, all)
    if supported(said is True for said in says):
        return Finding(claim, Outcome.REPRODUCED, evidence, says)
    if refuted(said is False for said in says):
        return Finding(claim, Outcome.NOT_REPRODUCED, evidence, says)
    open_ones = sum(said is None for said in says)
    reason = f"{open_ones} of {len(says)} intervals reach over the limit, or are missing"
    return Finding(claim, Outcome.INCONCLUSIVE, evidence, says, reason)


def _bounds(claim: Claim, evidence: pd.DataFrame) -> list[tuple[float, float]]:
    """Each row's interval.

    A theorem holds for each number that was measured, and a time is what it is on this machine: there a value without an
    interval counts itself. An empirical claim is about what was not measured, too, and needs one.
    """
    low, high = evidence["low"], evidence["high"]
    if claim.kind is not Kind.EMPIRICAL:
        low, high = low.fillna(evidence["value"]), high.fillna(evidence["value"])
    return list(zip(low, high, strict=True))


def _correct(findings: Sequence[Finding]) -> list[Finding]:
    """Holm's correction over the empirical claims: of many that are tested some would be supported by chance.

    A claim whose p-value is above its share of ALPHA is left open, and so is every one with a larger p-value.
    """
    family = sum(f.claim.kind is Kind.EMPIRICAL and f.outcome is not Outcome.NOT_RUN for f in findings)
    supported = [f for f in findings if f.claim.kind is Kind.EMPIRICAL and f.outcome is Outcome.REPRODUCED]
    left_open: set[str] = set()
    for place, finding in enumerate(sorted(supported, key=_p_value)):
        if left_open or _p_value(finding) > ALPHA / (family - place):
            left_open.add(finding.claim.id)
    reason = f"supported alone, but not after Holm's correction over the study's {family} empirical claims"
    return [replace(f, outcome=Outcome.INCONCLUSIVE, reason=reason) if f.claim.id in left_open else f for f in findings]


def _p_value(finding: Finding) -> float:
    """Of the claim's being supported by chance.

    That of its weakest row where every row must support it; where one is enough, that of the strongest times the number of
    rows (Bonferroni).
    """
    values = [_row_p_value(finding.claim.criterion, *row) for row in _numbers(finding.evidence)]
    return max(values) if finding.claim.every else min(1.0, len(values) * min(values))


def _numbers(evidence: pd.DataFrame) -> Iterable[tuple[float, float, float]]:
    return zip(evidence["value"], evidence["low"], evidence["high"], strict=True)


def _row_p_value(criterion: Criterion, value: float, low: float, high: float) -> float:
    """From the side of the row's 95 % interval that faces the criterion, taken as 1.96 standard errors; 1 without interval."""
    if math.isnan(low) or math.isnan(high):
        return 1.0
    quantile, errors = float(scipy.stats.norm.ppf(1 - ALPHA / 2)), [math.inf]
    for distance, half in ((value - criterion.low, value - low), (criterion.high - value, high - value)):
        if math.isfinite(distance):
            errors.append(quantile * distance / half if half > 0 else math.copysign(math.inf, distance))
    return float(scipy.stats.norm.sf(min(errors)))
