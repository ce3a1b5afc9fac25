"""X-DNN Table 2 (Sec. 4.2): is X-Gradient as good an attribution as Integrated Gradients, by six mask metrics?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from reproduce.claims import Claim, Criterion, Kind, at_most, better, not_worse, select
from reproduce.context import Context
from reproduce.datasets import DATASETS
from reproduce.datasets.images import Images
from reproduce.experiment import Experiment
from reproduce.maps import IG, LATER_METHODS, Maps, batch_size, homogeneous, maps_task, one_pass
from reproduce.maps import Protocol as MapsProtocol
from reproduce.nets import Net, by_training, net_task, test_images, untaught
from reproduce.report import figures, style
from reproduce.report.tables import Column, Number, Table, wide
from reproduce.statistics import Interval, difference_interval, exact, mean_interval
from reproduce.study import Study
from reproduce.tasks import Result, Task
from xdnn.metrics.accuracy import topk_hits
from xdnn.metrics.masks import BLUR_RADIUS, BLUR_SIDE, BLUR_SIGMA, FRACTIONS, METRICS, area, mask_curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Protocol:
    """What decides the numbers, besides the maps.

    Attributes:
        images: test images that are explained.
        contrast: factor of the normalised input at which accuracy is also taken: what homogeneity buys a wrapped net.
        accuracy_images: at most; forward passes only, so more than are explained.
    """

    images: int
    contrast: float = 0.3
    accuracy_images: int = 1_000


@dataclass(frozen=True)
class Measurement:
    """Of one net.

    Attributes:
        curves: method -> what the net makes of the masked images, (n, 6 metrics, 16 fractions), as ``mask_curves``.
        distance: relative L1 of Input x Gradient to IG, for each image that IG was made of.
        top1, top1_contrast: hits at full and at low contrast, for each image.
    """

    curves: dict[str, Tensor]
    distance: list[float]
    top1: list[bool]
    top1_contrast: list[bool]


PROTOCOLS = {
    "smoke": {"trained": Protocol(images=10), "package": Protocol(images=5)},
    "embedded": {
        "trained": Protocol(images=100),
        "digits-on-photos/alexnet": Protocol(images=250),
        "open-photographs": Protocol(images=32),
    },
    "subset": {
        "trained": Protocol(images=500),
        "released": Protocol(images=1_000),
        "package": Protocol(images=48),
    },
    "paper": {"released": Protocol(images=2_000)},
}
PAPER_MODELS = ("alexnet",)  # what the table has; the paper's code runs the others too
MODELS = (PAPER_MODELS, ("vgg16", "resnet50"))
RELU6_MODELS, RELU_MODELS = (
    ("efficientnet_lite0",),
    ("squeezenet",),
)  # came with weights; made homogeneous afterwards
OF_MODELS = {MODELS[1]: "-others", RELU_MODELS: "-squeezenet"}  # in ids of claims
RIVALS = ("gradient", "expected_gradients_1", "random")  # what else the paper's table has
PRINTED = ("kpm", "knm", "kam", "ram")  # its columns
EQUAL = 1.0  # percent by which X-Gradient and IG may differ on one net
# Margins, by the metric's unit: what a method must be better by at least, and what a homogeneous net may be worse by at
# most. Below the paper's own differences: 0.43 points is the smallest advantage that it prints in bold.
SMALLEST = {"logits": 0.1, "%": 0.25}
LOSS = {"logits": 0.5, "%": 1.0}

# X-DNN Sec. 4.2, AlexNet and X-AlexNet on ImageNet validation; logits and percent. RPM and RNM are not printed.
REPORTED = {
    (variant, method): dict(zip(PRINTED, values, strict=True))
    for variant, lines in {
        "regular": {
            IG: (7.57, 1.67, 25.22, 11.12),
            "random": (3.68, 3.68, 14.12, 14.10),
            "gradient": (3.62, 3.88, 20.78, 11.82),
            "expected_gradients_1": (4.92, 2.97, 20.49, 13.76),
        },
        "x": {
            IG: (7.38, 2.21, 21.79, 11.68),
            "random": (3.81, 3.81, 13.52, 13.50),
            "gradient": (3.87, 4.34, 19.75, 11.25),
            "expected_gradients_1": (5.41, 3.19, 19.47, 13.19),
            "x_gradient": (7.38, 2.21, 21.83, 11.68),
        },
    }.items()
    for method, values in lines.items()
}

Group = Sequence[Result[Net, Measurement]]  # of one net, a result for each training
Row = dict[str, object]


def tasks(context: Context, protocols: Mapping[str, Protocol]) -> list[Task[Net, Measurement]]:
    return [net_scores(context, net, protocol) for net, protocol in context.nets(protocols)]


def net_scores(context: Context, net: Net, protocol: Protocol) -> Task[Net, Measurement]:
    """The mask metrics of one net's maps; ``ground-truth`` ranks the methods by them too."""
    needs = (maps_task(context, net, protocol.images),)
    return net_task(context, "table2", net, protocol, measure, Measurement, seconds=40, needs=needs)


def measure(
    model: nn.Module, images: Images, protocol: Protocol, experiment: Experiment[Net, Protocol], made: Maps
) -> Measurement:
    device = experiment.device
    size = batch_size(model, images, device)
    curves = {}
    for done, (name, maps) in enumerate(made.maps.items()):
        batches = images.first(len(maps)).batches(size, device)
        parts = [
            mask_curves(model, inputs, targets, part.to(device))
            for (inputs, targets), part in zip(batches, maps.split(size), strict=True)
        ]
        curves[name] = torch.cat(parts).cpu()
        experiment.progress((done + 1) / len(made.maps))
    test = test_images(experiment)
    seen = test.first(min(protocol.accuracy_images, len(test)))
    top1, top1_contrast = (hits(model, seen, factor, size, device) for factor in (1.0, protocol.contrast))
    return Measurement(curves, made.distance, top1, top1_contrast)


@torch.no_grad()
def hits(model: nn.Module, images: Images, factor: float, size: int, device: torch.device) -> list[bool]:
    """Is each image's class the largest logit at ``factor`` times its normalised input?"""
    batches = images.batches(size, device)
    return [hit for inputs, targets in batches for hit in topk_hits(model(factor * inputs), targets).tolist()]


# --- rows ---


def rows(results: Sequence[Result[Net, Measurement]]) -> pd.DataFrame:
    """A row of a metric is a mean, one of ``<metric>_difference`` the paired difference to the method in ``against``, one of
    ``<metric>_minus_best`` that to the best of the methods in ``against``.
    """
    nets = by_training(results)
    regular = {net_of(ids): group for ids, group in nets if not homogeneous(str(ids["variant"]))}
    out = []
    for ids, group in nets:
        variant = str(ids["variant"])
        found = [*mean_rows(ids, group), *rows_between(group, variant)]
        for other in (IG, "input_x_gradient") if homogeneous(variant) and net_of(ids) in regular else ():
            against = paired(group, one_pass(variant), regular[net_of(ids)], other)
            found += differences(one_pass(variant), f"regular {other}", against)
        out += [ids | row for row in found]
    return pd.DataFrame(out)


def net_of(ids: Mapping[str, object]) -> tuple[object, ...]:
    """What a net and its variants share."""
    return tuple(value for name, value in ids.items() if name != "variant")


def rivals_of(variant: str) -> dict[str, tuple[str, ...]]:
    """The methods that the paper prints in bold on nets of a variant, each with what it is held against."""
    exact_method = one_pass(variant) if homogeneous(variant) else IG
    return {exact_method: RIVALS, "gradient": (exact_method, *RIVALS[1:])}


def scores(group: Group, method: str) -> np.ndarray:
    """A method's six metrics for each image, (trainings, n, 6)."""
    return torch.stack([area(result.value.curves[method]) for result in group]).numpy()


def mean_rows(ids: Mapping[str, object], group: Group) -> Iterator[Row]:
    for name in group[0].value.curves:
        printed = REPORTED.get((str(ids["variant"]), name), {}) if ids["model"] in PAPER_MODELS else {}
        samples = scores(group, name)
        for k, (metric, about) in enumerate(METRICS.items()):
            interval = mean_interval(samples[..., k])
            yield row(name, metric, about.unit, about.better, interval, reported=printed.get(metric))
    distance = mean_interval([result.value.distance for result in group])
    yield row(one_pass(str(ids["variant"])), "distance", "", "lower", distance)
    for metric in ("top1", "top1_contrast"):
        hit = np.array([getattr(result.value, metric) for result in group])
        if ids["variant"] == "converted":
            hit = hit[:, : unlearnt(group[0].about, hit.shape[1])]
        yield row("", metric, "%", "higher", mean_interval(100.0 * hit))


def unlearnt(net: Net, images: int) -> int:
    """How many of a data set's ``images`` a converted net has not learnt from: its accuracy is that on these."""
    conversion = DATASETS[net.dataset].conversion
    return images if conversion is None or net.weights == "trained" else untaught(images, conversion)


def row(
    method: str,
    metric: str,
    unit: str,
    better: str,
    interval: Interval,
    against: str = "",
    reported: float | None = None,
) -> Row:
    ids = {"method": method, "against": against, "metric": metric, "unit": unit, "better": better}
    return ids | interval.columns() | {"reported": reported}


def rows_between(group: Group, variant: str) -> Iterator[Row]:
    """The differences between the methods of one net that the paper's argument rests on."""
    curves = group[0].value.curves
    for method, rivals in rivals_of(variant).items():
        if method not in curves:
            continue
        found = {other: paired(group, method, group, other) for other in curves if other != method}
        for other, intervals in found.items():
            yield from differences(method, other, intervals)
        if found.keys() >= set(rivals):
            yield from least_advantage(method, {rival: found[rival] for rival in rivals})
        if homogeneous(variant) and method == one_pass(variant):
            yield largest_difference(method, np.abs(scores(group, method).mean((0, 1))), found[IG])


def paired(group: Group, method: str, other_group: Group, other: str) -> list[Interval]:
    """Difference of two methods by each of the six metrics, over the images that both explain."""
    first, second = scores(group, method), scores(other_group, other)
    both = min(first.shape[1], second.shape[1])
    return [difference_interval(first[:, :both, k], second[:, :both, k]) for k in range(len(METRICS))]


def differences(method: str, against: str, intervals: Sequence[Interval]) -> Iterator[Row]:
    for (metric, about), interval in zip(METRICS.items(), intervals, strict=True):
        yield row(method, f"{metric}_difference", about.unit, about.better, interval, against)


def least_advantage(method: str, rivals: Mapping[str, Sequence[Interval]]) -> Iterator[Row]:
    """``method`` against the best of its rivals: the difference that is least in its favour."""
    for k, (metric, about) in enumerate(METRICS.items()):
        if metric in PRINTED:
            sign = 1 if about.better == "higher" else -1
            least = min((intervals[k] for intervals in rivals.values()), key=lambda interval: sign * interval.value)
            against = f"best of {', '.join(rivals)}"
            yield row(method, f"{metric}_minus_best", about.unit, about.better, least, against)


def largest_difference(method: str, sizes: np.ndarray, intervals: Sequence[Interval]) -> Row:
    """The largest of the six differences of ``method`` and IG, in percent of the metric's size.

    A difference whose interval holds 0 counts as none: it may be the one image whose class changed by a rounding.
    """
    pairs = zip(intervals, sizes, strict=True)
    shares = [100 * abs(i.value) / max(size, 1e-12) for i, size in pairs if i.value and not i.low <= 0 <= i.high]
    largest = exact(float(max(shares, default=0.0)), intervals[0].n)
    return row(method, "largest_difference", "%", "lower", largest, IG)


# --- table and figure ---


def table(rows: pd.DataFrame) -> Table:
    """A line for each method, with the number of images that it was run on, and one for each net itself."""
    headings = {name: about.label for name, about in METRICS.items()}
    headings |= {"distance": f"relative L1 to {style.method(IG).label}", "top1": "Top-1 (%)"}
    headings |= {"top1_contrast": f"Top-1 at contrast {Protocol.contrast:g} (%)"}
    named = rows.assign(method=rows["method"].replace("", "the net itself"))
    found = wide(named, ["dataset", "model", "width", "weights", "variant", "method"], headings)
    lines = [
        replace(line, entries=(str(next(e.n for e in line.entries if isinstance(e, Number))), *line.entries))
        for line in found.lines
    ]
    return replace(found, columns=(Column("images"), *found.columns), lines=tuple(lines))


def figure(rows: pd.DataFrame, results: Sequence[Result[Net, Measurement]]) -> Figure:
    """Target logit (KPM, KNM) and top-1 (KAM, RAM) over the share of the pixels: a curve for each method, with its 95 % band.

    Of the first architecture, on the linear axis that the printed areas are taken on. Left out: IG on homogeneous
    nets, which is X-Gradient on fewer images, and the methods that few images were enough for.
    """
    nets = by_training(results)
    shown = [(ids, group) for ids, group in nets if net_of(ids) == net_of(nets[0][0])]
    fig, axes = figures.subplots(len(shown), len(PRINTED), sharex=True, sharey="col", height=1.0 + 1.6 * len(shown))
    grid = axes.reshape(len(shown), len(PRINTED))
    for line, (ids, group) in zip(grid, shown, strict=True):
        variant = str(ids["variant"])
        for ax, metric in zip(line, PRINTED, strict=True):
            for method in group[0].value.curves:
                if method not in LATER_METHODS and not (method == IG and homogeneous(variant)):
                    draw(ax, group, method, metric)
        line[0].set_ylabel(style.variant(variant).label)
    for ax, metric in zip(grid[0], PRINTED, strict=True):
        about = METRICS[metric]
        ax.set_title(f"{about.label}, {about.better} is better\n{'top-1 (%)' if about.unit == '%' else 'target logit'}")
    for ax in grid[-1]:
        ax.set_xlabel("share of the pixels")
    fig.suptitle(style.panel(str(shown[0][0]["model"]), str(shown[0][0]["dataset"])).replace("\n", ", "), fontsize=8)
    handles = {text: handle for ax in axes for handle, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=6)
    return fig


def draw(ax: Axes, group: Group, method: str, metric: str) -> None:
    """A method's mean curve, with the 95 % band of each of its points."""
    look, k = style.method(method), list(METRICS).index(metric)
    curves = np.stack([result.value.curves[method][:, k].numpy() for result in group])  # (trainings, n, 16)
    band = [mean_interval(curves[..., point]) for point in range(len(FRACTIONS))]
    ends = np.array([(found.low, found.high) for found in band]).T
    if METRICS[metric].unit == "%":
        ends = ends.clip(0, 100)
        ax.set_ylim(0, 102)
    ax.plot(FRACTIONS, curves.mean((0, 1)), color=look.color, ls=look.line, lw=1.1, label=look.label)
    ax.fill_between(FRACTIONS, *ends, color=look.color, alpha=0.13, lw=0)


# --- claims ---


def of_models(rows: pd.DataFrame, models: Sequence[str], **where: object) -> pd.DataFrame:
    """The rows of these architectures that have these values."""
    return select(rows[rows["model"].isin(models)], **where)


def above(metric: str) -> Criterion:
    """A difference in favour of the first method, and one that matters."""
    about = METRICS[metric]
    smallest = SMALLEST[about.unit]
    return better(smallest) if about.better == "higher" else Criterion(high=0.0, margin=smallest, smallest=smallest)


def no_worse(metric: str) -> Criterion:
    about = METRICS[metric]
    loss = LOSS[about.unit]
    return not_worse(loss) if about.better == "higher" else Criterion(high=loss, margin=loss)


def in_words(variant: str, models: Sequence[str]) -> str:
    prefix = {"regular": "regular ", "x": "X-", "wrapped": "wrapped ", "converted": "bias-free "}[variant]
    return " and ".join(f"{prefix}{style.model(model).label}" for model in models)


def best_claim(variant: str, method: str, metric: str, models: Sequence[str]) -> Claim:
    """``method`` is the best of the paper's methods by a metric."""
    rivals, about, of_paper = rivals_of(variant)[method], METRICS[metric], models == PAPER_MODELS
    own, *others = (REPORTED[variant, name][metric] for name in (method, *rivals))
    best = max(others) if about.better == "higher" else min(others)
    first, *further = (style.method(name).label for name in rivals)
    return Claim(
        id=f"{variant}-net-{'ig' if method == IG else method.replace('_', '-')}-{metric}{'' if of_paper else '-others'}",
        text=(
            f"On {in_words(variant, models)} {style.method(method).label} has a {about.better} {about.label} than "
            f"{', '.join([first, *further[:-1]])} and {further[-1]}"
        ),
        kind=Kind.EMPIRICAL,
        source="X-DNN Table 2" if of_paper else "X-DNN Sec. 4.2, extended",
        reported=f"{own:g} against {' / '.join(f'{value:g}' for value in others)}" if of_paper else "",
        metric=f"{metric}_minus_best",
        criterion=above(metric),
        evidence=partial(of_models, models=models, variant=variant, method=method, metric=f"{metric}_minus_best"),
        n_chosen=N_CHOSEN,
        effect=round(own - best, 2) if of_paper else None,
    )


def loss_claim(variant: str, metric: str, models: Sequence[str]) -> Claim:
    """X-Gradient on a homogeneous net is not worse than IG on the regular one by a metric."""
    about, of_paper = METRICS[metric], models == PAPER_MODELS
    own, regular = REPORTED["x", "x_gradient"][metric], REPORTED["regular", IG][metric]
    return Claim(
        id=f"{variant}-net-{metric}-loss{OF_MODELS.get(tuple(models), '')}",
        text=(
            f"X-Gradient on {in_words(variant, models)} is not worse by {about.label} than {style.method(IG).label} on "
            f"{in_words('regular', models)}, within a margin of {LOSS[about.unit]:g} {about.unit}"
        ),
        kind=Kind.EMPIRICAL,
        source="X-DNN Table 2" if of_paper else "X-DNN Sec. 4.2, extended",
        reported=f"{own:g} against {regular:g}" if of_paper else "",
        metric=f"{metric}_difference",
        criterion=no_worse(metric),
        evidence=partial(
            of_models, models=models, variant=variant, against=f"regular {IG}", metric=f"{metric}_difference"
        ),
        n_chosen=N_CHOSEN,
        effect=round(own - regular, 2) if of_paper else None,
    )


N_CHOSEN = "as many images as the time of the scale's run allows"
CONFIRMED = f"one image in {MapsProtocol.confirm_share}: two maps that differ by rounding need no more"
STUDY = Study(
    order=5,
    title="Attribution quality by mask metrics",
    question=(
        "Is X-Gradient, in one pass, as good an attribution as Integrated Gradients, and better than what else costs one pass?"
    ),
    source="X-DNN Sec. 4.2, Table 2",
    method=(
        "Pixels are ranked by the attribution's mean over channels. Keep shows the highest, Remove the lowest, of the "
        f"positive (P), negative (N) or absolute (A) values, at {len(FRACTIONS)} fractions from {FRACTIONS[0]:g} to "
        f"{FRACTIONS[-1]:g}; the rest is a Gaussian blur of the normalised image, standard deviation {BLUR_SIGMA:.2f} px on a "
        f"{2 * BLUR_RADIUS + 1} px window at {BLUR_SIDE} px (the released code's kernel), scaled in proportion at other sizes. "
        "KPM, KNM, RPM, RNM: area under the true class's logit; KAM, RAM: under top-1 accuracy in percent. EG draws one "
        "reference and one point per image. Means over images; differences are paired over images. Random, and IG on "
        f"homogeneous nets, where it only confirms X-Gradient, see one image in {MapsProtocol.confirm_share}; later path methods one "
        f"in {MapsProtocol.later_share}, of AlexNet only. Relative L1: sum|IG - IxG| / sum|IG| per image."
    ),
    differs=(
        "Other data and nets, so no value estimates the paper's. Each image has its own EG draw; the released code shares one "
        "in a batch of two. The arrows of RPM and RNM are ours, and weak: beyond the share of positive (negative) pixels, "
        "about half of the axis, Keep and Remove show the same picture, so these two reward a method with a low KPM (a high "
        "KNM). Nets that HomogeneousWrapper makes homogeneous are not in the paper."
    ),
    protocols=PROTOCOLS,
    tasks=tasks,
    rows=rows,
    table=table,
    figure=figure,
    claims=(
        Claim(
            id="x-gradient-is-ig",
            text=f"On X-DNNs X-Gradient and {style.method(IG).label} agree on all six mask metrics, to {EQUAL:g} %",
            kind=Kind.THEOREM,
            source="X-DNN Table 2",
            reported=" against ".join(
                " / ".join(f"{value:g}" for value in REPORTED["x", name].values()) for name in ("x_gradient", IG)
            ),
            metric="largest_difference",
            criterion=at_most(EQUAL),
            evidence=partial(select, variant="x", metric="largest_difference"),
            n_chosen=CONFIRMED,
        ),
        *(best_claim("regular", IG, metric, models) for models in MODELS for metric in PRINTED),
        *(best_claim("x", "x_gradient", metric, models) for models in MODELS for metric in PRINTED if metric != "ram"),
        best_claim("x", "gradient", "ram", PAPER_MODELS),
        *(loss_claim("x", "ram", models) for models in MODELS),
        Claim(
            id="wrapped-is-ig",
            text=(
                f"HomogeneousWrapper makes Input x Gradient {style.method(IG).label} on a pretrained net: relative L1 at "
                f"most {EQUAL:g} %"
            ),
            kind=Kind.THEOREM,
            source="X-DNN Prop. 3.2, extended",
            reported="",
            metric="distance",
            criterion=at_most(EQUAL / 100),
            evidence=partial(select, variant="wrapped", metric="distance"),
            n_chosen=CONFIRMED,
        ),
        *(loss_claim("wrapped", metric, models) for models in (RELU6_MODELS, RELU_MODELS) for metric in PRINTED),
        *(loss_claim("converted", metric, RELU_MODELS) for metric in PRINTED),
    ),
)
