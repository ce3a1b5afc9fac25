"""Rows become tables: a line for each net or method, a column for each metric; numbers stay numbers until they are printed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from reproduce.report import style

DIGITS = 4  # significant digits in files: what is stable when the same run is repeated
ARROWS = {"higher": "↑", "lower": "↓"}
_ESCAPED = str.maketrans({"|": r"\|"})  # a bar would end the entry of a Markdown table


@dataclass(frozen=True)
class Number:
    """A measured number.

    Attributes:
        low, high: of its 95 % interval; NaN where it has none.
        n: independent units (images, repetitions) behind it.
        trainings: of the net that was measured.
        note: words that follow it, e.g. what a paper says of it.
        spread: standard deviation over the trainings; 0 where there is one.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    trainings: int = 1
    note: str = ""
    spread: float = 0.0


Entry = Number | str | None  # words where there is a reason instead of a number; None where there is nothing


@dataclass(frozen=True)
class Column:
    """A heading, and which direction of its numbers is better: "higher", "lower" or ""."""

    heading: str
    better: str = ""


@dataclass(frozen=True)
class Line:
    """One line: the values of the table's ids, as rows have them, and an entry for each of its columns."""

    ids: tuple[object, ...]
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Table:
    """What people read of a study's rows.

    Attributes:
        ids: names of the columns that say what a line is about, e.g. ("dataset", "model").
        intervals: are they printed? Kept they are in any case.

    Raises:
        ValueError: a line with more or fewer ids or entries than the table has.
    """

    ids: tuple[str, ...]
    columns: tuple[Column, ...]
    lines: tuple[Line, ...] = ()
    intervals: bool = True

    def __post_init__(self) -> None:
        for line in self.lines:
            if (len(line.ids), len(line.entries)) != (len(self.ids), len(self.columns)):
                raise ValueError(f"a line needs {len(self.ids)} ids and {len(self.columns)} entries, got {line}")

    def __len__(self) -> int:
        """Number of lines."""
        return len(self.lines)


# --- rows to tables ---


def wide(rows: pd.DataFrame, index: Sequence[str], columns: Mapping[str, str], *, intervals: bool = True) -> Table:
    """One line for each ``index``, one column for each metric; where rows have reported values, those stand beside ours.

    A line without a row of a metric has an empty entry there. A row without a value prints its ``reason``, if it has one.

    Args:
        rows:      long: the columns of ``index``, metric, value, low, high, n, better.
        index:     columns that say what a line is about.
        columns:   metric -> heading, without an arrow: that comes from ``better``.
        intervals: print them?

    Raises:
        ValueError: two rows for one entry: ``index`` does not tell them apart.
    """
    shown = rows[rows["metric"].isin(list(columns))]
    _refuse_two_for_one(shown, index)
    heads: list[tuple[str, bool, Column]] = []  # (metric, the reported value?, column)
    for metric, heading in columns.items():
        part = shown[shown["metric"] == metric]
        heads.append((metric, False, Column(heading, str(part["better"].iloc[0]) if len(part) else "")))
        if "reported" in part and part["reported"].notna().any():
            heads.append((metric, True, Column(f"{heading.split(' (')[0]} in the paper")))
    lines = []
    for ids, group in shown.groupby(list(index), sort=False, dropna=False):
        found = {row["metric"]: row for row in group.to_dict("records")}
        entries = tuple(_entry(found.get(metric), reported=reported) for metric, reported, _ in heads)
        lines.append(Line(tuple(ids), entries))
    return Table(tuple(index), tuple(column for _, _, column in heads), tuple(lines), intervals)


def _refuse_two_for_one(shown: pd.DataFrame, index: Sequence[str]) -> None:
    twice = shown[shown.duplicated([*index, "metric"])]
    if len(twice):
        entry = ", ".join(f"{name} {twice.iloc[0][name]}" for name in [*index, "metric"])
        raise ValueError(f"two rows for one entry: {entry}; add to index what tells them apart")


def _entry(row: Mapping[Any, Any] | None, *, reported: bool) -> Entry:
    if row is None:
        return None
    if reported:
        return None if pd.isna(row["reported"]) else Number(float(row["reported"]))
    if pd.isna(row["value"]):
        reason = row.get("reason")
        return f"not run: {reason}" if isinstance(reason, str) and reason else None
    return measured(row)


def measured(row: Mapping[Any, Any]) -> Number:
    """The number of a row, or of a claim's evidence, which leaves out what a row does not have."""
    value, low, high = (float(row.get(name, math.nan)) for name in ("value", "low", "high"))
    spread = row.get("spread", math.nan)
    deviation = 0.0 if pd.isna(spread) else float(spread)
    return Number(value, low, high, int(row.get("n", 0)), int(row.get("trainings", 1)), spread=deviation)


def stack(*tables: Table) -> Table:
    """Tables of the same ids as one, line after line; a column that one of them lacks is empty there.

    Raises:
        ValueError: different ids.
    """
    ids = {table.ids for table in tables}
    if len(ids) != 1:
        raise ValueError(f"tables of different ids cannot be stacked: {sorted(ids)}")
    columns = {column.heading: column for table in reversed(tables) for column in table.columns}
    ordered = dict.fromkeys(column.heading for table in tables for column in table.columns)
    lines = []
    for table in tables:
        places = {column.heading: place for place, column in enumerate(table.columns)}
        for line in table.lines:
            entries = (line.entries[places[heading]] if heading in places else None for heading in ordered)
            lines.append(Line(line.ids, tuple(entries)))
    return Table(ids.pop(), tuple(columns[h] for h in ordered), tuple(lines), any(table.intervals for table in tables))


def best(table: Table) -> set[tuple[int, int]]:
    """(line, column) of the entries that are best beyond doubt: their interval lies apart from that of each rival.

    Rivals are the lines that differ in the last id only, e.g. the variants of one net on one data set. An entry without an
    interval is never best, and keeps its rivals from being it.
    """
    groups: dict[tuple[object, ...], list[int]] = {}
    for i, line in enumerate(table.lines):
        groups.setdefault(line.ids[:-1], []).append(i)
    marks = set()
    for j, column in enumerate(table.columns):
        for rivals in groups.values() if column.better in ARROWS else ():
            side = 1 if column.better == "higher" else -1
            entries = {i: entry for i in rivals if isinstance(entry := table.lines[i].entries[j], Number)}
            if len(entries) < 2 or not all(_has_interval(entry) for entry in entries.values()):
                continue
            ends = {i: sorted((side * entry.low, side * entry.high)) for i, entry in entries.items()}
            first = max(ends, key=lambda i: ends[i][0])
            if all(ends[first][0] > ends[i][1] for i in ends if i != first):
                marks.add((first, j))
    return marks


def _has_interval(entry: Number) -> bool:
    return not math.isnan(entry.low) and entry.low != entry.high


# --- numbers to text ---


def number(value: float) -> str:
    """A number for people: at most one decimal above 10, three significant digits below, powers of ten where tiny."""
    if pd.isna(value):
        return ""
    if value == 0:
        return "0"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.1e}"


def interval(entry: Number) -> str:
    """``[low, high]``, and after it the standard deviation over trainings; "" where the number has neither."""
    parts = [f"[{number(entry.low)}, {number(entry.high)}]"] if _has_interval(entry) else []
    return " ".join([*parts, *([f"± {number(entry.spread)}"] if entry.spread else [])])


def words(entry: Entry, *, intervals: bool = True) -> str:
    """An entry as text."""
    if not isinstance(entry, Number):
        return entry or ""
    parts = [number(entry.value), interval(entry) if intervals else "", f"({entry.note})" if entry.note else ""]
    return " ".join(part for part in parts if part)


def labels(table: Table, line: Line) -> list[str]:
    """A line's ids in words."""
    return [style.text(name, value) for name, value in zip(table.ids, line.ids, strict=True)]


def legend(table: Table) -> str:
    """What the signs behind its numbers mean; "" where there are none."""
    numbers = [entry for line in table.lines for entry in line.entries if isinstance(entry, Number)]
    trainings = {entry.trainings for entry in numbers if entry.spread}
    if not trainings or not table.intervals:
        return ""
    count = " or ".join(map(str, sorted(trainings)))
    return f"In brackets the 95 % interval, behind ± the standard deviation over {count} trainings."


def heading(column: Column) -> str:
    """A column's heading with the arrow of the better direction."""
    return f"{column.heading} {ARROWS[column.better]}" if column.better in ARROWS else column.heading


def _as_text(table: Table) -> pd.DataFrame:
    heads = [*table.ids, *(heading(column) for column in table.columns)]
    entries = [[words(entry, intervals=table.intervals) for entry in line.entries] for line in table.lines]
    lines = [[*labels(table, line), *texts] for line, texts in zip(table.lines, entries, strict=True)]
    return pd.DataFrame(lines, columns=heads, dtype=str)


def markdown(table: Table | pd.DataFrame) -> str:
    """In GitHub's Markdown; "" of an empty table. A frame's entries are printed as they are."""
    text = _as_text(table) if isinstance(table, Table) else table.astype(str)
    if not len(text):
        return ""
    text = text.map(lambda entry: entry.translate(_ESCAPED)).rename(columns=lambda head: head.translate(_ESCAPED))
    return text.to_markdown(index=False, disable_numparse=True)


def latex(table: Table) -> str:
    """With booktabs rules, special characters escaped."""
    styler = _as_text(table).style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis=1)
    found = styler.to_latex(hrules=True)
    return found.replace("↑", r"$\uparrow$").replace("↓", r"$\downarrow$")


# --- files ---


def plain(value: object) -> Any:
    """A value as JSON has it: numbers at DIGITS significant digits, nothing for NaN, words for infinity."""
    if isinstance(value, str) or value is None:
        return value
    if pd.isna(value):
        return None
    if isinstance(value, bool | int):
        return value
    found = value.item() if hasattr(value, "item") else value  # numpy's numbers
    if not isinstance(found, float):
        return found
    return float(f"{found:.{DIGITS}g}") if math.isfinite(found) else str(found)


def record(table: Table) -> dict[str, Any]:
    """A table as JSON, numbers as numbers."""
    return {
        "ids": list(table.ids),
        "columns": [asdict(column) for column in table.columns],
        "intervals": table.intervals,
        "lines": [
            {"ids": [plain(value) for value in line.ids], "entries": [_entry_record(entry) for entry in line.entries]}
            for line in table.lines
        ],
    }


def _entry_record(entry: Entry) -> Any:
    if not isinstance(entry, Number):
        return entry
    defaults = {"low": None, "high": None, "n": 0, "trainings": 1, "note": "", "spread": 0.0}
    found = {name: plain(value) for name, value in asdict(entry).items()}
    return {name: value for name, value in found.items() if name not in defaults or value != defaults[name]}


def from_record(found: Mapping[str, Any]) -> Table:
    """The table that ``record`` wrote."""
    return Table(
        tuple(found["ids"]),
        tuple(Column(**column) for column in found["columns"]),
        tuple(Line(tuple(line["ids"]), tuple(_entry_of(e) for e in line["entries"])) for line in found["lines"]),
        found["intervals"],
    )


def _entry_of(found: Any) -> Entry:
    if not isinstance(found, dict):
        return found
    numbers = {name: float(found[name]) for name in ("value", "low", "high") if found.get(name) is not None}
    return Number(**({"value": math.nan} | {name: v for name, v in found.items() if v is not None} | numbers))


def write_csv(rows: pd.DataFrame, path: Path) -> None:
    """Long rows, numbers at DIGITS significant digits."""
    rows.to_csv(path, index=False, float_format=f"%.{DIGITS}g", lineterminator="\n")
