"""What a study is: a protocol per scale, tasks that measure, rows with intervals, a table, a figure, and claims."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from reproduce.claims import Claim
from reproduce.report.tables import Table
from reproduce.tasks import Result, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from reproduce.context import Context

Results = Sequence[Result[Any, Any]]


def missing_groups(context: Context, protocols: Any) -> dict[str, str]:
    """Groups of nets that ``protocols`` selects and that are not there -> why."""
    reasons = {name: context.missing(name) for name in context.selected(protocols)}
    return {name: reason for name, reason in reasons.items() if reason}


@dataclass(frozen=True)
class Study:
    """One table or figure of a paper, in one file of ``studies/``; the file's name is the study's.

    Attributes:
        order: studies run and stand in the report in this order; what is quick and needs few trained nets comes first.
        question: what it asks, one sentence.
        source: paper and section.
        method: how it is measured, for the reader of the report.
        differs: what differs from the paper at the embedded scale, and why.
        protocols: scale -> the protocol of that scale; for studies of nets, selector -> protocol (``Context.nets``).
        tasks: (context, that scale's entry of ``protocols``) -> the tasks whose results the rows are made from.
        rows: results -> long rows: ids, metric, unit, better, value, low, high, n. Numbers and names only, no text.
        table: rows -> what people read.
        figure: (rows, results) -> the picture.
        slides: results -> what the page shows behind a slider: title, label, positions, and rows of name, image (frames
            side by side, ``figures.sprite``) and captions, one for each position.
        missing: (context, protocols) -> what of the scale's data or weights is not there -> why.
        name: how it is called on the command line; by default the name of its file, with dashes.
    """

    order: float
    title: str
    question: str
    source: str
    method: str
    differs: str
    protocols: Mapping[str, Any]
    tasks: Callable[[Context, Any], Sequence[Task[Any, Any]]]
    rows: Callable[[Any], pd.DataFrame]
    table: Callable[[pd.DataFrame], Table]
    figure: Callable[[pd.DataFrame, Any], Figure]
    claims: tuple[Claim, ...]
    slides: Callable[[Any], list[dict[str, Any]]] | None = None
    missing: Callable[[Context, Any], dict[str, str]] = missing_groups
    name: str = field(default="")

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.tasks.__module__.rpartition(".")[2].replace("_", "-"))
        ids = [claim.id for claim in self.claims]
        if len(set(ids)) < len(ids):
            raise ValueError(f"study {self.name} has two claims of one id: {ids}")

    def at(self, context: Context) -> list[Task[Any, Any]]:
        """The study's tasks at the context's scale; none where it is not run there."""
        protocols = self.protocols.get(context.scale.name)
        return list(self.tasks(context, protocols)) if protocols else []

    def missing_at(self, context: Context) -> dict[str, str]:
        """What it needs at the context's scale and is not there -> why."""
        protocols = self.protocols.get(context.scale.name)
        return self.missing(context, protocols) if protocols else {}
