"""What does a trained net lose when its biases are removed, layer by layer, and how far do a few images bring it back?"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from reproduce.claims import Claim, Kind, at_least, at_most, measured, not_worse, select
from reproduce.context import Context
from reproduce.datasets import DATASETS
from reproduce.datasets.images import Images
from reproduce.datasets.open_photographs import CONVERSION
from reproduce.experiment import Experiment
from reproduce.maps import batch_size
from reproduce.nets import Net, TrainedNet, by_training, conversion_task, net_task, test_images, untaught
from reproduce.report import figures, style
from reproduce.report.tables import Table, wide
from reproduce.statistics import Interval, difference_interval, mean_interval, share_interval
from reproduce.studies.table1 import POINTS
from reproduce.study import Study
from reproduce.tasks import Result, Task
from reproduce.training.distill import divergence
from xdnn import input_x_gradient, integrated_gradients, to_x_variant
from xdnn.homogeneity.rules import LINEAR
from xdnn.metrics.agreement import relative_l1

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Protocol:
    """What decides the numbers.

    Attributes:
        images: whose classes are predicted.
        every: so many layers more are stripped at each step; the last step strips all.
        compared: images on which Input x Gradient is held against IG, with ``ig_steps``.
    """

    images: int
    every: int = 1
    compared: int = 8
    ig_steps: int = 16


@dataclass(frozen=True)
class Stage:
    """One net on all images.

    Attributes:
        name: "original", "stripped" or "fine_tuned".
        layers: how many of the layers with biases lost them, the first ones.
        best: the five likeliest classes, (n, 5).
        divergence: from the original's probabilities, nats.
        distance: relative L1 of Input x Gradient to IG; of the original, of the net without any bias and fine-tuned.
    """

    name: str
    layers: int
    best: Tensor
    divergence: list[float]
    distance: list[float]


@dataclass(frozen=True)
class Measurement:
    """Of one net; ``unseen``: so many of the images, the first ones, the fine-tuned net did not learn from."""

    stages: list[Stage]
    targets: list[int]
    unseen: int


PROTOCOLS = {
    "smoke": {
        "smoke-digits/alexnet": Protocol(images=32, every=4, compared=2),
        "smoke-squeezenet": Protocol(images=10, every=13, compared=2),
    },
    "embedded": {
        "open-photographs": Protocol(images=100, every=3),
        "digits-on-photos/alexnet": Protocol(images=1_000),
    },
    "subset": {"open-photographs": Protocol(images=100), "cifar10/alexnet": Protocol(images=2_000)},
}
SAME = 0.001  # relative L1 that counts as rounding of float32
STAYS = 90.0  # percent of the images whose class must stay among the five likeliest

METRICS = {  # name -> (label, unit, better)
    "top1": ("Top-1 (%)", "%", "higher"),
    "top5": ("Top-5 (%)", "%", "higher"),
    "same1": ("same class as the original (%)", "%", "higher"),
    "same5": ("the original's class among the five likeliest (%)", "%", "higher"),
    "divergence": ("divergence from the original (nats)", "nats", "lower"),
    "distance": ("relative L1 of Input x Gradient to IG", "", "lower"),
}
Group = Sequence[Result[Net, Measurement]]  # of one net, a result for each training
Row = dict[str, object]


def tasks(context: Context, protocols: Mapping[str, Protocol]) -> list[Task[Net, Measurement]]:
    """The fine-tuned net is the ``converted`` one of the other studies."""
    out = []
    for net, protocol in context.nets(protocols):
        if net.variant == "regular":
            needs = (conversion_task(context, net),)
            out.append(net_task(context, "conversion", net, protocol, measure, Measurement, seconds=50, needs=needs))
    return out


# --- measuring ---


def measure(
    model: nn.Module, images: Images, protocol: Protocol, experiment: Experiment[Net, Protocol], converted: TrainedNet
) -> Measurement:
    total = len(layers_with_bias(model))
    look = partial(stage, model, images, protocol, experiment.device)
    found = [look("original", 0, model)]
    for count in [*range(protocol.every, total, protocol.every), total]:
        found.append(look("stripped", count, stripped(model, count)))
        experiment.progress(0.9 * count / total)
    tuned = to_x_variant(model)
    tuned.load_state_dict(converted.weights)
    found.append(look("fine_tuned", total, tuned))
    return Measurement(found, images.targets.tolist(), unseen(experiment, len(images)))


def unseen(experiment: Experiment[Net, Protocol], images: int) -> int:
    """How many of the first ``images`` test images the fine-tuned net has not learnt from."""
    recipe = DATASETS[experiment.about.dataset].conversion
    if recipe is None or experiment.about.weights == "trained":  # it has learnt from training images
        return images
    return min(images, untaught(len(test_images(experiment)), recipe))


def layers_with_bias(model: nn.Module) -> list[nn.Module]:
    """In the order in which the net lists them."""
    return [layer for layer in model.modules() if isinstance(layer, LINEAR) and layer.bias is not None]


def stripped(model: nn.Module, count: int) -> nn.Module:
    """A copy whose first ``count`` layers have lost their biases."""
    model = copy.deepcopy(model)
    for layer in layers_with_bias(model)[:count]:
        layer.register_parameter("bias", None)
    return model


def stage(
    original: nn.Module,
    images: Images,
    protocol: Protocol,
    device: torch.device,
    name: str,
    layers: int,
    model: nn.Module,
) -> Stage:
    size = batch_size(model, images, device)
    best, away, distance = [], [], []
    with torch.no_grad():
        for inputs, _ in images.batches(size, device):
            logits, before = model(inputs), original(inputs)
            best.append(logits.topk(min(5, logits.shape[1])).indices.cpu())
            away += divergence(before, logits).tolist()
    if name != "stripped" or not layers_with_bias(model):
        for inputs, targets in images.first(min(protocol.compared, len(images))).batches(size, device):
            reference = integrated_gradients(model, inputs, targets, steps=protocol.ig_steps)
            distance += relative_l1(reference, input_x_gradient(model, inputs, targets)).tolist()
    return Stage(name, layers, torch.cat(best), away, distance)


# --- rows ---


def rows(results: Sequence[Result[Net, Measurement]]) -> pd.DataFrame:
    """``seen``: "all" images, or "unseen" by the fine-tuned net; ``<metric>_change`` is paired to the stage in ``against``."""
    out: list[Row] = []
    for ids, group in by_training(results):
        out += [ids | found for found in net_rows(group)]
    return pd.DataFrame(out)


def net_rows(group: Group) -> Iterator[Row]:
    first = group[0].value
    last = len(first.stages) - 1
    for place, one in enumerate(first.stages):
        label = {"stage": one.name, "layers": one.layers}
        for seen, count in (("all", len(first.targets)), ("unseen", first.unseen)):
            if seen == "all" and one.name == "fine_tuned" and count > first.unseen:
                continue  # what it learnt from says nothing
            if seen == "unseen" and place not in (0, last - 1, last):
                continue
            found = {metric: samples(group, place, metric, count) for metric in METRICS if metric != "distance"}
            for metric, values in found.items():
                yield label | row(metric, interval_of(metric, values), seen)
            for other in {0, last - 1} - {place} if seen == "unseen" else ():
                against = first.stages[other].name
                for metric in ("top1", "top5", "divergence"):
                    change = difference_interval(found[metric], samples(group, other, metric, count))
                    yield label | row(f"{metric}_change", change, seen, against)
        if one.distance:
            seen = "unseen" if one.name == "fine_tuned" else "all"  # the first images are both
            yield label | row("distance", mean_interval([r.value.stages[place].distance for r in group]), seen)


def row(metric: str, interval: Interval, seen: str, against: str = "") -> Row:
    about = METRICS[metric.removesuffix("_change")]
    unit = "points" if against and about[1] == "%" else about[1]
    ids: Row = {"seen": seen, "against": against, "metric": metric, "unit": unit, "better": about[2]}
    return ids | interval.columns()


def samples(group: Group, place: int, metric: str, count: int) -> list[np.ndarray]:
    """A metric of a stage on the first ``count`` images, for each training."""
    out = []
    for result in group:
        one, value = result.value.stages[place], result.value
        if metric == "divergence":
            out.append(np.array(one.divergence[:count]))
            continue
        k = int(metric[-1])
        wanted = torch.tensor(value.targets) if metric.startswith("top") else value.stages[0].best[:, 0]
        hit = (one.best[:count, :k] == wanted[:count, None]).any(1)
        out.append(100.0 * hit.numpy())
    return out


def interval_of(metric: str, values: Sequence[np.ndarray]) -> Interval:
    """Wilson's of a share, which is not empty where all images agree; the usual one of a mean and of several trainings."""
    if metric == "divergence" or len(values) > 1:
        return mean_interval(values)
    share = share_interval([bool(value) for value in values[0]])
    return Interval(100 * share.value, 100 * share.low, 100 * share.high, share.n)


# --- table and figure ---


def table(rows: pd.DataFrame) -> Table:
    headings = {metric: label for metric, (label, _, _) in METRICS.items()}
    return wide(rows, ["dataset", "model", "width", "weights", "seen", "stage", "layers"], headings)


def figure(rows: pd.DataFrame, results: Sequence[Result[Net, Measurement]]) -> Figure:
    """Left, how many predictions stay when the first layers lose their biases; right, how far the probabilities move, and in the
    last place after fine-tuning on images that are not among these."""
    from matplotlib.lines import Line2D

    fig, (left, right) = figures.subplots(1, 2, height=3.0)
    shown = rows[rows["against"] == ""]
    for (model, _), part in shown.groupby(["model", "dataset"], sort=False):
        look = style.model(str(model))
        every = part[(part["seen"] == "all") & (part["stage"] != "fine_tuned")]
        for ax, metric, line in ((left, "same1", "-"), (left, "same5", ":"), (right, "divergence", "-")):
            found = every[every["metric"] == metric]
            x = 100 * found["layers"] / every["layers"].max()
            ax.plot(x, found["value"], color=look.color, ls=line, marker=look.marker, ms=3)
            ax.fill_between(x, found["low"].clip(lower=0), found["high"], color=look.color, alpha=0.12, lw=0)
        tuned = part[(part["stage"] == "fine_tuned") & (part["seen"] == "unseen") & (part["metric"] == "divergence")]
        right.plot([104] * len(tuned), tuned["value"], color=look.color, marker="*", ms=9)
    left.set(title="Predictions that stay (%)", xlabel="layers without biases (%)")
    right.set(title="Divergence from the original (nats)", xlabel="layers without biases (%)")
    nets = dict.fromkeys(zip(shown["model"], shown["dataset"], strict=True))
    looks = {style.panel(*net).replace("\n", ", "): style.model(net[0]) for net in nets}
    handles = [Line2D([], [], color=look.color, marker=look.marker, ms=3, label=name) for name, look in looks.items()]
    for label, line in (("the same class", "-"), ("among the five likeliest", ":")):
        handles.append(Line2D([], [], color=style.GREY, ls=line, label=f"left: {label}"))
    handles.append(
        Line2D([], [], color=style.GREY, marker="*", ms=9, ls="", label="right: fine-tuned, on other images")
    )
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    return fig


# --- claims ---


def converted(rows: pd.DataFrame, **where: object) -> pd.DataFrame:
    return select(rows[rows["weights"] == "package"], **where)


def without_biases(rows: pd.DataFrame) -> pd.DataFrame:
    """Nets of which every layer lost its bias, fine-tuned or not."""
    found = rows[(rows["stage"] != "original") & (rows["metric"] == "distance")]
    return measured(found, metric="distance")


def all_stripped(rows: pd.DataFrame) -> pd.DataFrame:
    found = converted(rows, stage="stripped", seen="all", metric="same5")
    return found[found["layers"] == found["layers"].max()]


N_CHOSEN = "all photographs that there are"
STUDY = Study(
    order=9,
    title="A trained net without its biases",
    question="What does stripping a trained net's biases cost, and how far does fine-tuning on a few images bring it back?",
    source="extends X-DNN Sec. 3, whose X-nets are trained without biases from scratch",
    method=(
        "The biases of the first layers are removed from the trained net, more at each step, and nothing else is changed. Each "
        "net is compared with the original: its accuracy, whether the predicted class stays, whether it stays among the five "
        "likeliest, and the Kullback-Leibler divergence of the probabilities. Then the net without any bias learns what the "
        f"original says, without labels: on {CONVERSION.steps} batches of {CONVERSION.batch} of {CONVERSION.taught} photographs, mirrored "
        "and moved; what is said of it is measured on the other photographs (of nets trained here: it learns from training "
        "images). It is the net of the other studies whose biases were removed. Intervals: 95 %, of shares by Wilson's formula. "
        "Input x Gradient against IG: relative L1 on a few images."
    ),
    differs=(
        "The paper does not strip trained nets. The photographs were chosen from images that classifiers get right: accuracies "
        "on them compare these nets with each other and estimate nothing on ImageNet."
    ),
    protocols=PROTOCOLS,
    tasks=tasks,
    rows=rows,
    table=table,
    figure=figure,
    claims=(
        Claim(
            id="converted-exact",
            text=f"Without any bias, fine-tuned or not, Input x Gradient is IG: relative L1 at most {SAME:g} in float32",
            kind=Kind.THEOREM,
            source="X-DNN Prop. 3.2",
            reported="",
            metric="distance",
            criterion=at_most(SAME),
            evidence=without_biases,
            n_chosen="a few images show rounding",
        ),
        Claim(
            id="predictions-stay",
            text=(
                "When a ReLU net trained on ImageNet loses all its biases, the class that it predicted stays among its five "
                f"likeliest for at least {STAYS:g} % of the photographs"
            ),
            kind=Kind.EMPIRICAL,
            source="extends X-DNN Sec. 3",
            reported="",
            metric="same5",
            criterion=at_least(STAYS),
            evidence=all_stripped,
            n_chosen=N_CHOSEN,
        ),
        Claim(
            id="stripping-cost",
            text=f"Stripping a ReLU net trained on ImageNet costs at most {POINTS:g} points of top-5 accuracy, as the paper's X-nets do",
            kind=Kind.EMPIRICAL,
            source="X-DNN Table 1, without training",
            reported="-0.67 / -0.19 / -1.44 points for X-nets trained from scratch",
            metric="top5_change",
            criterion=not_worse(POINTS),
            evidence=partial(converted, stage="stripped", against="original", metric="top5_change"),
            n_chosen=N_CHOSEN,
        ),
        Claim(
            id="few-images-help",
            text="Fine-tuning on a few unlabelled images brings the stripped net nearer to the original on images that it did not see",
            kind=Kind.EMPIRICAL,
            source="extends X-DNN Sec. 3",
            reported="",
            metric="divergence_change",
            criterion=at_most(0.0),
            evidence=partial(select, stage="fine_tuned", against="stripped", seen="unseen", metric="divergence_change"),
            n_chosen=N_CHOSEN,
        ),
    ),
)
