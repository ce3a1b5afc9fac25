"""What studies of attribution priors share for people: the table of paired differences, and panels of figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from reproduce.report import style
from reproduce.report.tables import Column, Line, Number, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHANCE = 0.5  # ROC-AUC


def label(method: str, references: float = 1) -> str:
    """A prior in words; that of EG with its number of references."""
    return style.method(f"{method}_{references:.0f}" if method == "expected_gradients" else method).label


def difference_table(tests: pd.DataFrame, ids: Sequence[str]) -> Table:
    """A line for each paired difference of test ROC-AUC, with its p-values; the last id says what is subtracted."""
    columns = (Column("difference of test ROC-AUC", "higher"), Column("p of Student's t"), Column("p of Wilcoxon"))
    lines = []
    for row in tests.to_dict("records"):
        about = (*(row.get(name) for name in ids[:-1]), f"minus {label(row['versus'])}")
        difference = Number(row["value"], row["low"], row["high"], row["n"])
        lines.append(Line(about, (difference, Number(row["p_t"]), Number(row["p_wilcoxon"]))))
    return Table(tuple(ids), columns, tuple(lines))


def repetitions_panel(ax: Axes, means: pd.DataFrame, samples: dict[str, list[float]]) -> None:
    """Every repetition's test ROC-AUC and the means; ``means`` is indexed by method, ``samples`` by method."""
    for place, (method, sample) in enumerate(reversed(samples.items())):
        look = style.method(method)
        ax.plot(sample, [place - 0.25] * len(sample), ls="", marker="|", ms=6, alpha=0.5, color=look.color)
        _point(ax, means.loc[method], place + 0.1, method)
    ax.axvline(CHANCE, color=style.GREY, lw=0.8, ls=":")
    ax.set_yticks(range(len(samples)), [label(method) for method in reversed(samples)])
    ax.set_xlabel("test ROC-AUC\n(bars: repetitions)")


def differences_panel(ax: Axes, tests: pd.DataFrame, names: Sequence[str], margin: float) -> None:
    """Paired differences with their intervals, each under its name; in the grey band they are less than ``margin``."""
    for place, (row, name) in enumerate(zip(reversed(tests.to_dict("records")), reversed(names), strict=True)):
        _point(ax, pd.Series(row), place, row["method"])
        ax.text(0.02, place + 0.2, name, transform=ax.get_yaxis_transform(), fontsize=6, va="bottom")
    ax.axvspan(-margin, margin, color=style.GREY, alpha=0.25, lw=0)
    ax.axvline(0, color=style.BLACK, lw=0.8)
    ax.locator_params(axis="x", nbins=4)  # labels of small differences are long
    ax.set(yticks=[], ylim=(-0.6, len(tests) - 0.1), title="paired differences")
    ax.set_xlabel(f"difference of test ROC-AUC\n(grey band: below {margin:g})")


def _point(ax: Axes, row: pd.Series, place: float, method: str) -> None:
    look = style.method(method)
    spread = [[row["value"] - row["low"]], [row["high"] - row["value"]]]
    ax.errorbar(row["value"], place, xerr=spread, marker=look.marker, ms=4, capsize=2, color=look.color)


def strengths_panel(ax: Axes, means: pd.DataFrame, plain: str) -> None:
    """Mean test ROC-AUC over the strength of each prior, and without one (``plain``)."""
    for method, line in means[means["strength"] > 0].groupby("method", sort=False):
        look, line = style.method(str(method)), line.sort_values("strength")
        ax.plot(line["strength"], line["value"], color=look.color, marker=look.marker, ms=3, label=label(str(method)))
    level = means.loc[means["method"] == plain, "value"].iloc[0]
    ax.axhline(level, color=style.method(plain).color, lw=0.8, ls="--", label=label(plain))
    ax.axhline(CHANCE, color=style.GREY, lw=0.8, ls=":")
    ax.set_xscale("log")
    ax.set(xlabel="strength of the prior", title="mean test ROC-AUC")
    ax.legend(loc="best")
