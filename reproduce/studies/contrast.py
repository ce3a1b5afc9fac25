"""X-DNN Sec. 4.4: accuracy when the contrast falls. F(ax) = aF(x), so the prediction of an X-net cannot change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import nn

from reproduce.claims import Claim, Kind, at_most, measured, select
from reproduce.context import Context
from reproduce.datasets.images import Images
from reproduce.experiment import Experiment
from reproduce.nets import ON_OTHER_IMAGES, Net, by_training, net_task
from reproduce.report import figures, style
from reproduce.report.tables import Table, wide
from reproduce.statistics import Interval, difference_interval, mean_interval
from reproduce.study import Study
from reproduce.tasks import Result, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FACTORS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)  # of the normalised input, no clipping; imagenet/val.py
LOWEST = min(FACTORS)
LEAST_LOSS = 5.0  # points that a regular net is expected to lose at the lowest factor


@dataclass(frozen=True)
class Protocol:
    """What decides the numbers.

    Attributes:
        images: test images whose classes are predicted.
        factors: that the inputs are multiplied by; the first is 1.
    """

    images: int
    factors: tuple[float, ...] = FACTORS


@dataclass(frozen=True)
class Measurement:
    """Of one net: the true class of each image, and at each factor the predicted one."""

    targets: list[int]
    predictions: dict[float, list[int]]


PROTOCOLS = {
    "smoke": {"trained": Protocol(images=64)},
    "embedded": {"trained": Protocol(images=1_000), "open-photographs": Protocol(images=100)},
    "subset": {"released": Protocol(images=1_000), "package": Protocol(images=1_000)},
    "paper": {"released": Protocol(images=50_000)},
}
BATCH = 250  # forward passes only: does not change a number

METRICS = {  # name -> (unit, better)
    "top1": ("%", "higher"),
    "top1_change": ("points", "higher"),
    "top1_over_regular": ("points", "higher"),
    "predictions_changed": ("%", "lower"),
    "ever_changed": ("%", "lower"),
}


def tasks(context: Context, protocols: Mapping[str, Protocol]) -> list[Task[Net, Measurement]]:
    return [
        net_task(context, "contrast", net, protocol, measure, Measurement, seconds=4, sharded=True)
        for net, protocol in context.nets(protocols)
    ]


@torch.no_grad()
def measure(model: nn.Module, images: Images, protocol: Protocol, experiment: Experiment[Net, Protocol]) -> Measurement:
    predictions: dict[float, list[int]] = {factor: [] for factor in protocol.factors}
    for inputs, _ in images.batches(BATCH, experiment.device):
        for factor, found in predictions.items():
            found += model(factor * inputs).argmax(1).tolist()
        experiment.progress(len(found) / len(images))
    return Measurement(images.targets.tolist(), predictions)


def rows(results: Sequence[Result[Net, Measurement]]) -> pd.DataFrame:
    nets = by_training(results)
    regular = {(ids["dataset"], ids["model"]): group for ids, group in nets if ids["variant"] == "regular"}
    out = []
    for ids, group in nets:
        base = None if ids["variant"] == "regular" else regular[ids["dataset"], ids["model"]]
        factors = list(group[0].value.predictions)
        found: list[tuple[float | None, str, Interval]] = [
            (factor, metric, interval)
            for factor in factors
            for metric, interval in at_factor(group, base, factor, factors[0]).items()
        ]
        found.append((None, "ever_changed", mean_interval([ever_moved(result.value) for result in group])))
        for factor, metric, interval in found:
            label = {"factor": factor, "metric": metric, "unit": METRICS[metric][0], "better": METRICS[metric][1]}
            out.append(ids | label | interval.columns())
    return pd.DataFrame(out)


def at_factor(
    group: Sequence[Result[Net, Measurement]],
    base: Sequence[Result[Net, Measurement]] | None,
    factor: float,
    full: float,
) -> dict[str, Interval]:
    """A net's numbers at one factor, in percent.

    Args:
        base: the regular net that it is the variant of; None where it is the regular one.
        full: the factor that changes are taken against.
    """
    top1 = [hits(result.value, factor) for result in group]
    found = {
        "top1": mean_interval(top1),
        "top1_change": difference_interval(top1, [hits(result.value, full) for result in group]),
        "predictions_changed": mean_interval([moved(result.value, factor, full) for result in group]),
    }
    if base is not None:
        regular = [hits(result.value, factor)[: len(top1[0])] for result in base]  # a converted net sees fewer images
        found["top1_over_regular"] = difference_interval(top1, regular)
    return found


def hits(value: Measurement, factor: float) -> list[float]:
    """100 for each image whose true class is predicted, else 0."""
    return [100.0 * (p == t) for p, t in zip(value.predictions[factor], value.targets, strict=True)]


def moved(value: Measurement, factor: float, full: float) -> list[float]:
    """100 for each image whose prediction differs from that at ``full``, else 0."""
    return [100.0 * (p != q) for p, q in zip(value.predictions[factor], value.predictions[full], strict=True)]


def ever_moved(value: Measurement) -> list[float]:
    """100 for each image whose prediction is not the same at all factors, else 0."""
    return [100.0 * (len(set(image)) > 1) for image in zip(*value.predictions.values(), strict=True)]


def table(rows: pd.DataFrame) -> Table:
    part = rows[rows["metric"] == "top1"]
    columns = {f"{factor:g}": f"x {factor:g}" for factor in dict.fromkeys(part["factor"])}
    by_factor = part.assign(metric=[f"{factor:g}" for factor in part["factor"]])
    return wide(by_factor, ["dataset", "model", "variant"], columns, intervals=False)


def figure(rows: pd.DataFrame, results: Sequence[Result[Net, Measurement]]) -> Figure:
    """Top-1 accuracy over the contrast factor, a panel for each net and a line for each variant, with its 95 % band."""
    part = rows[rows["metric"] == "top1"]
    nets = list(dict.fromkeys(zip(part["model"], part["dataset"], strict=True)))
    fig, axes = figures.subplots(1, len(nets), sharey=True, height=3.0)
    for ax, (model, dataset) in zip(axes, nets, strict=True):
        of_net = part[(part["model"] == model) & (part["dataset"] == dataset)]
        for variant, line in of_net.groupby("variant", sort=False):
            look = style.variant(str(variant))
            drawn = {"color": look.color, "ls": look.line, "marker": look.marker, "ms": 3, "label": look.label}
            ax.plot(line["factor"], line["value"], **drawn)
            ax.fill_between(line["factor"], line["low"], line["high"], color=look.color, alpha=0.15, lw=0)
        ax.invert_xaxis()
        count = " and ".join(f"{n}" for n in sorted(set(of_net["n"]), reverse=True))
        ax.set(title=f"{style.panel(model, dataset)}\nn = {count} images", xlabel="contrast factor")
    axes[0].set(ylabel="Top-1 (%)", ylim=(0, 100))
    handles = {label: h for ax in axes for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)
    return fig


STUDY = Study(
    order=3,
    title="Accuracy under contrast change",
    question="Does an X-net keep its predictions when the contrast falls, and does a regular net?",
    source="X-DNN Sec. 4.4",
    method=(
        f"The normalised input is multiplied by {FACTORS[0]}, {FACTORS[1]}, ..., {FACTORS[-1]}, without clipping; top-1 "
        "accuracy over the test images. Changes against factor 1, and differences from the regular net, are paired by "
        "image. Intervals: 95 %, over images and, where there are several, trainings. " + ON_OTHER_IMAGES
    ),
    differs="The paper shows AlexNet on ImageNet; its numbers per factor are not at hand, so nothing stands beside ours.",
    protocols=PROTOCOLS,
    tasks=tasks,
    rows=rows,
    table=table,
    figure=figure,
    claims=(
        Claim(
            id="x-constant",
            text="An X-DNN predicts the same class for every image at every contrast",
            kind=Kind.THEOREM,
            source="X-DNN Sec. 4.4",
            reported="",
            metric="ever_changed",
            criterion=at_most(0),
            evidence=partial(measured, variant="x", metric="ever_changed"),
            n_chosen="all test images: one that changes refutes it",
        ),
        Claim(
            id="regular-loses",
            text=f"Every regular net loses at least {LEAST_LOSS:g} points of top-1 accuracy at {LOWEST} of the contrast",
            kind=Kind.EMPIRICAL,
            source="X-DNN Sec. 4.4",
            reported="",
            metric="top1_change",
            criterion=at_most(-LEAST_LOSS),
            evidence=partial(select, variant="regular", metric="top1_change", factor=LOWEST),
            n_chosen="all test images",
        ),
    ),
)
