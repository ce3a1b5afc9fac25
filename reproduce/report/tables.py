"""Rows become tables: wide for people, long for programs; Markdown, CSV and LaTeX from one source."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from reproduce.report.figures import MODEL_LABEL, VARIANT_LABEL

DIGITS = 4  # significant digits of tracked CSVs: what is stable when the same run is repeated
LABELS = {"model": MODEL_LABEL, "variant": VARIANT_LABEL}


def number(value: float) -> str:
    """A number for people: at most one decimal above 10, three significant digits below, powers of ten where tiny."""
    if pd.isna(value):
        return ""
    if value == 0:
        return "0"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.1e}"


def entry(row: pd.Series, *, interval: bool = True) -> str:
    """``value [low, high]``; the interval only where there is one."""
    if not interval or row["low"] == row["high"] or pd.isna(row["low"]):
        return number(row["value"])
    return f"{number(row['value'])} [{number(row['low'])}, {number(row['high'])}]"


def wide(
    rows: pd.DataFrame, index: Sequence[str], columns: Mapping[str, str], *, intervals: bool = True
) -> pd.DataFrame:
    """One line per ``index``, one column per metric (name -> heading), entries as text; reported values beside measured ones.

    A metric without a row for a line gives an empty entry. ``attrs`` keeps what the page marks the best values by: the
    number of ids, and the better direction of each column.
    """
    lines = []
    better: dict[str, str] = {}
    for ids, group in rows.groupby(list(index), sort=False):
        line = {name: LABELS.get(name, {}).get(str(v), v) for name, v in zip(index, ids, strict=True)}
        for metric, heading in columns.items():
            found = group[group["metric"] == metric]
            line[heading] = entry(found.iloc[0], interval=intervals) if len(found) else ""
            if len(found) and "better" in found:
                better[heading] = str(found.iloc[0]["better"])
            if "reported" in rows and rows.loc[rows["metric"] == metric, "reported"].notna().any():
                line[f"{heading.split(' (')[0]} in the paper"] = number(found.iloc[0]["reported"]) if len(found) else ""
        lines.append(line)
    table = pd.DataFrame(lines)
    table.attrs |= {"ids": len(index), "better": better}
    return table


def record(table: pd.DataFrame) -> dict[str, Any]:
    """A table as JSON: columns, entries as text, how many columns are ids, and which direction of the others is better."""
    better = {heading: side for heading, side in table.attrs.get("better", {}).items() if heading in table}
    rows = [[str(entry) for entry in line] for line in table.itertuples(index=False)]
    return {
        "columns": [str(c) for c in table.columns],
        "ids": table.attrs.get("ids", 0),
        "better": better,
        "rows": rows,
    }


def write_csv(rows: pd.DataFrame, path: Path) -> None:
    """Long rows, numbers at DIGITS significant digits."""
    rows.to_csv(path, index=False, float_format=f"%.{DIGITS}g", lineterminator="\n")


def markdown(table: pd.DataFrame) -> str:
    """A table in GitHub's Markdown, entries as they are."""
    return table.to_markdown(index=False, disable_numparse=True)


def latex(table: pd.DataFrame) -> str:
    """A table with booktabs rules, special characters escaped."""
    return (
        table.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis=1).to_latex(hrules=True)
    )
