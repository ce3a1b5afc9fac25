"""Attribution quality where the truth is known: the digit's mask of digits-on-photos, beside what the mask metrics say."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy
import torch
from torch import Tensor, nn

from reproduce.claims import Claim, Kind, not_worse, select
from reproduce.context import Context
from reproduce.datasets.images import Images
from reproduce.experiment import Experiment
from reproduce.maps import IG, LATER_METHODS, Maps, batch_size, homogeneous, maps_task, one_pass
from reproduce.maps import Protocol as MapsProtocol
from reproduce.nets import Net, by_training, last_inputs, net_task
from reproduce.report import figures, style
from reproduce.report.tables import Table, wide
from reproduce.statistics import Interval, difference_interval, mean_interval
from reproduce.studies.table2 import N_CHOSEN, PRINTED, net_of, net_scores
from reproduce.studies.table2 import Measurement as MaskMeasurement
from reproduce.studies.table2 import Protocol as MaskProtocol
from reproduce.study import Study
from reproduce.tasks import Result, Task
from xdnn import METHODS
from xdnn.metrics import METRICS, Metric, masks
from xdnn.metrics.faithfulness import RADIUS, SAMPLES, infidelity, max_sensitivity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Truth = dict[str, dict[str, dict[str, Tensor]]]  # view -> method -> metric -> (n,)


@dataclass(frozen=True)
class Protocol:
    """What decides the numbers, besides the maps and their mask metrics.

    Attributes:
        images: test images that are explained.
        infidelity_images: at most; 20 forward passes an image and method.
        sensitivity_images: at most; 11 attributions an image and method, of IG 1,408 passes.
        pool: references that EG's completeness is counted from: those that its maps were made with.
    """

    images: int
    infidelity_images: int = 60
    sensitivity_images: int = 3
    pool: int = MapsProtocol.pool


@dataclass(frozen=True)
class Measurement:
    """Of one net; all but ``truth`` are by method.

    Attributes:
        truth: view -> method -> metric -> values for each image, in 0..1.
        gaps: completeness gap in percent, (n,); of methods that claim a sum.
        infidelity, sensitivity: (n,).
        mask_means: the six mask metrics' means.
    """

    truth: Truth
    gaps: dict[str, Tensor]
    infidelity: dict[str, Tensor]
    sensitivity: dict[str, Tensor]
    mask_means: dict[str, Tensor]


PROTOCOLS = {
    "smoke": {"trained": Protocol(images=10, infidelity_images=5, sensitivity_images=1)},
    "embedded": {"trained": Protocol(images=100), "digits-on-photos/alexnet": Protocol(images=250)},
}
VIEWS = ("positive", "absolute")  # what ranks the pixels: the attribution, or its magnitude
MAIN_VIEW = "positive"  # relevance for the class, as Arras et al. pool it; both views are in the rows
PRIMARY = "ap"  # the truth's metric that decides claims: it looks at every pixel and at no threshold
COUNTED_FROM = ("zero", "references")  # baselines to whose output the completeness gap is measured
LOSS = 1.0  # points of PRIMARY, a margin of practical equivalence

Group = Sequence[Result[Net, Measurement]]  # of one net, a result for each training
Row = dict[str, object]


def truth_metrics() -> dict[str, Metric]:
    """The metrics against a true mask, a plugin's among them."""
    return {name: metric for name, metric in METRICS.items() if metric.kind == "mask"}


def tasks(context: Context, protocols: Mapping[str, Protocol]) -> list[Task[Net, Measurement]]:
    """The maps and their mask metrics are those of table2: one task for both studies where they explain as many images."""
    out = []
    for net, protocol in context.nets(protocols):
        scored = net_scores(context, net, MaskProtocol(protocol.images))
        needs = (maps_task(context, net, protocol.images), scored)
        out.append(net_task(context, "ground-truth", net, protocol, measure, Measurement, seconds=10, needs=needs))
    return out


def measure(
    model: nn.Module,
    images: Images,
    protocol: Protocol,
    experiment: Experiment[Net, Protocol],
    made: Maps,
    scored: MaskMeasurement,
) -> Measurement:
    truth = against_masks(made.maps, images)
    gaps = completeness(experiment, model, images, made.maps)
    experiment.progress(0.1)
    some = images.first(min(protocol.infidelity_images, len(images)))
    fidelity = {name: removals(experiment, model, some, m) for name, m in made.maps.items()}
    experiment.progress(0.4)
    few = images.first(min(protocol.sensitivity_images, len(images)))
    methods = [name for name in made.maps if name not in LATER_METHODS]
    stability = {name: shaken(experiment, model, few, name) for name in methods}
    means = {name: masks.area(curves).mean(0) for name, curves in scored.curves.items()}
    return Measurement(truth, gaps, fidelity, stability, means)


def against_masks(maps: Mapping[str, Tensor], images: Images) -> Truth:
    """Raises ValueError where nobody knows the pixels that decide."""
    if images.masks is None:
        raise ValueError("ground-truth needs images with masks of the pixels that decide")
    truth: Truth = {view: {name: {} for name in maps} for view in VIEWS}
    for view in VIEWS:
        for name, m in maps.items():
            shown = m.abs() if view == "absolute" else m
            for metric, about in truth_metrics().items():
                assert about.function is not None  # only metrics of the mask's kind are asked
                truth[view][name][metric] = about.function(shown, images.masks[: len(m)])
    return truth


@torch.no_grad()
def completeness(
    experiment: Experiment[Net, Protocol], model: nn.Module, images: Images, maps: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """|sum A - (F(x) - F(x'))| per image, in percent of the mean |F(x) - F(x')|; x' is zero, for EG the references."""
    device = experiment.device
    size = batch_size(model, images, device)
    logits = torch.cat([model(inputs).cpu() for inputs, _ in images.batches(size, device)])
    pool = last_inputs(experiment, experiment.protocol.pool)
    zero = model(torch.zeros_like(pool[:1])).cpu()
    mean = torch.cat([model(part).cpu() for part in pool.split(size)]).mean(0, keepdim=True)
    gaps = {}
    for name, m in maps.items():
        if METHODS[name].baseline in COUNTED_FROM:
            base = mean if METHODS[name].references else zero
            change = (logits - base).gather(1, images.targets[:, None]).squeeze(1)
            total = pool.shape[1] * m.flatten(1).sum(1)  # the maps are means over channels
            gaps[name] = 100 * (total - change[: len(m)]).abs() / change.abs().mean()
    return gaps


def removals(experiment: Experiment[Net, Protocol], model: nn.Module, images: Images, maps: Tensor) -> Tensor:
    """Infidelity, with the same squares for every method: the generator depends on the net only."""
    device, generator = experiment.device, experiment.generator("infidelity", experiment.about.label)
    size = max(1, batch_size(model, images, device) // SAMPLES)
    shown = images.first(min(len(images), len(maps)))
    parts = [
        infidelity(model, inputs, targets, part.to(device), generator=generator).cpu()
        for (inputs, targets), part in zip(shown.batches(size, device), maps[: len(shown)].split(size), strict=True)
    ]
    return torch.cat(parts)


def shaken(experiment: Experiment[Net, Protocol], model: nn.Module, images: Images, name: str) -> Tensor:
    """Max-sensitivity of a method."""
    net, pool = experiment.about, last_inputs(experiment, experiment.protocol.pool)
    own, noise = experiment.generator("sensitivity", net.label, name), experiment.generator("noise", net.label)
    explain = partial(METHODS[name], model, references=pool, generator=own)
    count = MapsProtocol(len(images), (name,)).count(name, net.variant)
    inputs, targets = next(images.first(count).batches(count, experiment.device))
    return max_sensitivity(explain, inputs, targets, generator=noise).cpu()


# --- rows ---


def rows(results: Sequence[Result[Net, Measurement]]) -> pd.DataFrame:
    """``view`` says what ranks the pixels, where that matters; ``against`` as in table2."""
    nets = by_training(results)
    regular = {net_of(ids): group for ids, group in nets if not homogeneous(str(ids["variant"]))}
    out = []
    for ids, group in nets:
        variant = str(ids["variant"])
        found = [*mean_rows(group), *rank_rows(group, variant)]
        if homogeneous(variant) and net_of(ids) in regular:
            found += against_regular(group, one_pass(variant), regular[net_of(ids)])
        out += [ids | row for row in found]
    return pd.DataFrame(out)


def row(method: str, metric: str, unit: str, better: str, interval: Interval, against: str = "", view: str = "") -> Row:
    ids = {"method": method, "metric": metric, "against": against, "view": view, "unit": unit, "better": better}
    return ids | interval.columns()


def percent(group: Group, view: str, method: str, metric: str) -> np.ndarray:
    """A method's scores against the truth, (trainings, n)."""
    return 100 * torch.stack([result.value.truth[view][method][metric] for result in group]).numpy()


def mean_rows(group: Group) -> Iterator[Row]:
    first = group[0].value
    for view, methods in first.truth.items():
        for name, found in methods.items():
            for metric in found:
                interval = mean_interval(percent(group, view, name, metric))
                yield row(name, metric, "%", truth_metrics()[metric].better, interval, view=view)
    for metric, unit, field in (
        ("completeness_gap", "%", "gaps"),
        ("infidelity", METRICS["infidelity"].unit, "infidelity"),
        ("max_sensitivity", "", "sensitivity"),
    ):
        for name in getattr(first, field):
            samples = [getattr(result.value, field)[name].numpy() for result in group]
            yield row(name, metric, unit, "lower", mean_interval(samples))


def rank_rows(group: Group, variant: str) -> Iterator[Row]:
    """Each method's mean rank (1 is best) by the paper's mask metrics and by the metrics against the truth, and what trusting
    the mask metrics costs: by PRIMARY, the method that they rank best against the one that is best.

    IG on a homogeneous net is X-Gradient, on fewer images: it is not ranked a second time. Nor are methods that were run on a
    few images ranked with those that were run on all.
    """
    twice = {IG} if homogeneous(variant) else set()
    names = [name for name in group[0].value.mask_means if name not in twice | set(LATER_METHODS)]
    by_mask = np.stack([mask_ranks(result.value, names) for result in group])  # (trainings, metrics, methods)
    by_truth = np.stack([truth_ranks(result.value, names) for result in group])
    for metric, ranks in (("mask_rank", by_mask), ("truth_rank", by_truth)):
        for k, name in enumerate(names):
            mean = mean_interval(ranks[:, :, k])
            yield row(name, metric, "", "lower", replace(mean, low=math.nan, high=math.nan))
    samples = {name: percent(group, MAIN_VIEW, name, PRIMARY) for name in names}
    chosen, best = names[int(by_mask.mean((0, 1)).argmin())], max(names, key=lambda name: float(samples[name].mean()))
    both = min(samples[chosen].shape[1], samples[best].shape[1])
    cost = difference_interval(samples[chosen][:, :both], samples[best][:, :both])
    yield row("best by mask metrics", f"{PRIMARY}_minus_best", "%", "higher", cost, "best by ground truth", MAIN_VIEW)


def mask_ranks(value: Measurement, names: Sequence[str]) -> np.ndarray:
    """(metrics, methods)"""
    columns = [list(masks.METRICS).index(metric) for metric in PRINTED]
    scores = torch.stack([value.mask_means[name][columns] for name in names], 1).numpy()
    signs = np.array([-1 if masks.METRICS[metric].better == "higher" else 1 for metric in PRINTED])
    return scipy.stats.rankdata(signs[:, None] * scores, axis=1)


def truth_ranks(value: Measurement, names: Sequence[str]) -> np.ndarray:
    """(metrics, methods)"""
    truth = value.truth[MAIN_VIEW]
    scores = np.array([[truth[name][metric].mean().item() for name in names] for metric in truth[names[0]]])
    signs = np.array([-1 if truth_metrics()[metric].better == "higher" else 1 for metric in truth[names[0]]])
    return scipy.stats.rankdata(signs[:, None] * scores, axis=1)


def against_regular(group: Group, method: str, regular: Group) -> Iterator[Row]:
    """X-Gradient on the homogeneous net against IG and against Input x Gradient on the regular net, paired over images."""
    for other in (IG, "input_x_gradient"):
        for view in VIEWS:
            for metric in group[0].value.truth[view][method]:
                pair = percent(group, view, method, metric), percent(regular, view, other, metric)
                better, interval = truth_metrics()[metric].better, difference_interval(*pair)
                yield row(method, f"{metric}_difference", "%", better, interval, f"regular {other}", view)


# --- table and figure ---


def table(rows: pd.DataFrame) -> Table:
    absolute = rows[(rows["view"] == "absolute") & (rows["metric"] == PRIMARY)]
    shown = pd.concat([rows[rows["view"].isin((MAIN_VIEW, ""))], absolute.assign(metric=f"{PRIMARY}_absolute")])
    headings = {name: f"{metric.label} (%)" for name, metric in truth_metrics().items()}
    headings |= {f"{PRIMARY}_absolute": f"{METRICS[PRIMARY].label} of |.| (%)"}
    headings |= {"completeness_gap": "completeness gap (%)"}
    headings |= {name: METRICS[name].label for name in ("infidelity", "max_sensitivity")}
    headings |= {"mask_rank": "rank by mask metrics", "truth_rank": "rank by ground truth"}
    return wide(shown, ["dataset", "model", "width", "weights", "variant", "method"], headings)


def figure(rows: pd.DataFrame, results: Sequence[Result[Net, Measurement]]) -> Figure:
    """Above, how well each method finds the truth, with intervals; below, its mean rank by that and by the mask metrics."""
    rows = rows[~rows["method"].isin(LATER_METHODS)]
    nets = list(dict.fromkeys(zip(rows["model"], rows["dataset"], strict=True)))
    fig, axes = figures.subplots(2, len(nets), height=5.0, sharex="row", sharey="row")
    above, below = axes.reshape(2, len(nets))
    quality = select(rows, metric=PRIMARY, view=MAIN_VIEW)
    methods = list(dict.fromkeys(quality["method"]))
    for i, (model, dataset) in enumerate(nets):
        here = (rows["model"] == model) & (rows["dataset"] == dataset)
        draw_quality(above[i], select(rows[here], metric=PRIMARY, view=MAIN_VIEW), methods)
        draw_ranks(below[i], rows[here])
        above[i].set_title(style.panel(str(model), str(dataset)))
        above[i].set_xlabel(f"{METRICS[PRIMARY].label} (%)")
        below[i].set_xlabel("mean rank by mask metrics")
    above[0].set_yticks(range(len(methods)), [style.method(name).label for name in methods])
    above[0].invert_yaxis()
    below[0].set_ylabel("mean rank by ground truth")
    above[0].set_xlim(left=0)
    found = {text: handle for ax in below for handle, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(
        found.values(),
        found.keys(),
        loc="outside lower center",
        ncols=len(found),
        title="hollow: regular net, filled: X-variant; grey line: the same mean rank by both, 1 is best",
    )
    return fig


def draw_quality(ax: Axes, rows: pd.DataFrame, methods: Sequence[str]) -> None:
    """A line for each method, the regular net a little above its variant; chance is where Random lies."""
    for row in rows.itertuples():
        look, place = style.method(str(row.method)), methods.index(str(row.method))
        ax.errorbar(
            row.value,
            place + (0.15 if homogeneous(str(row.variant)) else -0.15),
            xerr=[[row.value - row.low], [row.high - row.value]],
            color=look.color,
            mfc=figures.face(str(row.variant), look.color),
            marker="o",
            ms=4,
            lw=1,
        )


def draw_ranks(ax: Axes, rows: pd.DataFrame) -> None:
    ids = ["variant", "method"]
    by_mask, by_truth = (select(rows, metric=metric).set_index(ids)["value"] for metric in ("mask_rank", "truth_rank"))
    ends = (0.8, by_mask.max() + 0.2)
    ax.plot(ends, ends, color=style.GREY, lw=0.6, zorder=0)
    for (variant, method), rank in by_mask.items():
        look = style.method(method)
        ax.plot(
            rank,
            by_truth[variant, method],
            "o",
            color=look.color,
            mfc=figures.face(variant, look.color),
            label=look.label,
        )


# --- claims ---


def not_worse_claim(other: str) -> Claim:
    label = style.method(other).label
    return Claim(
        id=f"x-not-worse-than-regular-{'ig' if other == IG else other.replace('_', '-')}",
        text=(
            f"X-nets do not lose quality: against the true mask X-Gradient is not worse than {label} on the regular net, by "
            f"{METRICS[PRIMARY].label} within a margin of {LOSS:g} point"
        ),
        kind=Kind.EMPIRICAL,
        source="X-DNN Sec. 4.2, extended",
        reported="",
        metric=f"{PRIMARY}_difference",
        criterion=not_worse(LOSS),
        evidence=partial(
            select, variant="x", metric=f"{PRIMARY}_difference", against=f"regular {other}", view=MAIN_VIEW
        ),
        n_chosen=N_CHOSEN,
    )


STUDY = Study(
    order=6,
    title="Attribution quality against ground truth",
    question="Do attributions find the pixels that decide the class, and do the mask metrics prefer those that do?",
    source="extends X-DNN Sec. 4.2; metrics of Arras, Osman, Samek 2022 and Yeh et al. 2019",
    method=(
        "The maps of table2 against the digit's mask. Positive relevance, mean over channels: the share that lies in the mask "
        "(mass accuracy), the share of the K highest pixels in a mask of K (rank accuracy), whether the highest pixel is in it "
        "(pointing game), and average precision, also of the magnitudes. Ties count as chance. Completeness gap: |sum A - "
        "(F(x) - F(x'))| in percent of the mean |F(x) - F(x')|; x' is zero, for EG the mean over its references. captum's "
        f"infidelity: {SAMPLES} squares a quarter of the side set to zero, attribution scaled to fit, first "
        f"{Protocol.infidelity_images} images; captum's max-sensitivity: {SAMPLES} draws of uniform noise +-{RADIUS}, first "
        f"{Protocol.sensitivity_images} images. Ranks: means over the paper's {len(PRINTED)} mask metrics, and over those "
        f"against the truth. Later path methods see one in {MapsProtocol.later_share} of AlexNet's images and are not ranked. "
        f"Claims are decided by {METRICS[PRIMARY].label}; differences are paired over images."
    ),
    differs="The paper has no ground truth; the mask metrics are all that it measures quality by.",
    protocols=PROTOCOLS,
    tasks=tasks,
    rows=rows,
    table=table,
    figure=figure,
    claims=(
        not_worse_claim(IG),
        not_worse_claim("input_x_gradient"),
        Claim(
            id="mask-metrics-find-the-best",
            text=(
                "The method that the mask metrics rank best finds the true mask as well as the best method does, by "
                f"{METRICS[PRIMARY].label} within a margin of {LOSS:g} point"
            ),
            kind=Kind.EMPIRICAL,
            source="ours",
            reported="",
            metric=f"{PRIMARY}_minus_best",
            criterion=not_worse(LOSS),
            evidence=partial(select, metric=f"{PRIMARY}_minus_best"),
            n_chosen=N_CHOSEN,
        ),
    ),
)
