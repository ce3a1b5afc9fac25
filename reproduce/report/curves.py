"""Learning curves as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from reproduce.report import figures, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def learning_curves(log: Sequence[dict[str, Any]], title: str) -> Figure:
    """Loss (left, logarithmic) and accuracy in percent (right) over epochs; training dashed, validation solid."""
    rows = pd.DataFrame(log)
    fig, (left, right) = figures.subplots(1, 2)
    left.plot(rows["epoch"], rows["train_loss"], color=style.VERMILION, ls="--", label="training")
    left.plot(rows["epoch"], rows["val_loss"], color=style.BLUE, label="validation")
    left.set(title="Cross entropy (nats)", xlabel="epoch", yscale="log")
    for column, color, line, label in (
        ("train_top1", style.VERMILION, "--", "training, top-1"),
        ("val_top1", style.BLUE, "-", "validation, top-1"),
        ("val_top5", style.SKY, "-", "validation, top-5"),
    ):
        right.plot(rows["epoch"], rows[column], color=color, ls=line, label=label)
    right.set(title="Accuracy (%)", xlabel="epoch", ylim=(0, 100))
    left.legend()
    right.legend()
    fig.suptitle(title, fontsize=9)
    return fig
