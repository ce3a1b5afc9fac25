"""What a study is: cells that measure, rows with intervals, a table, a figure, and claims with a judge each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from reproduce.cells import Cell, Value
from reproduce.run import Run

REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"


class NotRun(Exception):
    """A claim's rows are not there at this scale; the message says what they need."""


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper that the study can confirm or not.

    Attributes:
        text: the claim, in words that a table can decide.
        source: where the paper makes it.
        reported: the paper's value, with unit; "" where it gives none.
        judge: rows -> (does it hold?, measured value in words). May raise NotRun.
    """

    text: str
    source: str
    reported: str
    judge: Callable[[pd.DataFrame], tuple[bool, str]]


@dataclass(frozen=True)
class Study:
    """One table or figure of a paper.

    Attributes:
        question: what it asks, one sentence.
        source: paper and section.
        protocol: how it is measured, for the reader of the report.
        differs: what differs from the paper at the embedded scale, and why.
        cells: run -> the cells whose values the rows are made from.
        rows: values -> long rows: ids, metric, unit, better, value, low, high, n.
        table: rows -> what people read.
        figure: (rows, values) -> the picture.
        slides: values -> what the page shows behind a slider: title, label, positions, and rows of name, image (frames
            side by side, ``figures.sprite``) and captions, one for each position.
    """

    name: str
    title: str
    question: str
    source: str
    protocol: str
    differs: str
    cells: Callable[[Run], list[Cell]]
    rows: Callable[[list[Value]], pd.DataFrame]
    table: Callable[[pd.DataFrame], pd.DataFrame]
    figure: Callable[[pd.DataFrame, list[Value]], Figure]
    claims: tuple[Claim, ...]
    slides: Callable[[list[Value]], list[dict[str, Any]]] | None = None


def select(rows: pd.DataFrame, **where: object) -> pd.DataFrame:
    """The rows with these values; NotRun where there are none, so that a claim about them is not judged."""
    for column, value in where.items():
        rows = rows[rows[column] == value] if column in rows else rows.iloc[:0]
    if rows.empty:
        raise NotRun("no rows with " + ", ".join(f"{k} = {v}" for k, v in where.items()))
    return rows
