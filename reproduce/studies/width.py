"""Does the cost of removing biases shrink with a net's width, and does it depend on how the net is normalised?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reproduce.claims import Claim, Kind, at_most, better, measured, not_worse, select
from reproduce.context import Context
from reproduce.datasets import DATASETS
from reproduce.nets import Net, by_training, net_task
from reproduce.report import figures, style
from reproduce.report.tables import Table, wide
from reproduce.statistics import Interval, difference_interval, mean_interval
from reproduce.studies import table1
from reproduce.studies.table1 import Measurement, percent
from reproduce.study import Study
from reproduce.tasks import Result, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Protocol:
    """What decides the numbers.

    Attributes:
        dataset: whose train split the nets are trained on.
        nets: architecture and channel multiplier of each; of each a regular net and its X-variant are trained.
        accuracy: how those are measured that Table 1 does not have at this scale; its results are taken for the others.
    """

    dataset: str
    nets: tuple[tuple[str, float], ...]
    accuracy: table1.Protocol


PROTOCOLS = {
    "smoke": Protocol(
        "smoke-digits",
        (("alexnet", 0.125), ("alexnet", 0.25), ("resnet18", 0.125), ("bn_resnet18", 0.125)),
        table1.PROTOCOLS["smoke"]["trained"],
    ),
    "embedded": Protocol(
        "digits-on-photos", (("alexnet", 0.125), ("alexnet", 0.25)), table1.PROTOCOLS["embedded"]["trained"]
    ),
    "subset": Protocol(
        "cifar10",
        (
            *(("alexnet", width) for width in (0.125, 0.25, 0.5)),
            *(("resnet18", width) for width in (0.125, 0.25)),
            *(("bn_resnet18", width) for width in (0.125, 0.25)),
        ),
        table1.PROTOCOLS["subset"]["trained"],
    ),
}
FIXUP, NORM = "resnet18", "bn_resnet18"
MATTERS = 0.5  # points of top-1 accuracy: a smaller difference of costs is none
LOSS = 1.5  # points
MARD = 0.1  # percent that float32 may leave on an X-net

METRICS = {  # name -> (label, unit, better)
    "top1": ("Top-1 (%)", "%", "higher"),
    "top1_change": ("Top-1 change without biases (points)", "points", "higher"),
    "mard": ("MARD (%)", "%", "lower"),
}
Group = Sequence[Result[Net, Measurement]]  # of one net, a result for each training
ByNet = Mapping[tuple[object, object, object], Group]  # (model, width, variant) ->


def missing(context: Context, protocol: Protocol) -> dict[str, str]:
    reason = DATASETS[protocol.dataset].missing(context.store)
    return {protocol.dataset: f"{protocol.dataset} {reason}"} if reason else {}


def tasks(context: Context, protocol: Protocol) -> list[Task[Net, Measurement]]:
    if missing(context, protocol):
        return []
    theirs = {task.about: task for task in table1.tasks(context, table1.PROTOCOLS[context.scale.name])}
    accuracy = replace(protocol.accuracy, mapped_images=0)
    if context.most_images is not None:
        accuracy = replace(accuracy, images=min(accuracy.images, context.most_images))
    out = []
    for model, width in protocol.nets:
        for variant in ("regular", "x"):
            for number in range(context.seeds):
                net = Net(model, variant, protocol.dataset, width, "trained", context.seed + number)
                own = net_task(context, "width", net, accuracy, table1.measure, Measurement, seconds=10)
                out.append(theirs.get(net, own))
    return out


# --- rows ---


def rows(results: Sequence[Result[Net, Measurement]]) -> pd.DataFrame:
    """``top1_change_difference``: by how much the cost of removing biases is smaller than in ``against``, paired by image."""
    nets = by_training(results)
    by_net = {(ids["model"], ids["width"], ids["variant"]): group for ids, group in nets}
    out = []
    for ids, group in nets:
        found = {metric: mean_interval(percent(group, metric)) for metric in ("top1", "mard")}
        out += [ids | row(metric, interval) for metric, interval in found.items()]
        if ids["variant"] == "x":
            own = costs(by_net, ids["model"], ids["width"])
            out.append(ids | row("top1_change", difference_interval(*own)))
            for against, other in comparisons(by_net, ids["model"], ids["width"]):
                change = difference_interval(own[0] - own[1], other[0] - other[1])
                out.append(ids | row("top1_change_difference", change, against))
    return pd.DataFrame(out)


def row(metric: str, interval: Interval, against: str = "") -> dict[str, object]:
    _, unit, direction = METRICS[metric.removesuffix("_difference")]
    return {"against": against, "metric": metric, "unit": unit, "better": direction} | interval.columns()


def costs(by_net: ByNet, model: object, width: object) -> tuple[np.ndarray, np.ndarray]:
    """Top-1 hits in percent of the X-nets and of the regular ones, (trainings, n) each."""
    x, regular = (np.array(percent(by_net[model, width, variant], "top1")) for variant in ("x", "regular"))
    return x, regular


def comparisons(by_net: ByNet, model: object, width: object) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    """What the cost of a net is held against: the widest net against the narrowest, BatchNorm against Fixup."""
    widths = sorted(float(str(w)) for m, w, variant in by_net if (m, variant) == (model, "x"))
    if width == widths[-1] and len(widths) > 1:
        yield f"width {widths[0]:g}", costs(by_net, model, widths[0])
    if model == NORM and (FIXUP, width, "x") in by_net:
        yield FIXUP, costs(by_net, FIXUP, width)


# --- table and figure ---


def table(rows: pd.DataFrame) -> Table:
    return wide(
        rows, ["dataset", "model", "width", "variant"], {metric: label for metric, (label, _, _) in METRICS.items()}
    )


def figure(rows: pd.DataFrame, results: Sequence[Result[Net, Measurement]]) -> Figure:
    """Left, accuracy over width, regular dashed and hollow; right, what removing the biases changes."""
    fig, (left, right) = figures.subplots(1, 2, height=2.9)
    for (model, dataset), part in rows[rows["against"] == ""].groupby(["model", "dataset"], sort=False):
        look, name = style.model(str(model)), style.panel(str(model), str(dataset)).replace("\n", ", ")
        for variant, line in part[part["metric"] == "top1"].groupby("variant", sort=False):
            of_variant = style.variant(str(variant))
            drawn = {"ls": of_variant.line, "marker": of_variant.marker, "mfc": figures.face(str(variant), look.color)}
            label = f"{name}, {of_variant.label}"
            left.plot(line["width"], line["value"], color=look.color, ms=4, label=label, **drawn)
            left.fill_between(line["width"], line["low"], line["high"], color=look.color, alpha=0.1, lw=0)
        change = part[part["metric"] == "top1_change"]
        bars = [change["value"] - change["low"], change["high"] - change["value"]]
        right.errorbar(change["width"], change["value"], yerr=bars, color=look.color, marker="o", ms=3, capsize=2)
    right.axhline(0, color=style.GREY, lw=0.6)
    for ax, title in ((left, "Top-1 (%)"), (right, "Top-1 change without biases (points)")):
        ax.set(title=title, xlabel="width, 1 is the papers' net", xscale="log")
        ax.set_xticks(sorted(set(rows["width"])), [f"{width:g}" for width in sorted(set(rows["width"]))])
        ax.minorticks_off()
        ax.margins(x=0.1)
    fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2, handlelength=3.5)
    return fig


# --- claims ---


def against_width(rows: pd.DataFrame) -> pd.DataFrame:
    return select(rows[rows["against"].str.startswith("width")], metric="top1_change_difference")


STUDY = Study(
    order=10,
    title="The cost of removing biases, by width and by normalisation",
    question="Does removing the biases cost less in wider nets, and does it cost more with BatchNorm that only scales than with Fixup?",
    source="extends X-DNN Sec. 4.1, whose nets have width 1 and no BatchNorm",
    method=(
        "Regular nets and their X-variants of several widths are trained alike and measured as in table1. Fixup's ResNet-18 has "
        "no normalisation; that with BatchNorm has the same layers, and in its X-variant BatchNorm neither subtracts a mean nor "
        "adds a shift. Costs are compared as differences of differences, paired by image. Intervals: 95 %, over images and, "
        "where there are several, trainings."
    ),
    differs=(
        "All nets are narrow. At the embedded scale there are two widths of AlexNet only, and no BatchNorm; CIFAR-10, at the scale "
        "subset, has three widths and both residual nets."
    ),
    protocols=PROTOCOLS,
    tasks=tasks,
    rows=rows,
    table=table,
    figure=figure,
    missing=missing,
    claims=(
        Claim(
            id="x-mard",
            text=f"On X-nets of any width and normalisation Input x Gradient equals IG: MARD is at most {MARD:g} % in float32",
            kind=Kind.THEOREM,
            source="X-DNN Prop. 3.2",
            reported="",
            metric="mard",
            criterion=at_most(MARD),
            evidence=partial(measured, variant="x", metric="mard"),
            n_chosen="a few batches show rounding",
        ),
        Claim(
            id="wider-costs-less",
            text="Removing the biases costs less top-1 accuracy in the widest net than in the narrowest",
            kind=Kind.EMPIRICAL,
            source="extends X-DNN Sec. 4.1",
            reported="",
            metric="top1_change_difference",
            criterion=better(MATTERS),
            evidence=against_width,
            n_chosen="all test images",
        ),
        Claim(
            id="norm-costs-no-more",
            text=(
                "With BatchNorm that only scales, removing the biases costs at most "
                f"{LOSS:g} points of top-1 accuracy more than with Fixup"
            ),
            kind=Kind.EMPIRICAL,
            source="extends X-DNN Sec. 4.1",
            reported="",
            metric="top1_change_difference",
            criterion=not_worse(LOSS),
            evidence=partial(select, model=NORM, against=FIXUP, metric="top1_change_difference"),
            n_chosen="all test images",
        ),
    ),
)
