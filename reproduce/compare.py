"""What differs between two folders of results by more than chance: rows paired by their ids, claims by theirs.

Each pair of rows is tested. One training against several: does the value lie within the range of the several,
value +- t * spread * sqrt(1 + 1/T)? That is what a second machine must see, and is called inside. Otherwise: is the
difference of two independent means zero, by both intervals? A results folder keeps no values of single images, so the
same images on both sides are not paired, and the test then errs towards finding no difference.

Among thousands of rows one in twenty lies outside its 95 % range by chance alone, so a row has moved only where Benjamini and
Hochberg's correction over all rows leaves it so: of the rows that are said to have moved, one in twenty has not.

Whether one training is inside as often as is promised is seen in the several themselves: each in turn is left out and held
against the others (``leave_one_out``).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import scipy

from reproduce.claims import ALPHA, Kind, Outcome
from reproduce.errors import UserError
from reproduce.records import ALL, read_records
from reproduce.statistics import CONFIDENCE, Interval

NUMBERS = tuple(field.name for field in fields(Interval))
# What rows say of a measured number besides its interval. Every other column is an id.
WORDS = ("unit", "better", "reported", "reason", "verdict", "chosen", "sem", "p_t", "p_wilcoxon")
TIME_UNITS = ("s", "ms", "1/s")
Key = tuple[tuple[str, str], ...]  # the ids of a row that are not empty, each with its column
ROUNDING = 2e-3  # relative: CSVs keep four digits


class Row(NamedTuple):
    """One number of a study's CSV."""

    value: float
    low: float
    high: float
    trainings: int
    spread: float

    def __str__(self) -> str:
        if math.isnan(self.low) or self.low == self.high:
            return f"{self.value:.4g}"
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


@dataclass(frozen=True)
class LeftOut:
    """Trainings held against the others of their folder: ``inside`` of the ``tested`` rows; 0 of 0 below three trainings."""

    inside: int = 0
    tested: int = 0


@dataclass(frozen=True)
class Comparison:
    """Rows and claims of two folders.

    Attributes:
        rows: study, what (the ids), before, after, p (of the test), status:

            inside   within its 95 % range
            outside  outside of it, as one in twenty is by chance
            moved    outside of it, and by more than chance
            differs  another value without an interval, so that nothing can be tested
            time     holds for the machine that it was measured on, and is not compared

        claims: claim (its id), kind, before, after: outcomes that changed.
        only: sentences about studies and rows that cannot be paired.
        left_out: of the folder before, how often one of its trainings is inside of the range of the others.
    """

    rows: pd.DataFrame
    claims: pd.DataFrame
    only: list[str]
    left_out: "LeftOut"

    def count(self, status: str) -> int:
        return int((self.rows["status"] == status).sum())

    @property
    def contradictions(self) -> pd.DataFrame:
        """Claims that are reproduced on one side and not reproduced on the other; speed is the machine's."""
        decided = {str(Outcome.REPRODUCED), str(Outcome.NOT_REPRODUCED)}
        both = self.claims["before"].isin(decided) & self.claims["after"].isin(decided)
        return self.claims[both & (self.claims["kind"] != str(Kind.SPEED))]

    @property
    def same(self) -> bool:
        """Has nothing moved, and no claim been contradicted?"""
        return self.count("moved") == 0 and self.contradictions.empty


def compare(before: Path, after: Path) -> Comparison:
    """Hold the studies of two folders of results against each other.

    Raises:
        UserError: a folder without results, or a file that is missing or broken.
    """
    old, new = read_records(before), read_records(after)
    only = [f"{name}: only in {before}" for name in old if name not in new]
    only += [f"{name}: only in {after}" for name in new if name not in old]
    found: list[dict[str, Any]] = []
    claims: list[dict[str, str]] = []
    for name in (name for name in old if name in new):
        times = _speed_metrics(old[name]) | _speed_metrics(new[name])
        a, b = (_rows(folder / f"{name}.csv", times, only) for folder in (before, after))
        if odd := len(a.keys() ^ b.keys()):
            only.append(f"{name}: {odd} rows are in one of the two only")
        for key in (key for key in a if key in b):
            found.append({"study": name, "what": " ".join(value for _, value in key), **_pair(*a[key], *b[key])})
        claims += _changed(old[name]["claims"], new[name]["claims"])
    rows = pd.DataFrame(found, columns=["study", "what", "before", "after", "p", "status"])
    outcomes = pd.DataFrame(claims, columns=["claim", "kind", "before", "after"])
    return Comparison(_corrected(rows), outcomes, only, leave_one_out(before))


def leave_one_out(folder: Path) -> LeftOut:
    """How often one training lies within the 95 % range of the others, over all rows that have three trainings or more.

    About 95 % keep the promise that a second machine must see the published range. Times are left out; rows of one net are
    not independent of each other.
    """
    inside = tested = 0
    for name, record in read_records(folder).items():
        table = _read(folder / f"{name}.csv")
        if "training" not in table or table.empty:
            continue
        ids = [column for column in table if column not in NUMBERS and column not in WORDS and column != "training"]
        of_one = table[(table["training"] != ALL) & ~table["metric"].isin(_speed_metrics(record))]
        if "unit" in of_one:
            of_one = of_one[~of_one["unit"].isin(TIME_UNITS)]
        for _, group in of_one.groupby(ids, sort=False):
            found = [_inside_of_others(values) for values in _each_and_the_others(pd.to_numeric(group["value"]))]
            inside, tested = inside + found.count(True), tested + found.count(True) + found.count(False)
    return LeftOut(inside, tested)


def _each_and_the_others(values: "pd.Series[float]") -> list[tuple[float, "pd.Series[float]"]]:
    """Each value with those of the other trainings; nothing below three trainings."""
    return [(values.iloc[i], values.drop(values.index[i])) for i in range(len(values))] if len(values) > 2 else []


def _inside_of_others(pair: tuple[float, "pd.Series[float]"]) -> bool | None:
    """None where the others do not vary, so that they have no range, and the one is not their value."""
    one, others = pair
    of_others = Row(float(others.mean()), math.nan, math.nan, len(others), float(others.std(ddof=1)))
    p = difference_p(of_others, Row(float(one), math.nan, math.nan, 1, math.nan))
    return None if math.isnan(p) else p >= ALPHA


def difference_p(before: Row, after: Row) -> float:
    """Two-sided p-value of the hypothesis that both estimate the same number; NaN where nothing says how far they vary."""
    if math.isnan(before.value) and math.isnan(after.value):
        return 1.0
    distance = abs(before.value - after.value)
    if distance <= ROUNDING * max(abs(before.value), abs(after.value)):
        return 1.0
    one, several = sorted((before, after), key=lambda row: row.trainings)
    if one.trainings == 1 < several.trainings and several.spread > 0:
        error = several.spread * math.sqrt(1 + 1 / several.trainings)
        return float(2 * scipy.stats.t.sf(distance / error, several.trainings - 1))
    errors = [_standard_error(before, after.value), _standard_error(after, before.value)]
    if any(map(math.isnan, errors)):
        return math.nan
    error = math.hypot(*errors)
    return float(2 * scipy.stats.norm.sf(distance / error)) if error else 0.0


def _standard_error(row: Row, other: float) -> float:
    """From the half of the interval that faces the other value."""
    half = row.high - row.value if other > row.value else row.value - row.low
    return half / float(scipy.stats.norm.ppf((1 + CONFIDENCE) / 2))


def _pair(before: Row, is_time: bool, after: Row, _: bool) -> dict[str, Any]:
    if is_time:
        return {"before": str(before), "after": str(after), "p": math.nan, "status": "time"}
    p = difference_p(before, after)
    status = "differs" if math.isnan(p) else "outside" if p < ALPHA else "inside"
    return {"before": str(before), "after": str(after), "p": p, "status": status}


def _corrected(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that are outside of their range by more than chance are called moved."""
    tested = rows["p"].notna()
    if not tested.any():
        return rows
    adjusted = pd.Series(scipy.stats.false_discovery_control(rows.loc[tested, "p"]), index=rows.index[tested])
    moved = adjusted.reindex(rows.index) < ALPHA
    return rows.assign(status=rows["status"].mask(moved, "moved"))


def _speed_metrics(record: Mapping[str, Any]) -> set[str]:
    """Metrics that claims about speed are made of."""
    return {str(claim.get("metric")) for claim in record["claims"] if claim.get("kind") == str(Kind.SPEED)}


def _rows(path: Path, times: set[str], only: list[str]) -> dict[Key, tuple[Row, bool]]:
    """Ids -> the row over all trainings, and whether it is a time. Rows that have the same ids are left out, and said."""
    table = _read(path)
    if "training" in table:
        table = table[table["training"] == ALL].drop(columns="training")
    ids = [column for column in table if column not in NUMBERS and column not in WORDS]
    repeated = table.duplicated(ids, keep=False)
    if repeated.any():
        only.append(f"{path}: {int(repeated.sum())} rows are not told apart by their ids")
    out = {}
    for line in table[~repeated].to_dict("records"):
        key = tuple((column, line[column]) for column in ids if line[column])
        try:
            out[key] = (_row(line), line.get("unit") in TIME_UNITS or line["metric"] in times)
        except ValueError as error:
            raise UserError(
                f"{path} has no number where one should be ({error}); make it again with `make {path.stem}`"
            ) from error
    return out


def _read(path: Path) -> pd.DataFrame:
    """A study's CSV, all as text; without rows where the study has none."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except pd.errors.EmptyDataError:
        return pd.DataFrame(columns=["metric", *NUMBERS])
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; make it again with `make {path.stem}`") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); make it again with `make {path.stem}`") from error
    missing = {"value", "low", "high", "metric"} - set(table)
    if missing:
        raise UserError(f"{path} has no column {', '.join(sorted(missing))}; make it again with `make {path.stem}`")
    return table


def _row(line: Mapping[str, str]) -> Row:
    value, low, high, spread = (float(line.get(name) or "nan") for name in ("value", "low", "high", "spread"))
    return Row(value, low, high, int(line.get("trainings") or 1), spread)


def _changed(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[dict[str, str]]:
    was = {claim["id"]: claim["outcome"] for claim in before}
    return [
        {"claim": c["id"], "kind": c["kind"], "before": was[c["id"]], "after": c["outcome"]}
        for c in after
        if c["id"] in was and was[c["id"]] != c["outcome"]
    ]
