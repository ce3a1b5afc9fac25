"""X-DNN Table 1 (Sec. 4.1): what removing the biases costs in accuracy, and what it buys: Input x Gradient becomes IG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from reproduce.claims import Claim, Kind, NotRun, at_least, at_most, not_worse, select
from reproduce.context import Context
from reproduce.datasets import DATASETS
from reproduce.datasets.images import Images
from reproduce.experiment import Experiment
from reproduce.maps import Maps, homogeneous, maps_task
from reproduce.nets import ON_OTHER_IMAGES, Net, by_training, net_task
from reproduce.report import figures, style
from reproduce.report.tables import Table, wide
from reproduce.statistics import Interval, difference_interval, mean_interval, ratio_interval
from reproduce.study import Study
from reproduce.tasks import Result, Task
from xdnn import input_x_gradient, integrated_gradients
from xdnn.metrics.accuracy import topk_hits
from xdnn.metrics.agreement import mard_from_means, mean_differences

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Protocol:
    """What decides the numbers; the defaults are the paper's.

    Attributes:
        images: test images whose classes are predicted.
        mard_images: the first of them, on which IG and Input x Gradient are compared.
        mapped_images: the first test images, of which ``table2`` makes IG's maps at this scale: of regular nets they are
            compared there. 0: all are compared here.
        confirm_images: the same on wrapped and converted nets, where it is rounding; None: as many.
        ig_steps: Gauss-Legendre points, zero baseline in normalised space (imagenet/val.py).
        mard_batch: part of the definition: MARD is a ratio of batch means (val.py's default).
        float64_images, float64_steps: one batch decides at 1e-9, and on X-nets the number of steps does not matter.
    """

    images: int
    mard_images: int
    mapped_images: int = 0
    confirm_images: int | None = None
    ig_steps: int = 128
    mard_batch: int = 16
    float64_images: int = 16
    float64_steps: int = 32


@dataclass(frozen=True)
class Measurement:
    """Of one net: a bool per image, and what each adds to its batch's MARD; ``mard_float64`` of X-nets only."""

    top1: list[bool]
    top5: list[bool]
    mard: list[float]
    mard_float64: list[float]


PROTOCOLS = {
    "smoke": {
        "trained": Protocol(images=64, mard_images=32, float64_images=2),
        "smoke-squeezenet": Protocol(images=32, mard_images=16, confirm_images=4, ig_steps=16),
    },
    "embedded": {
        "trained": Protocol(images=1_000, mard_images=80, mapped_images=100),
        "digits-on-photos/alexnet": Protocol(images=1_000, mard_images=80, mapped_images=250),
        "open-photographs": Protocol(images=100, mard_images=64, mapped_images=32, confirm_images=6),
        "open-photographs-lite0": Protocol(images=100, mard_images=0),
    },
    "subset": {
        "trained": Protocol(images=10_000, mard_images=160),
        "released": Protocol(images=1_000, mard_images=320),
        "package": Protocol(images=1_000, mard_images=32),
        "open-photographs": Protocol(images=100, mard_images=96, confirm_images=16),
    },
    "paper": {"released": Protocol(images=50_000, mard_images=50_000)},
}
PREDICT_BATCH = 250  # forward passes only: does not change a number
POINTS = 1.5  # of accuracy, what the paper's X-nets lose at most (top-5)
RAISED = 20.0  # percent by which the paper's X-nets raise the error at most: top-5, 3.2 / 2.0 / 19.4
MANY_CLASSES = 100  # from so many on a top-5 accuracy says something
EXACT, APART = 0.1, 20  # MARD in percent: at most so much in float32 on X-nets, at least so much on regular nets

# X-DNN Table 1, ImageNet validation; percent.
REPORTED = {
    ("alexnet", "regular"): {"top5": 79.21, "mard": 79.0},
    ("alexnet", "x"): {"top5": 78.54, "mard": 1.2},
    ("vgg16", "regular"): {"top5": 90.44, "mard": 97.8},
    ("vgg16", "x"): {"top5": 90.25, "mard": 0.4},
    ("resnet50", "regular"): {"top5": 92.56, "mard": 93.8},
    ("resnet50", "x"): {"top5": 91.12, "mard": 0.0},
}
METRICS = {  # name -> (label, unit, better)
    "top1": ("Top-1 (%)", "%", "higher"),
    "top5": ("Top-5 (%)", "%", "higher"),
    "top1_change": ("Top-1 change (points)", "points", "higher"),
    "top5_change": ("Top-5 change (points)", "points", "higher"),
    "error_increase": ("Increase of the top-1 error (%)", "%", "lower"),
    "mard": ("MARD (%)", "%", "lower"),
    "mard_float64": ("MARD, float64 (%)", "%", "lower"),
}


def tasks(context: Context, protocols: Mapping[str, Protocol]) -> list[Task[Net, Measurement]]:
    out = []
    for net, protocol in context.nets(protocols):
        mapped = 0 if homogeneous(net.variant) else min(protocol.mapped_images, protocol.images)
        out.append(
            net_task(
                context,
                "table1",
                net,
                protocol,
                measure,
                Measurement,
                seconds=15,
                needs=(maps_task(context, net, mapped),) if mapped else (),
                sharded=True,
                costly=protocol.mard_images,
            )
        )
    return out


def measure(
    model: nn.Module, images: Images, protocol: Protocol, experiment: Experiment[Net, Protocol], *mapped: Maps
) -> Measurement:
    """Accuracy on all images, MARD on those of the first ``mard_images`` that are among them."""
    device = experiment.device
    top1, top5 = [], []
    with torch.no_grad():
        for inputs, targets in images.batches(PREDICT_BATCH, device):
            logits = model(inputs)
            top1 += topk_hits(logits, targets, 1).tolist()
            top5 += topk_hits(logits, targets, 5).tolist()
    exact_by_making = experiment.about.variant in ("wrapped", "converted") and protocol.confirm_images is not None
    wanted = protocol.confirm_images if exact_by_making else protocol.mard_images
    compared = images.first(max(0, min(len(images), (wanted or 0) - images.start)))
    known = [torch.tensor([made.difference, made.size])[:, : len(compared)] for made in mapped]
    start = sum(part.shape[1] for part in known)
    for inputs, targets in compared.part(start, len(compared)).batches(protocol.mard_batch, device):
        known.append(gap(model, inputs, targets, protocol.ig_steps))
        experiment.progress(0.9 * sum(part.shape[1] for part in known) / len(compared))
    means = torch.cat(known, 1) if known else torch.empty(2, 0)
    gaps = [part for batch in means.split(protocol.mard_batch, 1) for part in mard_from_means(*batch).tolist()]
    exact: list[float] = []
    if images.start == 0 and experiment.about.variant == "x":  # what rounding leaves of a difference that is none
        inputs, targets = next(images.batches(min(protocol.float64_images, len(images)), device))
        exact = mard_from_means(*gap(model.double(), inputs.double(), targets, protocol.float64_steps)).tolist()
    return Measurement(top1, top5, gaps, exact)


def gap(model: nn.Module, inputs: Tensor, targets: Tensor, steps: int) -> Tensor:
    """Of each image mean |IG - Input x Gradient|, 0 where they are equal, and mean |IG|: (2, B), logits."""
    reference = integrated_gradients(model, inputs, targets, steps=steps)
    return torch.stack(mean_differences(reference, input_x_gradient(model, inputs, targets))).cpu()


def rows(results: Sequence[Result[Net, Measurement]]) -> pd.DataFrame:
    nets = by_training(results)
    regular = {(ids["dataset"], ids["model"]): group for ids, group in nets if ids["variant"] == "regular"}
    out = []
    for ids, group in nets:
        found = {m: mean_interval(percent(group, m)) for m in METRICS if getattr(group[0].value, m, [])}
        if ids["variant"] != "regular":
            found |= cost(group, regular[ids["dataset"], ids["model"]])
        for metric, interval in found.items():
            label = {"metric": metric, "unit": METRICS[metric][1], "better": METRICS[metric][2]}
            reported = REPORTED.get((str(ids["model"]), str(ids["variant"])), {}).get(metric)
            out.append(ids | label | interval.columns() | {"reported": reported})
    return pd.DataFrame(out)


def cost(group: Sequence[Result[Net, Measurement]], base: Sequence[Result[Net, Measurement]]) -> dict[str, Interval]:
    """What a variant's accuracies change against the regular net's, and by what share of it the top-1 error grows.

    No share where the regular net makes no error.
    """
    own, regular = ({m: np.array(percent(part, m)) for m in ("top1", "top5")} for part in (group, base))
    regular = {m: values[:, : own[m].shape[1]] for m, values in regular.items()}  # a converted net sees fewer images
    found = {f"{m}_change": difference_interval(own[m], regular[m]) for m in own}
    errors, base_errors = 100 - own["top1"], 100 - regular["top1"]
    if base_errors.any():
        found["error_increase"] = ratio_interval(100 * (errors - base_errors), base_errors)
    return found


def percent(group: Sequence[Result[Net, Measurement]], metric: str) -> list[list[float]]:
    """The metric's samples of each training, in percent."""
    return [[100 * value for value in getattr(result.value, metric)] for result in group]


def table(rows: pd.DataFrame) -> Table:
    return wide(rows, ["dataset", "model", "variant"], {metric: label for metric, (label, _, _) in METRICS.items()})


def figure(rows: pd.DataFrame, results: Sequence[Result[Net, Measurement]]) -> Figure:
    """Top-1 accuracy, what variants change of it, and MARD of IG and Input x Gradient; dotted: the claims' limits."""
    panels = {
        "top1": ("Top-1 accuracy (%)", ()),
        "top1_change": ("top-1 change (points)", (-POINTS,)),
        "mard": ("MARD (%)", (EXACT, APART)),
    }
    nets = list(dict.fromkeys(zip(rows["model"], rows["dataset"], strict=True)))
    variants = {net: list(dict.fromkeys(part["variant"])) for net, part in rows.groupby(["model", "dataset"])}
    fig, axes = figures.subplots(1, len(panels), sharey=True, height=0.8 + 0.5 * len(nets))
    for ax, (metric, (title, limits)) in zip(axes, panels.items(), strict=True):
        for one in rows[rows["metric"] == metric].itertuples():
            net = (one.model, one.dataset)
            draw(ax, one, nets.index(net) + 0.22 * (variants[net].index(one.variant) - (len(variants[net]) - 1) / 2))
        for limit in limits:
            ax.axvline(limit, color=style.GREY, lw=0.8, ls=":")
        ax.set_xlabel(title)
        ax.margins(x=0.25)
    axes[0].set(xlim=(0, 125), xticks=range(0, 101, 25))
    axes[2].set_xscale("log")
    axes[0].set_yticks(range(len(nets)), [style.panel(model, dataset) for model, dataset in nets])
    axes[0].set_ylim(len(nets) - 0.35, -0.5)
    handles = {text: handle for ax in axes for handle, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)
    return fig


def draw(ax: Axes, one: Any, place: float) -> None:
    """A value with its interval, and in words at the interval's end."""
    look = style.variant(one.variant)
    bars = None if pd.isna(one.low) else [[max(0.0, one.value - one.low)], [max(0.0, one.high - one.value)]]
    marks: dict[str, Any] = {"marker": look.marker, "ms": 4, "lw": 1, "ls": "none", "label": look.label}
    ax.errorbar(one.value, place, xerr=bars, color=look.color, mfc=figures.face(one.variant, look.color), **marks)
    end = one.value if bars is None else max(one.value, one.high)
    ax.annotate(figures.short(one.value), (end, place), (4, 0), textcoords="offset points", fontsize=6, va="center")


def of_many_classes(rows: pd.DataFrame) -> pd.DataFrame:
    """What the X-nets lose of top-5 accuracy where that is more than a toss-up between ten classes."""
    found = select(rows, variant="x", metric="top5_change")
    found = found[[DATASETS[name].classes >= MANY_CLASSES for name in found["dataset"]]]
    if found.empty:
        raise NotRun(
            f"at this scale the X-nets tell fewer than {MANY_CLASSES} classes apart, of which five are too many"
        )
    return found


_PAPER = Protocol(images=0, mard_images=0)
STUDY = Study(
    order=2,
    title="Accuracy and closeness to Integrated Gradients",
    question="What does removing the biases cost in accuracy, and is Input x Gradient then Integrated Gradients?",
    source="X-DNN Sec. 4.1, Table 1",
    method=(
        "Top-1 and top-5 accuracy over all test images. MARD = mean|IG - IxG| / (mean|IG| + 1e-7) per batch of "
        f"{_PAPER.mard_batch}, averaged over batches; IG with {_PAPER.ig_steps} Gauss-Legendre points, zero baseline in "
        f"normalised space, logit of the true class; in float64 one batch, {_PAPER.float64_steps} points, on X-nets only. "
        "Intervals: 95 %, over images, and over trainings where there are several. An image's part in MARD is what "
        "leaving it out of its batch changes; the mean of a batch's parts is its MARD. Increase of the error: change of the top-1 error "
        f"in percent of the regular net's. {ON_OTHER_IMAGES}"
    ),
    differs=(
        "Other data and narrower nets, so the accuracies estimate nothing of the paper's. The paper's 1.2 % and 0.4 % for "
        "X-AlexNet and X-VGG16 can only be rounding (on an X-net the gradient is constant along the path): here float32 "
        "and float64 stand side by side, and study mantissa measures what coarser rounding does."
    ),
    protocols=PROTOCOLS,
    tasks=tasks,
    rows=rows,
    table=table,
    figure=figure,
    claims=(
        Claim(
            id="x-mard-float32",
            text=f"On X-DNNs Input x Gradient equals IG: MARD is at most {EXACT:g} % in float32",
            kind=Kind.THEOREM,
            source="X-DNN Table 1",
            reported="1.2 / 0.4 / 0.0 %",
            metric="mard",
            criterion=at_most(EXACT),
            evidence=partial(select, variant="x", metric="mard"),
            n_chosen="a few images show rounding",
        ),
        Claim(
            id="x-mard-float64",
            text="On X-DNNs Input x Gradient equals IG: MARD is at most 1e-7 % in float64",
            kind=Kind.THEOREM,
            source="X-DNN Prop. 3.2",
            reported="",
            metric="mard_float64",
            criterion=at_most(1e-7),
            evidence=partial(select, variant="x", metric="mard_float64"),
            n_chosen="one batch decides at 1e-9",
        ),
        Claim(
            id="regular-mard",
            text=f"On regular DNNs Input x Gradient is not IG: MARD is at least {APART:g} %",
            kind=Kind.EMPIRICAL,
            source="X-DNN Table 1",
            reported="79.0 / 97.8 / 93.8 %",
            metric="mard",
            criterion=at_least(APART),
            evidence=partial(select, variant="regular", metric="mard"),
            n_chosen="80 images tell 20 % from 40 %",
            effect=90.2,
        ),
        Claim(
            id="accuracy-cost",
            text=f"Removing the biases costs at most {POINTS:g} points of top-1 accuracy",
            kind=Kind.EMPIRICAL,
            source="X-DNN Table 1, which has top-5",
            reported="-0.67 / -0.19 / -1.44 points of top-5",
            metric="top1_change",
            criterion=not_worse(POINTS),
            evidence=partial(select, variant="x", metric="top1_change"),
            n_chosen="all test images",
        ),
        Claim(
            id="error-increase",
            text=f"Removing the biases raises the top-1 error by at most {RAISED:g} % of what it was",
            kind=Kind.EMPIRICAL,
            source="X-DNN Table 1, which has top-5",
            reported="3.2 / 2.0 / 19.4 % of the top-5 error",
            metric="error_increase",
            criterion=at_most(RAISED),
            evidence=partial(select, variant="x", metric="error_increase"),
            n_chosen="all test images",
        ),
        Claim(
            id="accuracy-cost-top5",
            text=f"On {MANY_CLASSES} classes or more removing the biases costs at most {POINTS:g} points of top-5 accuracy",
            kind=Kind.EMPIRICAL,
            source="X-DNN Table 1",
            reported="-0.67 / -0.19 / -1.44 points",
            metric="top5_change",
            criterion=not_worse(POINTS),
            evidence=of_many_classes,
            n_chosen="all test images",
            effect=-0.77,
        ),
    ),
)
