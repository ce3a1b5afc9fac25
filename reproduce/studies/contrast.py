"""X-DNN Sec. 4.4: accuracy when the contrast falls. F(ax) = aF(x), so an X-net cannot change its mind."""

from functools import partial

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import nn

from reproduce.cells import Cell, Tick, Value
from reproduce.datasets import Images
from reproduce.metrics.statistics import difference_interval, mean_interval
from reproduce.report import figures
from reproduce.report.tables import wide
from reproduce.run import Net, Run
from reproduce.studies.study import Claim, Study, select

VERSION = 1
FACTORS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)  # of the normalised input, no clipping; imagenet/val.py
BATCH = 250  # forward passes only: does not change a number
LEAST_LOSS = 5.0  # points that a regular net is expected to lose at the lowest factor


def cells(run: Run) -> list[Cell]:
    return [run.in_parts(count, partial(_cell, run, net)) for net, count in run.nets("contrast")]


def _cell(run: Run, net: Net, part: range) -> Cell:
    return run.cell("contrast", VERSION, net, _measure, images=part, seconds=4, factors=FACTORS)


@torch.no_grad()
def _measure(tick: Tick, model: nn.Module, images: Images) -> Value:
    device = next(model.parameters()).device
    hits: list[list[bool]] = []
    changed: list[list[bool]] = []
    for inputs, targets in images.batches(BATCH, device):
        predictions = torch.stack([model(factor * inputs).argmax(1) for factor in FACTORS], 1)  # (B, factors)
        hits += (predictions == targets[:, None]).tolist()
        changed += (predictions != predictions[:, :1]).tolist()
        tick(len(hits) / len(images))
    return {"hits": hits, "changed": changed}


def rows(values: list[Value]) -> pd.DataFrame:
    out = []
    for value in values:
        for i, factor in enumerate(FACTORS):
            hits = [100.0 * hit[i] for hit in value["hits"]]
            full = [100.0 * hit[0] for hit in value["hits"]]
            changed = [100.0 * change[i] for change in value["changed"]]
            for metric, better, interval in (
                ("top1", "higher", mean_interval(hits)),
                ("top1_change", "higher", difference_interval(hits, full)),
                ("predictions_changed", "lower", mean_interval(changed)),
            ):
                ids = value["net"] | {"factor": factor, "metric": metric, "unit": "%", "better": better}
                out.append(ids | interval.columns())
    return pd.DataFrame(out)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    part = rows[(rows["metric"] == "top1")]
    return wide(
        part.assign(metric=part["factor"].astype(str)), index=["dataset", "model", "variant"],
        columns={str(f): f"x {f}" for f in FACTORS}, intervals=False,
    )  # fmt: skip


def figure(rows: pd.DataFrame, values: list[Value]) -> Figure:
    """Top-1 over the factor, one panel per architecture, the interval as a band."""
    part = rows[rows["metric"] == "top1"]
    models = list(dict.fromkeys(part["model"]))
    fig, axes = figures.subplots(1, max(1, len(models)), sharey=True)
    for ax, model in zip(axes, models, strict=True):
        for variant in ("regular", "x"):
            line = part[(part["model"] == model) & (part["variant"] == variant)].sort_values("factor")
            style = figures.variant_line(variant)
            ax.plot(line["factor"], line["value"], label=figures.VARIANT_LABEL[variant], marker="o", ms=3, **style)
            ax.fill_between(line["factor"], line["low"], line["high"], color=style["color"], alpha=0.15, lw=0)
        ax.invert_xaxis()
        ax.set_title(figures.MODEL_LABEL.get(model, model))
        ax.set_xlabel("contrast factor")
    axes[0].set_ylabel("Top-1 (%)")
    axes[0].legend(loc="lower left")
    return fig


def _x_is_constant(rows: pd.DataFrame) -> tuple[bool, str]:
    part = select(rows, variant="x", metric="predictions_changed")
    worst = part["value"].max()
    return (
        worst == 0,
        f"{worst:.2g} % of predictions change at most, over {len(FACTORS)} factors and {part['n'].max()} images",
    )


def _regular_loses(rows: pd.DataFrame) -> tuple[bool, str]:
    part = select(rows, variant="regular", metric="top1_change", factor=FACTORS[-1]).set_index("model")
    words = ", ".join(f"{figures.MODEL_LABEL.get(m, m)} {v:+.1f}" for m, v in part["value"].items())
    return bool((part["high"] <= -LEAST_LOSS).all()), f"{words} points at factor {FACTORS[-1]}"


STUDY = Study(
    name="contrast",
    title="Accuracy under contrast change",
    question="Does an X-net keep its predictions when the contrast falls, and does a regular net?",
    source="X-DNN Sec. 4.4",
    protocol="The normalised input is multiplied by 1.0, 0.9, ..., 0.1, without clipping; top-1 accuracy over the test images. "
    "Intervals: 95 % bootstrap over images; changes against factor 1 are paired.",
    differs="The paper shows AlexNet on ImageNet; its numbers per factor are not at hand, so nothing stands beside ours.",
    cells=cells,
    rows=rows,
    table=table,
    figure=figure,
    claims=(
        Claim("An X-DNN predicts the same class for every image at every contrast", "X-DNN Sec. 4.4", "", _x_is_constant),
        Claim(f"Every regular net loses at least {LEAST_LOSS:g} points of top-1 at a tenth of the contrast", "X-DNN Sec. 4.4", "",
              _regular_loses),
    ),
)  # fmt: skip
