"""Single deletion, in and out of domain (Hesse et al. 2024): a score of attributions that can be compared across nets."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy
import torch
from torch import Tensor, nn

from reproduce.claims import Claim, Kind, better, not_worse, select
from reproduce.context import Context
from reproduce.datasets.images import Images
from reproduce.experiment import Experiment
from reproduce.maps import batch_size, homogeneous, one_pass
from reproduce.nets import ON_OTHER_IMAGES, Net, TrainedNet, by_training, last_inputs, net_task
from reproduce.report import figures, style
from reproduce.report.tables import Table, wide
from reproduce.statistics import Interval, difference_interval, exact, mean_interval
from reproduce.study import Study
from reproduce.tasks import Result, Task
from reproduce.training.in_domain import RATE, SHARE, fine_tuning_task
from xdnn import METHODS, integrated_gradients
from xdnn.attributions.method import Method
from xdnn.metrics.accuracy import topk_hits
from xdnn.metrics.localisation import average_precision
from xdnn.metrics.single_deletion import GRID, logit_drops, patch_sums, rank_correlation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

IXG, XG, OWN = "input_x_gradient", "x_gradient", "wrapped_x_gradient"
CHEAP = ("random", "gradient", "expected_gradients_1")  # on all nets, beside Input x Gradient or X-Gradient


@dataclass(frozen=True)
class Protocol:
    """What decides the numbers.

    Attributes:
        images: test images that are explained; 17 forward passes each, twice where the net is fine-tuned.
        ig_steps: of IG on regular nets.
        epochs: of fine-tuning on images with holes; 0: the net is left as it is.
        pool: references of EG: the last test images.
    """

    images: int
    ig_steps: int = 128
    epochs: int = 1
    pool: int = 256


@dataclass(frozen=True)
class Scores:
    """Of one net, by method for each image.

    Attributes:
        correlation: of the attribution's sums over patches with the logit's drops, -1..1.
        ap: average precision against the true mask; no method where there is none.
    """

    top1: list[bool]
    correlation: dict[str, Tensor]
    ap: dict[str, Tensor]


@dataclass(frozen=True)
class Measurement:
    """Stage -> scores: "trained" as it is, and "in_domain" where it was fine-tuned."""

    stages: dict[str, Scores]


PROTOCOLS = {
    "smoke": {
        "smoke-digits": Protocol(images=10, ig_steps=16, pool=16),
        "smoke-squeezenet": Protocol(images=5, ig_steps=4, epochs=0, pool=16),
    },
    "embedded": {
        "digits-on-photos/alexnet": Protocol(images=200),
        "open-photographs": Protocol(images=64, ig_steps=16, epochs=0, pool=36),
    },
    "subset": {
        "trained": Protocol(images=500),
        "open-photographs": Protocol(images=64, epochs=0, pool=36),
        "released": Protocol(images=500, epochs=0),
    },
    "paper": {"released": Protocol(images=2_000, epochs=0)},
}
STAGES = {"trained": "single_deletion", "in_domain": "idsds"}  # stage -> the score's name
MARGIN = 0.05  # of a rank correlation
AP_MARGIN = 1.0  # points

Group = Sequence[Result[Net, Measurement]]  # of one net, a result for each training
Row = dict[str, object]


def tasks(context: Context, protocols: Mapping[str, Protocol]) -> list[Task[Net, Measurement]]:
    out = []
    for net, protocol in context.nets(protocols):
        tuned = net.weights == "trained" and protocol.epochs > 0
        needs = (fine_tuning_task(context, net, protocol.epochs),) if tuned else ()
        out.append(net_task(context, "idsds", net, protocol, measure, Measurement, seconds=30, needs=needs))
    return out


# --- measuring ---


def measure(
    model: nn.Module,
    images: Images,
    protocol: Protocol,
    experiment: Experiment[Net, Protocol],
    *tuned: TrainedNet,
) -> Measurement:
    nets = {"trained": model}
    for weights in tuned:
        nets["in_domain"] = copy.deepcopy(model)
        nets["in_domain"].load_state_dict(weights.weights)
    found = {}
    for done, (stage, net) in enumerate(nets.items()):
        found[stage] = scores(net, images, experiment)
        experiment.progress((done + 1) / len(nets))
    return Measurement(found)


def methods(variant: str, ig_steps: int) -> dict[str, Method]:
    """Those that are defined on nets of a variant. On a homogeneous one IG and the own radius are X-Gradient."""
    names = (*CHEAP, one_pass(variant), *(() if homogeneous(variant) else (OWN,)))
    found = {name: METHODS[name] for name in names}
    if not homogeneous(variant):
        ig = partial(integrated_gradients, steps=ig_steps)
        found[f"integrated_gradients_{ig_steps}"] = Method(ig, ig_steps, f"IG ({ig_steps})", baseline="zero")
    return found


def scores(model: nn.Module, images: Images, experiment: Experiment[Net, Protocol]) -> Scores:
    net, pool = experiment.about, last_inputs(experiment, experiment.protocol.pool)
    chosen = methods(net.variant, experiment.protocol.ig_steps)
    generators = {name: experiment.generator("idsds", net.label, name) for name in chosen}
    top1: list[bool] = []
    sums: dict[str, list[Tensor]] = {name: [] for name in chosen}
    maps: dict[str, list[Tensor]] = {name: [] for name in chosen}
    drops = []
    for inputs, targets in images.batches(batch_size(model, images, experiment.device), experiment.device):
        with torch.no_grad():
            top1 += topk_hits(model(inputs), targets).tolist()
        drops.append(logit_drops(model, inputs, targets).cpu())
        for name, method in chosen.items():
            found = method(model, inputs, targets, references=pool, generator=generators[name])
            sums[name].append(patch_sums(found).cpu())
            maps[name].append(found.mean(1).cpu())
    correlation = {name: rank_correlation(torch.cat(parts), torch.cat(drops)) for name, parts in sums.items()}
    ap = {}
    if images.masks is not None:
        ap = {name: average_precision(torch.cat(parts), images.masks) for name, parts in maps.items()}
    return Scores(top1, correlation, ap)


# --- rows ---


def rows(results: Sequence[Result[Net, Measurement]]) -> pd.DataFrame:
    """``single_deletion`` of a net as it is, ``idsds`` of one that was fine-tuned, ``<metric>_in_domain`` what goes with it.

    A row of ``<metric>_difference`` is paired over images; ``against`` says to what, of the same net or of the regular one.
    """
    nets = by_training(results)
    regular = {net_of(ids): group for ids, group in nets if not homogeneous(str(ids["variant"]))}
    out: list[Row] = []
    for ids, group in nets:
        for stage in group[0].value.stages:
            found = [*stage_rows(group, stage), *within(group, stage, str(ids["variant"]))]
            if homogeneous(str(ids["variant"])) and net_of(ids) in regular:
                found += across(group, regular[net_of(ids)], stage, one_pass(str(ids["variant"])))
            out += [ids | one for one in found]
    return pd.DataFrame(out)


def net_of(ids: Mapping[str, object]) -> tuple[object, ...]:
    """What a net and its variants share."""
    return tuple(value for name, value in ids.items() if name != "variant")


def row(method: str, metric: str, unit: str, interval: Interval, against: str = "") -> Row:
    ids: Row = {"method": method, "against": against, "metric": metric, "unit": unit, "better": "higher"}
    return ids | interval.columns()


def of(group: Group, stage: str, method: str) -> list[np.ndarray]:
    """A method's correlations, (n,) for each training."""
    return [result.value.stages[stage].correlation[method].numpy() for result in group]


def precision(group: Group, stage: str, method: str) -> list[np.ndarray]:
    return [100 * result.value.stages[stage].ap[method].numpy() for result in group]


def named(stage: str, metric: str) -> str:
    return metric if stage == "trained" else f"{metric}_in_domain"


def stage_rows(group: Group, stage: str) -> Iterator[Row]:
    first = group[0].value.stages[stage]
    hits = [100.0 * np.array(result.value.stages[stage].top1) for result in group]
    yield row("", named(stage, "top1"), "%", mean_interval(hits))
    for method in first.correlation:
        yield row(method, STAGES[stage], "", mean_interval(of(group, stage, method)))
        if first.ap:
            yield row(method, named(stage, "ap"), "%", mean_interval(precision(group, stage, method)))


def most_steps(group: Group, stage: str) -> str:
    """IG's name there."""
    return next(name for name in group[0].value.stages[stage].correlation if name.startswith("integrated_gradients"))


def within(group: Group, stage: str, variant: str) -> Iterator[Row]:
    """Methods of one net against each other, and the score against the truth."""
    metric, first = STAGES[stage], group[0].value.stages[stage]
    if not homogeneous(variant):
        for method, other in ((IXG, most_steps(group, stage)), (OWN, most_steps(group, stage)), (OWN, IXG)):
            interval = difference_interval(of(group, stage, method), of(group, stage, other))
            against = "IG" if other != IXG else other
            yield row(method, f"{metric}_difference", "", interval, against)
    if first.ap:
        by_score = {name: np.mean(of(group, stage, name)) for name in first.correlation}
        by_truth = {name: np.mean(precision(group, stage, name)) for name in first.ap}
        agreement = scipy.stats.spearmanr(list(by_score.values()), list(by_truth.values())).statistic
        yield row("", f"{metric}_agreement", "", exact(float(agreement), len(by_score)))
        chosen, best = (max(means, key=lambda name: float(means[name])) for means in (by_score, by_truth))
        cost = difference_interval(precision(group, stage, chosen), precision(group, stage, best))
        yield row(f"best by {metric}", f"{named(stage, 'ap')}_minus_best", "%", cost, "best by ground truth")


def across(group: Group, regular: Group, stage: str, method: str) -> Iterator[Row]:
    """X-Gradient on a homogeneous net against one pass and IG on the regular net."""
    if stage not in regular[0].value.stages:
        return
    for other, against in ((IXG, f"regular {IXG}"), (most_steps(regular, stage), "regular IG")):
        own = of(group, stage, method)
        base = [values[: len(own[0])] for values in of(regular, stage, other)]  # a converted net sees fewer images
        yield row(method, f"{STAGES[stage]}_difference", "", difference_interval(own, base), against)


# --- table and figure ---


def table(rows: pd.DataFrame) -> Table:
    headings = {"single_deletion": "single deletion", "idsds": "IDSDS", "ap": "average precision (%)"}
    headings |= {"ap_in_domain": "average precision, in domain (%)", "top1": "Top-1 (%)"}
    headings |= {"top1_in_domain": "Top-1, in domain (%)"}
    shown = rows.assign(method=rows["method"].replace("", "the net itself"))
    return wide(shown, ["dataset", "model", "width", "weights", "variant", "method"], headings)


def figure(rows: pd.DataFrame, results: Sequence[Result[Net, Measurement]]) -> Figure:
    """Each method's rank correlation with what deleting a patch does, in domain where the net was fine-tuned; hollow: regular."""
    nets = list(dict.fromkeys(zip(rows["model"], rows["dataset"], strict=True)))
    fig, axes = figures.subplots(1, len(nets), sharex=True, sharey=True, height=2.9)
    scored = rows[rows["metric"].isin(list(STAGES.values()))]
    known = dict.fromkeys(scored["method"])
    names = list(dict.fromkeys("IG" if name.startswith("integrated_gradients") else name for name in known))
    for ax, (model, dataset) in zip(axes, nets, strict=True):
        part = scored[(scored["model"] == model) & (scored["dataset"] == dataset)]
        metric = "idsds" if "idsds" in set(part["metric"]) else "single_deletion"
        draw(ax, part[part["metric"] == metric], names)
        heading = {"idsds": "IDSDS", "single_deletion": "single deletion"}[metric]
        ax.set_title(style.panel(str(model), str(dataset)))
        ax.set_xlabel(heading)
    labels = [style.method("integrated_gradients" if name == "IG" else name).label for name in names]
    axes[0].set_yticks(range(len(names)), labels)
    axes[0].invert_yaxis()
    handles = {text: handle for ax in axes for handle, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)
    return fig


def draw(ax: Axes, part: pd.DataFrame, names: Sequence[str]) -> None:
    """A line for each method, the variants beside each other."""
    variants = list(dict.fromkeys(part["variant"]))
    for one in part.itertuples():
        look = style.variant(str(one.variant))
        name = "IG" if str(one.method).startswith("integrated_gradients") else str(one.method)
        place = names.index(name) + 0.18 * (variants.index(one.variant) - (len(variants) - 1) / 2)
        bars = [[max(0.0, one.value - one.low)], [max(0.0, one.high - one.value)]]
        marks: dict[str, Any] = {
            "color": look.color,
            "mfc": figures.face(str(one.variant), look.color),
            "marker": look.marker,
            "ms": 4,
            "lw": 1,
            "ls": "none",
        }
        ax.errorbar(one.value, place, xerr=bars, label=look.label, **marks)
    ax.axvline(0, color=style.GREY, lw=0.6)


# --- claims ---


N_CHOSEN = "as many images as the time of the scale's run allows"
_HESSE = "Hesse et al. 2024"
_IXG, _XG, _OWN = (style.method(name).label for name in (IXG, XG, OWN))


def of_package(rows: pd.DataFrame, **where: object) -> pd.DataFrame:
    return select(rows[rows["weights"] == "package"], metric="single_deletion_difference", **where)


STUDY = Study(
    order=8,
    title="Attribution quality across nets by single deletion",
    question="By a score that compares across nets, are the attributions of X-nets better than those of regular ones?",
    source="Hesse, Schaub-Meyer, Roth 2024 (IDSDS, arXiv 2407.11910)",
    method=(
        f"The image is divided into {GRID} x {GRID} patches. The drop of the true class's logit when a patch is set to 0 of the "
        f"normalised input ({GRID**2 + 1} forward passes) is compared with the sum of the raw attribution over the patch: "
        "Spearman's correlation over the patches, and the mean over images. A constant ranks nothing and counts as 0. Single "
        f"deletion: on the net as it is. IDSDS: on a net that was trained for {Protocol.epochs} epoch more, at "
        f"{RATE:g} of its learning rate, on images of which about {100 * SHARE:g} % lack a random patch; only nets whose training "
        "is ours are fine-tuned. On digits-on-photos the methods' ranking is held against average precision in the digit's "
        "mask. Differences are paired over images; intervals: 95 %, over images and, where there are several, trainings. "
        + ON_OTHER_IMAGES
    ),
    differs=(
        "The paper fine-tunes for 30 epochs on ImageNet. Where the side is no multiple of the grid its code leaves the last "
        "pixels out; here some patches are a pixel larger."
    ),
    protocols=PROTOCOLS,
    tasks=tasks,
    rows=rows,
    table=table,
    figure=figure,
    claims=(
        Claim(
            id="x-net-gains",
            text=f"By IDSDS {_XG} on X-nets is better than {_IXG} on regular nets",
            kind=Kind.EMPIRICAL,
            source=_HESSE,
            reported="intrinsically explainable nets and nets without biases score higher",
            metric="idsds_difference",
            criterion=better(MARGIN),
            evidence=partial(select, variant="x", against=f"regular {IXG}", metric="idsds_difference"),
            n_chosen=N_CHOSEN,
        ),
        Claim(
            id="x-net-not-worse-than-ig",
            text=f"By IDSDS {_XG} on X-nets is not worse than IG on regular nets, within a margin of {MARGIN:g}",
            kind=Kind.EMPIRICAL,
            source=_HESSE,
            reported="",
            metric="idsds_difference",
            criterion=not_worse(MARGIN),
            evidence=partial(select, variant="x", against="regular IG", metric="idsds_difference"),
            n_chosen=N_CHOSEN,
        ),
        Claim(
            id="idsds-finds-the-best",
            text=(
                "The method that IDSDS ranks best finds the true mask as well as the best method does, by average precision "
                f"within a margin of {AP_MARGIN:g} point"
            ),
            kind=Kind.EMPIRICAL,
            source="extends Hesse et al. 2024",
            reported="",
            metric="ap_in_domain_minus_best",
            criterion=not_worse(AP_MARGIN),
            evidence=partial(select, metric="ap_in_domain_minus_best"),
            n_chosen=N_CHOSEN,
        ),
        Claim(
            id="one-pass-real-net",
            text=(
                f"On a ReLU net trained on ImageNet {_IXG} is not worse than IG by single deletion, within a margin of {MARGIN:g}"
            ),
            kind=Kind.EMPIRICAL,
            source="extends X-DNN Sec. 4.2",
            reported="",
            metric="single_deletion_difference",
            criterion=not_worse(MARGIN),
            evidence=partial(of_package, variant="regular", method=IXG, against="IG"),
            n_chosen=N_CHOSEN,
        ),
        Claim(
            id="own-radius-real-net",
            text=(
                f"On a ReLU net trained on ImageNet {_OWN} is not worse than {_IXG} by single deletion, within a margin of "
                f"{MARGIN:g}"
            ),
            kind=Kind.EMPIRICAL,
            source="extends X-DNN Sec. 4.2",
            reported="",
            metric="single_deletion_difference",
            criterion=not_worse(MARGIN),
            evidence=partial(of_package, variant="regular", method=OWN, against=IXG),
            n_chosen=N_CHOSEN,
        ),
        Claim(
            id="converted-real-net",
            text=(
                f"Without the biases of a net trained on ImageNet {_XG} is not worse than IG on the net with them, by single "
                f"deletion within a margin of {MARGIN:g}"
            ),
            kind=Kind.EMPIRICAL,
            source="extends X-DNN Sec. 4.2",
            reported="",
            metric="single_deletion_difference",
            criterion=not_worse(MARGIN),
            evidence=partial(of_package, variant="converted", against="regular IG"),
            n_chosen=N_CHOSEN,
        ),
    ),
)
