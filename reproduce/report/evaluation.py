"""What `evaluate` writes of a user's net: the long table, what has a value for people, and one HTML file."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from reproduce.errors import UserError
from reproduce.report import tables, web
from xdnn import METHODS, METRICS

COST = {"passes": "passes", "seconds": "seconds"}  # for an image


def write(
    folder: Path,
    rows: pd.DataFrame,
    net: str,
    about: str,
    warnings: Sequence[str] = (),
    *,
    interrupted: bool = False,
) -> list[Path]:
    """evaluation.csv, evaluation.md and evaluation.html of the rows of ``reproduce.evaluate``.

    Args:
        about:    what was measured on, a sentence.
        warnings: what makes the numbers say less than they seem to.

    Raises:
        UserError: the folder cannot be written.
    """
    table = for_people(rows)
    page = web.environment().get_template("evaluation.html")
    texts = {
        "evaluation.md": tables.markdown(table) + "\n",
        "evaluation.html": page.render(
            net=net,
            about=about,
            warnings=warnings,
            table=web.in_words(table) if len(table) else None,
            reasons=reasons(rows),
            interrupted=interrupted,
        ),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tables.write_csv(rows, folder / "evaluation.csv")
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}; choose another --output") from error
    return [folder / "evaluation.csv", *(folder / name for name in texts)]


def for_people(rows: pd.DataFrame) -> tables.Table:
    """A line for each method, a column for each metric that has a value of any, and what a method costs for an image."""
    found = rows[rows["reason"] == ""]
    first = rows[rows["passes"].notna()].drop_duplicates("method")  # a method that was refused has no cost
    costs = [
        first[["method"]].assign(
            metric=name, value=first[name], low=float("nan"), high=float("nan"), n=0, better="lower"
        )
        for name in COST
    ]
    headings = {name: _heading(name) for name in dict.fromkeys(found["metric"])} | COST
    columns = ["method", "metric", "value", "low", "high", "n", "better"]
    return tables.wide(pd.concat([found[columns], *(cost[columns] for cost in costs)]), ["method"], headings)


def _heading(name: str) -> str:
    """A metric's label with its unit."""
    metric = METRICS[name]
    return f"{metric.label} ({metric.unit})" if metric.unit else metric.label


def reasons(rows: pd.DataFrame) -> list[str]:
    """Why values are missing: a sentence for each reason, with its metrics and methods."""
    out = []
    for reason, part in rows[rows["reason"] != ""].groupby("reason", sort=False):
        metrics = ", ".join(METRICS[name].label for name in dict.fromkeys(part["metric"]))
        methods = ", ".join(METHODS[name].label for name in dict.fromkeys(part["method"]))
        out.append(f"not measured: {metrics} of {methods}: {reason}")
    return out
