"""What moved between two folders of results, beyond its interval."""

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reproduce.errors import UserError

MEASURED = ("value", "low", "high", "n", "reported", "unit", "better")  # every other column says what was measured
ROUNDING = 2e-3  # relative: CSVs keep four digits, and a value without an interval still rounds


@dataclass(frozen=True)
class Comparison:
    """Rows and claims of two folders.

    Attributes:
        moved: study, what, before, after: intervals that do not touch, or unequal values where there is no interval.
        claims: study, claim, before, after: verdicts that changed.
        rows: how many rows both folders have.
        only: sentences about studies and rows that one of the two lacks.
    """

    moved: pd.DataFrame
    claims: pd.DataFrame
    rows: int
    only: list[str]

    @property
    def same(self) -> bool:
        return self.moved.empty and self.claims.empty


def compare(before: Path, after: Path) -> Comparison:
    """Hold the studies of two folders of results against each other, row by row.

    A row moved where its two intervals do not overlap: a strict test, so what it names did move, and a smaller shift can
    go unnamed. Rows without an interval moved where they differ by more than rounding.

    Raises:
        UserError: a folder without results.
    """
    old, new = _studies(before), _studies(after)
    only = [f"{name}: only in {before}" for name in old if name not in new]
    only += [f"{name}: only in {after}" for name in new if name not in old]
    moved, count = [], 0
    claims = []
    for name in (name for name in old if name in new):
        a, b = _rows(before / f"{name}.csv"), _rows(after / f"{name}.csv")
        both = a.keys() & b.keys()
        count += len(both)
        if odd := len(a.keys() ^ b.keys()):
            only.append(f"{name}: {odd} rows are in one of the two only")
        moved += [
            {"study": name, "what": " ".join(key), "before": _words(a[key]), "after": _words(b[key])}
            for key in a
            if key in both and _apart(a[key], b[key])
        ]
        was = {claim["claim"]: claim["verdict"] for claim in old[name]}
        claims += [
            {"study": name, "claim": c["claim"], "before": was[c["claim"]], "after": c["verdict"]}
            for c in new[name]
            if c["claim"] in was and was[c["claim"]] != c["verdict"]
        ]
    columns = ["study", "what", "before", "after"]
    return Comparison(pd.DataFrame(moved, columns=columns), pd.DataFrame(claims), count, only)


def _studies(folder: Path) -> dict[str, list[dict[str, str]]]:
    """Study -> its claims."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    studies = {name: record["claims"] for name, record in found.items() if "claims" in record}
    if not studies:
        raise UserError(f"no results in {folder}; name a scale's folder, e.g. results/embedded")
    return studies


def _rows(path: Path) -> dict[tuple[str, ...], pd.Series]:
    """What was measured -> its row. Repeated keys (an id that is not in the file) are numbered in order."""
    try:
        rows = pd.read_csv(path, dtype={"seed": str})
    except pd.errors.EmptyDataError:
        return {}
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; make it again with `make {path.stem}`") from error
    ids = [column for column in rows if column not in MEASURED]
    out: dict[tuple[str, ...], pd.Series] = {}
    seen: dict[tuple[str, ...], int] = {}
    for _, row in rows.iterrows():
        key = tuple(str(row[column]) for column in ids if pd.notna(row[column]))
        seen[key] = seen.get(key, 0) + 1
        out[key if seen[key] == 1 else (*key, f"#{seen[key]}")] = row
    return out


def _apart(a: pd.Series, b: pd.Series) -> bool:
    if pd.isna(a["value"]) or pd.isna(b["value"]):
        return bool(pd.isna(a["value"]) != pd.isna(b["value"]))
    slack = ROUNDING * max(abs(a["value"]), abs(b["value"]))
    if any(pd.isna(row["low"]) or row["low"] == row["high"] for row in (a, b)):
        return bool(abs(a["value"] - b["value"]) > slack)
    return bool(a["low"] > b["high"] + slack or b["low"] > a["high"] + slack)


def _words(row: pd.Series) -> str:
    interval = "" if pd.isna(row["low"]) or row["low"] == row["high"] else f" [{row['low']:.4g}, {row['high']:.4g}]"
    return f"{row['value']:.4g}{interval}"
