"""What all figures share: their size, fonts and files. Labels and colours stand in ``style``."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMN_INCHES = 6.8  # a text column; the font sizes below are made for it
PANEL_INCHES = 2.5
DPI = 260  # a column is twice as wide in pixels as the page shows it, so that it is crisp on a fine screen
SETTINGS: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "savefig.dpi": DPI,
    "pdf.fonttype": 42,  # text stays text
    "svg.hashsalt": "reproduce",
}


def subplots(rows: int, columns: int, **options: Any) -> tuple[Figure, np.ndarray]:
    """A figure of one text column's width and its axes as a flat array.

    Args:
        options: of ``Figure.subplots``, and ``height`` in inches.
    """
    import matplotlib as mpl  # half a second to import, and whoever lists studies draws nothing
    from matplotlib.figure import Figure

    mpl.rcParams.update(SETTINGS)
    height = options.pop("height", PANEL_INCHES * rows)
    fig = Figure(figsize=(COLUMN_INCHES, height))
    return fig, np.atleast_1d(fig.subplots(rows, columns, **options)).ravel()


def face(variant: str, color: str) -> str:
    """What a mark is filled with: hollow on regular nets."""
    return "white" if variant == "regular" else color


def short(value: float) -> str:
    """A value beside its mark: one decimal, or a power of ten where it is tiny."""
    return f"{value:.1g}" if 0 < abs(value) < 0.05 else f"{value:.1f}"


def heatmap(attribution: np.ndarray) -> np.ndarray:
    """Attribution (C, H, W) as what is drawn: the sum over channels, scaled so that its 99th percentile of |.| is 1; (H, W)."""
    summed = attribution.sum(0)
    return summed / max(float(np.quantile(np.abs(summed), 0.99)), 1e-12)


def sprite(frames: np.ndarray, px: int = 112) -> str:
    """Frames (N, H, W) in -1..1, or (N, H, W, 3) uint8, side by side as one WebP data address, each ``px`` high at most."""
    import matplotlib as mpl

    if frames.ndim == 3:
        frames = (255 * mpl.colormaps["RdBu_r"]((np.clip(frames, -1, 1) + 1) / 2)[..., :3]).astype(np.uint8)
    image = Image.fromarray(np.concatenate(list(frames), axis=1))
    if image.height > px:
        image = image.resize((image.width * px // image.height // len(frames) * len(frames), px))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=90)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def save(fig: Figure, path: Path) -> None:
    """Write ``path`` as .png and .pdf without dates, so that the same numbers give the same bytes."""
    fig.savefig(path.with_suffix(".png"), metadata={"Software": None})
    fig.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None, "Producer": None, "Creator": None})
