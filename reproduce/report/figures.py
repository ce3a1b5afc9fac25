"""One style for all figures: a method keeps its colour everywhere, regular nets are dashed and X-nets solid."""

import base64
import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

# Okabe & Ito's palette: told apart by colour-blind readers and in grey.
BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, YELLOW, BLACK = (
    "#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#f0e442", "#000000",
)  # fmt: skip
VARIANT_LABEL = {"regular": "regular", "x": "X-variant", "wrapped": "wrapped"}
MODEL_LABEL = {
    "alexnet": "AlexNet",
    "vgg16": "VGG16",
    "resnet50": "ResNet-50",
    "efficientnet_lite0": "EfficientNet-Lite0",
    "torchvision_alexnet": "AlexNet (torchvision)",
    "torchvision_vgg16": "VGG16 (torchvision)",
    "torchvision_resnet50": "ResNet-50 (torchvision)",
    "torchvision_inception_v3": "Inception-v3 (torchvision)",
}
DATASET_LABEL = {"cifar10": "CIFAR-10"}  # nets of other data sets need no saying: one scale has them on one data set
STYLE: dict[Any, Any] = {
    "font.size": 8, "axes.titlesize": 9, "axes.labelsize": 8, "legend.fontsize": 7, "xtick.labelsize": 7, "ytick.labelsize": 7,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e5e5e5", "grid.linewidth": 0.6,
    "axes.axisbelow": True, "legend.frameon": False, "figure.constrained_layout.use": True, "savefig.dpi": 160,
    "pdf.fonttype": 42, "svg.hashsalt": "reproduce",
}  # fmt: skip
COLUMN_INCHES = 6.8  # a text column; fonts above are sized for it
PANEL_INCHES = 2.5


def net_label(model: str, dataset: str) -> str:
    """A net as figures and claims name it: with its data set where a scale has the same architecture on two."""
    name = MODEL_LABEL.get(model, model)
    return f"{name}, {DATASET_LABEL[dataset]}" if dataset in DATASET_LABEL else name


def subplots(rows: int, columns: int, **options: Any) -> tuple[Figure, np.ndarray]:
    """A figure of one text column's width and its axes as a flat array."""
    mpl.rcParams.update(STYLE)
    height = options.pop("height", PANEL_INCHES * rows)
    fig = Figure(figsize=(COLUMN_INCHES, height))
    return fig, np.atleast_1d(fig.subplots(rows, columns, **options)).ravel()


def variant_line(variant: str) -> dict[str, Any]:
    """Line style of a variant: regular dashed, X solid."""
    return {"color": VERMILION, "ls": "--"} if variant == "regular" else {"color": BLUE, "ls": "-"}


def variant_bar(variant: str) -> dict[str, Any]:
    """Bar style of a variant: regular hollow, X filled, wrapped lighter."""
    look = {"capsize": 2, "error_kw": {"lw": 0.8}}
    if variant == "regular":
        return look | {"facecolor": "white", "edgecolor": VERMILION, "hatch": "///"}
    return look | {"facecolor": SKY if variant == "wrapped" else BLUE, "edgecolor": BLUE}


def short(value: float) -> str:
    """A value above a bar: three digits, or a power of ten where it is tiny."""
    return f"{value:.1g}" if 0 < abs(value) < 0.05 else f"{value:.1f}"


def heatmap(attribution: np.ndarray) -> np.ndarray:
    """Attribution (C, H, W) as what is drawn: the sum over channels, scaled so that its 99th percentile of |.| is 1; (H, W)."""
    summed = attribution.sum(0)
    return summed / max(float(np.quantile(np.abs(summed), 0.99)), 1e-12)


def sprite(frames: np.ndarray, px: int = 112) -> str:
    """Frames (N, H, W) in -1..1, or (N, H, W, 3) uint8, side by side as one WebP data address, each ``px`` high at most."""
    if frames.ndim == 3:
        frames = (255 * mpl.colormaps["RdBu_r"]((np.clip(frames, -1, 1) + 1) / 2)[..., :3]).astype(np.uint8)
    image = Image.fromarray(np.concatenate(list(frames), axis=1))
    if image.height > px:
        image = image.resize((image.width * px // image.height // len(frames) * len(frames), px))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=90)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def save(fig: Figure, stem: Path) -> None:
    """Write ``stem``.png and ``stem``.pdf without dates, so that the same numbers give the same bytes."""
    fig.savefig(stem.with_suffix(".png"), metadata={"Software": None})
    fig.savefig(stem.with_suffix(".pdf"), metadata={"CreationDate": None, "Producer": None, "Creator": None})
