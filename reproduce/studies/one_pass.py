"""What does one pass buy, and what do 128? Quality of one-pass maps and of IG against their cost, about several baselines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from torch import Tensor, nn

from reproduce.claims import Claim, Criterion, Kind, at_most, measured, not_worse, select
from reproduce.context import Context
from reproduce.datasets.images import Images
from reproduce.experiment import Experiment
from reproduce.map_quality import BASELINES, Evaluation, Explain, Explained, at, with_passes
from reproduce.maps import IG, Maps, batch_size, maps_task
from reproduce.nets import Net, by_training, last_inputs, net_task, test_images
from reproduce.report import figures, style
from reproduce.report.tables import Table, wide
from reproduce.statistics import Interval, difference_interval, exact, mean_interval
from reproduce.studies.table2 import LOSS, PRINTED, hits, net_scores
from reproduce.studies.table2 import Measurement as MaskMeasurement
from reproduce.studies.table2 import Protocol as MaskProtocol
from reproduce.study import Study
from reproduce.tasks import Result, Task
from xdnn import (
    HomogeneousWrapper,
    adaptive_integrated_gradients,
    fit_radius,
    integrated_gradients,
    wrapped_x_gradient,
)
from xdnn.metrics import METRICS as LIBRARY
from xdnn.metrics.agreement import relative_l1
from xdnn.metrics.masks import METRICS as MASKS
from xdnn.metrics.masks import area as mask_area

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OWN, FITTED, MEAN = "wrapped_x_gradient", "wrapped_x_gradient_fixed", "wrapped_x_gradient_mean"
IXG, ADAPTIVE = "input_x_gradient", "adaptive_ig"


@dataclass(frozen=True)
class Protocol:
    """What decides the numbers.

    Attributes:
        images: test images of table2, whose maps of Input x Gradient and IG, and mask metrics of these, are taken over.
        explained: the first of them, which the further methods explain.
        steps: of the further IG maps.
        radii: times the fitted radius: the spheres that the mean map is taken over.
        each_radius: is each of them measured alone, too?
        adaptive: is IG with as many steps as each image needs measured?
        curve_steps: of insertion and deletion.
        baseline_images, baseline_steps: images that are explained from other baselines, and IG's steps there.
        pool: the last test images, whose median distance from zero is the fitted radius.
        predicted: images whose classes the wrapped nets predict, also at ``contrast`` times the normalised input.
        checked: images on which the closed form is held against IG of the wrapped net, with ``check_steps``.
    """

    images: int
    explained: int
    steps: tuple[int, ...] = (2, 4, 8, 16, 32, 64)
    radii: tuple[float, ...] = (0.5, 1.0, 2.0)
    each_radius: bool = True
    adaptive: bool = True
    curve_steps: int = 16
    baseline_images: int = 100
    baseline_steps: int = 64
    pool: int = 64
    predicted: int = 1_000
    contrast: float = 0.3
    checked: int = 2
    check_steps: int = 3


@dataclass(frozen=True)
class Measurement:
    """Of one net.

    Attributes:
        explained: by method and baseline.
        change: |F(x) - F(c)| of each image, by baseline.
        hits: factor of the fitted radius, "own" for each image's own -> is the class predicted? at full contrast, at low.
        distance_wrapped: by baseline, relative L1 of the closed form to IG of the wrapped net.
    """

    explained: list[Explained]
    change: dict[str, list[float]]
    hits: dict[str, list[list[bool]]]
    distance_wrapped: dict[str, list[float]]


_FEW = Protocol(
    images=32,
    explained=32,
    steps=(4, 16),
    each_radius=False,
    adaptive=False,
    curve_steps=8,
    baseline_images=6,
    baseline_steps=16,
    predicted=100,
)
PROTOCOLS = {
    "smoke": {
        "smoke-digits/alexnet": Protocol(10, 6, (4, 16), baseline_images=5, baseline_steps=4, pool=16, predicted=32),
        "smoke-squeezenet": Protocol(5, 5, (4, 16), baseline_images=5, baseline_steps=4, pool=16, predicted=8),
    },
    "embedded": {"digits-on-photos/alexnet": Protocol(images=250, explained=100), "open-photographs": _FEW},
    "subset": {"open-photographs": Protocol(images=48, explained=48, baseline_images=48, predicted=100)},
}
CURVES = ("insertion", "deletion")
COMPLETE = 0.1  # percent of the mean difference of logits that float32 may leave
SAME = 0.01  # relative L1 that counts as rounding of float32
# Margins of practical equivalence: of insertion and deletion those of mfaba-table1, in points of average precision.
AREA_LOSS = {"insertion": 0.005, "deletion": 0.002}
AP_LOSS = 1.0

Group = Sequence[Result[Net, Measurement]]  # of one net, a result for each training
Row = dict[str, object]


def tasks(context: Context, protocols: Mapping[str, Protocol]) -> list[Task[Net, Measurement]]:
    """Regular nets only: on homogeneous ones all of these maps are X-Gradient's."""
    out = []
    for net, protocol in context.nets(protocols):
        if net.variant == "regular":
            scored = net_scores(context, net, MaskProtocol(protocol.images))
            needs = (maps_task(context, net, protocol.images), scored)
            out.append(net_task(context, "one-pass", net, protocol, measure, Measurement, seconds=60, needs=needs))
    return out


# --- measuring ---


def measure(
    model: nn.Module,
    images: Images,
    protocol: Protocol,
    experiment: Experiment[Net, Protocol],
    made: Maps,
    scored: MaskMeasurement,
) -> Measurement:
    some = images.first(min(protocol.explained, len(images)))
    few = some.first(min(protocol.baseline_images, len(some)))
    radius = fit_radius(last_inputs(experiment, protocol.pool))
    evaluation = Evaluation(model, protocol.curve_steps, experiment.device)
    found = []
    for name, passes in ((IXG, 1), (IG, int(IG.rpartition("_")[2]))):
        maps, masks = made.maps[name][: len(some)], mask_area(scored.curves[name][: len(some)])
        found.append(evaluation.score(some, (name, "zero", 0.0), maps, [passes] * len(some), made.maps[IG], masks))
    experiment.progress(0.1)
    ways = methods(protocol, radius)
    for done, ((method, factor), explain) in enumerate(ways.items()):
        found.append(evaluation.score(some, (method, "zero", factor), *evaluation.make(some, explain), made.maps[IG]))
        experiment.progress(0.1 + 0.6 * (done + 1) / len(ways))
    for baseline in BASELINES[1:]:
        found += from_baseline(evaluation, few, baseline, protocol.baseline_steps)
    change = {c: evaluation.change(few if c != "zero" else some, c).abs().tolist() for c in BASELINES}
    experiment.progress(0.9)
    test = test_images(experiment)
    seen = test.first(min(protocol.predicted, len(test)))
    wrapped = predictions(evaluation, seen, protocol, radius)
    return Measurement(found, change, wrapped, check(evaluation, some, protocol, radius))


def methods(protocol: Protocol, radius: float) -> dict[tuple[str, float], Explain]:
    """Beside those of table2's maps, all from zero: (name, factor of the fitted radius) -> how it explains."""
    spheres = [factor * radius for factor in protocol.radii]
    out: dict[tuple[str, float], Explain] = {
        (OWN, 0.0): with_passes(1, wrapped_x_gradient),
        (MEAN, 0.0): with_passes(len(spheres), partial(wrapped_x_gradient, radius=spheres)),
    }
    if protocol.each_radius:
        for factor, sphere in zip(protocol.radii, spheres, strict=True):
            out[FITTED, factor] = with_passes(1, partial(wrapped_x_gradient, radius=sphere))
    for steps in protocol.steps:
        out[f"integrated_gradients_{steps}", 0.0] = with_passes(steps, partial(integrated_gradients, steps=steps))
    if protocol.adaptive:
        out[ADAPTIVE, 0.0] = adaptive_integrated_gradients
    return out


def from_baseline(evaluation: Evaluation, images: Images, baseline: str, steps: int) -> list[Explained]:
    """IG and the own radius from another baseline."""

    def ig(model: nn.Module, x: Tensor, t: Tensor) -> Tensor:
        return integrated_gradients(model, x, t, baseline=at(baseline, x, images), steps=steps)

    def own(model: nn.Module, x: Tensor, t: Tensor) -> Tensor:
        return wrapped_x_gradient(model, x, t, baseline=at(baseline, x, images))

    maps, passes = evaluation.make(images, with_passes(steps, ig))
    return [
        evaluation.score(images, (f"integrated_gradients_{steps}", baseline, 0.0), maps, passes, maps),
        evaluation.score(images, (OWN, baseline, 0.0), *evaluation.make(images, with_passes(1, own)), maps),
    ]


def predictions(
    evaluation: Evaluation, images: Images, protocol: Protocol, radius: float
) -> dict[str, list[list[bool]]]:
    """What the wrapped nets make of the images, and the net itself, which is what each image's own radius gives."""
    nets = {
        f"{factor:g}": HomogeneousWrapper(evaluation.model, factor * radius, offset=True) for factor in protocol.radii
    }
    size = batch_size(evaluation.model, images, evaluation.device)
    return {
        name: [hits(net, images, factor, size, evaluation.device) for factor in (1.0, protocol.contrast)]
        for name, net in {"own": evaluation.model, **nets}.items()
    }


def check(evaluation: Evaluation, images: Images, protocol: Protocol, radius: float) -> dict[str, list[float]]:
    """The closed form against IG of the wrapped net, one image at a time, since the wrapper has one baseline."""
    some = images.first(min(protocol.checked, len(images)))
    found: dict[str, list[float]] = {baseline: [] for baseline in BASELINES}
    for (x, t), baseline in ((batch, b) for batch in some.batches(1, evaluation.device) for b in BASELINES):
        c = at(baseline, x, images)
        wrapped = HomogeneousWrapper(evaluation.model, radius, c[:1], offset=True)
        reference = integrated_gradients(wrapped, x, t, baseline=c, steps=protocol.check_steps)
        closed = wrapped_x_gradient(evaluation.model, x, t, baseline=c, radius=radius)
        found[baseline] += relative_l1(reference, closed).tolist()
    return found


# --- rows ---


QUALITY = {name: MASKS[name] for name in PRINTED} | {name: LIBRARY[name] for name in (*CURVES, "ap")}


def rows(results: Sequence[Result[Net, Measurement]]) -> pd.DataFrame:
    """``radius``: times the fitted one. ``<metric>_difference`` is paired over images; ``against`` says to what."""
    out: list[Row] = []
    for ids, group in by_training(results):
        out += [ids | found for found in net_rows(group)]
    return pd.DataFrame(out)


def net_rows(group: Group) -> Iterator[Row]:
    first = group[0].value
    for place, one in enumerate(first.explained):
        of = [result.value.explained[place] for result in group]
        label = {"method": one.method, "baseline": one.baseline, "radius": one.radius or None}
        yield label | row("passes", "passes", "lower", mean_interval([e.passes for e in of]))
        yield label | row("distance", "", "lower", mean_interval([e.distance for e in of]))
        yield label | row("completeness_gap", "%", "lower", mean_interval(gaps(group, place)))
        for metric, about in QUALITY.items():
            if one.ap.numel() or metric != "ap":
                samples = [quality(e, metric) for e in of]
                yield label | row(metric, unit(metric), about.better, mean_interval(samples))
        yield from (label | found for found in against_others(group, place))
    yield from prediction_rows(group)
    for baseline in first.distance_wrapped:
        values = [value for result in group for value in result.value.distance_wrapped[baseline]]
        label = {"method": FITTED, "baseline": baseline, "radius": 1.0}
        yield label | row("distance_wrapped", "", "lower", exact(max(values), len(values)))


def row(metric: str, unit: str, better: str, interval: Interval, against: str = "") -> Row:
    return {"against": against, "metric": metric, "unit": unit, "better": better} | interval.columns()


def unit(metric: str) -> str:
    return "%" if metric == "ap" else QUALITY[metric].unit


def quality(one: Explained, metric: str) -> np.ndarray:
    """(n,)"""
    if metric in MASKS:
        return one.masks[:, list(MASKS).index(metric)].numpy()
    factor = 100 if metric == "ap" else 1
    values: Tensor = getattr(one, metric)
    return factor * values.numpy()


def gaps(group: Group, place: int) -> list[np.ndarray]:
    """Percent of the mean difference of logits."""
    out = []
    for result in group:
        one = result.value.explained[place]
        out.append(100 * np.array(one.gap) / np.mean(result.value.change[one.baseline][: len(one.gap)]))
    return out


def against_others(group: Group, place: int) -> Iterator[Row]:
    """The difference to IG with most steps from the same baseline, and from zero to Input x Gradient."""
    one = group[0].value.explained[place]
    same = [e for e in group[0].value.explained if e.baseline == one.baseline]
    names = {e.method for e in same if e.method.startswith("integrated_gradients")}
    most = max(names, key=lambda name: int(name.rpartition("_")[2]))
    for other in (most, IXG):
        at = [k for k, e in enumerate(group[0].value.explained) if (e.method, e.baseline) == (other, one.baseline)]
        for metric, about in QUALITY.items() if at and other != one.method else ():
            if one.ap.numel() or metric != "ap":
                pair = [[quality(r.value.explained[k], metric) for r in group] for k in (place, at[0])]
                yield row(f"{metric}_difference", unit(metric), about.better, difference_interval(*pair), other)


def prediction_rows(group: Group) -> Iterator[Row]:
    for name in group[0].value.hits:
        own = name == "own"
        label = {"method": OWN if own else FITTED, "baseline": "zero", "radius": None if own else float(name)}
        for k, metric in enumerate(("top1", "top1_contrast")):
            found, plain = (
                [100.0 * np.array(result.value.hits[which][k]) for result in group] for which in (name, "own")
            )
            yield label | row(metric, "%", "higher", mean_interval(found))
            if not own:
                yield label | row(f"{metric}_change", "points", "higher", difference_interval(found, plain), OWN)


# --- table and figure ---


def table(rows: pd.DataFrame) -> Table:
    headings = {"passes": "passes"} | {name: about.label for name, about in QUALITY.items()}
    headings["ap"] += " (%)"
    headings |= {"distance": "relative L1 to IG", "completeness_gap": "completeness gap (%)"}
    headings |= {"top1": "Top-1 (%)", "top1_contrast": f"Top-1 at contrast {Protocol(0, 0).contrast:g} (%)"}
    return wide(rows, ["dataset", "model", "width", "weights", "baseline", "method", "radius"], headings)


def figure(rows: pd.DataFrame, results: Sequence[Result[Net, Measurement]]) -> Figure:
    """Quality against passes from the zero baseline: the line is IG, the marks are what else one pass or a few can buy."""
    zero = rows[(rows["baseline"] == "zero") & (rows["against"] == "")]
    nets = list(dict.fromkeys(zip(zero["model"], zero["dataset"], strict=True)))
    shown = ("kpm", "ram", "insertion", "ap")
    fig, axes = figures.subplots(len(nets), len(shown), sharex=True, height=0.8 + 1.9 * len(nets))
    for line, (model, dataset) in zip(axes.reshape(len(nets), -1), nets, strict=True):
        part = zero[(zero["model"] == model) & (zero["dataset"] == dataset)]
        for ax, name in zip(line, shown, strict=True):
            metric = name if name in set(part["metric"]) else "distance"
            better = str(part[part["metric"] == metric]["better"].iloc[0])
            heading = QUALITY[metric].label if metric in QUALITY else "relative L1 to IG"
            draw(ax, part, metric)
            ax.set_title(f"{heading}\n{better} is better")
        line[0].set_ylabel(style.panel(str(model), str(dataset)))
    for ax in axes[-len(shown) :]:
        ax.set_xlabel("passes")
    handles = {text: handle for ax in axes for handle, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)
    return fig


def draw(ax: Axes, part: pd.DataFrame, metric: str) -> None:
    """A metric of every method over its passes: IG as a line with its band, the others with bars."""
    ids = ["method", "radius"]
    passes = part[part["metric"] == "passes"].set_index(ids)["value"]
    found = part[part["metric"] == metric].set_index(ids)
    found = found.assign(passes=passes.reindex(found.index)).sort_values("passes").reset_index()
    found = found[found["radius"].isna() | (found["radius"] == 1)]
    ladder = found["method"].str.startswith("integrated_gradients")
    ig, others = found[ladder], found[~ladder]
    look = style.method("integrated_gradients")
    ax.plot(ig["passes"], ig["value"], color=look.color, marker=look.marker, ms=3, lw=1.1, label=look.label)
    ax.fill_between(ig["passes"], ig["low"], ig["high"], color=look.color, alpha=0.12, lw=0)
    for one in others.itertuples():
        beside = others[others["passes"] == one.passes]["method"].tolist()  # as cheap: they share the place of one
        look = style.method(str(one.method))
        bars = [[max(0.0, one.value - one.low)], [max(0.0, one.high - one.value)]]
        where = one.passes * 2 ** (0.7 * (beside.index(one.method) - len(beside) + 1))
        ax.errorbar(where, one.value, yerr=bars, color=look.color, marker=look.marker, ms=4, lw=1, label=look.label)
    ax.set_xscale("log", base=2)
    ax.set_xticks([1, 4, 16, 128], ["1", "4", "16", "128"])
    ax.grid(axis="x", visible=False)


# --- claims ---


N_CHOSEN = "as many images as the time of the scale's run allows"


def margin(metric: str) -> Criterion:
    """No loss that matters."""
    loss = AP_LOSS if metric == "ap" else AREA_LOSS.get(metric) or LOSS[QUALITY[metric].unit]
    return not_worse(loss) if QUALITY[metric].better == "higher" else Criterion(high=loss, margin=loss)


def of_weights(rows: pd.DataFrame, weights: str, **where: object) -> pd.DataFrame:
    return select(rows[rows["weights"] == weights], baseline="zero", **where)


def claim(id: str, method: str, other: str, metric: str, weights: str, text: str) -> Claim:
    """``method`` is not worse than ``other`` by a metric."""
    allowed = margin(metric)
    return Claim(
        id=f"{id}-{metric}",
        text=f"{text} by {QUALITY[metric].label}, within a margin of {allowed.margin:g} {unit(metric)}".rstrip(),
        kind=Kind.EMPIRICAL,
        source="extends X-DNN Sec. 4.2",
        reported="",
        metric=f"{metric}_difference",
        criterion=allowed,
        evidence=partial(of_weights, weights=weights, method=method, against=other, metric=f"{metric}_difference"),
        n_chosen=N_CHOSEN,
    )


_IG, _IXG, _OWN = (style.method(name).label for name in (IG, IXG, OWN))
REAL, MADE = "On a ReLU net trained on ImageNet", "On digits-on-photos, whose truth is known,"
_P = Protocol(images=0, explained=0)
STUDY = Study(
    order=7,
    title="One pass or many",
    question="How much better are the maps of Integrated Gradients with more passes, and what is the best that one pass buys?",
    source=(
        "extends X-DNN Sec. 4.2 and 5. The wrapper is not new: Herbreteau et al. 2023 (2306.05037), Saied and Fleuret 2026 "
        "(2605.08193), and about zero the code of IDSDS (visinf/idsds, commit 22353d7); about any baseline: docs/theory.md. "
        "That IG is unique: Lundstrom et al. 2022 (2202.11912). Fewer steps: Bhat and Raychowdhury 2023 (2302.11107)"
    ),
    method=(
        f"Regular nets. From the zero baseline: {_IXG}, {_OWN} (the net's own predictions, complete by construction), one "
        f"fitted radius (the median distance of {_P.pool} other images), the mean of the maps at {_P.radii[0]:g}, "
        f"{_P.radii[1]:g} and {_P.radii[2]:g} times that radius, IG with 2 to 128 Gauss-Legendre steps, and IG with as many "
        "steps as each image needs. Passes: backward passes for each image; the wrapped maps take one forward pass at the "
        "baseline more. KPM, KNM, KAM, RAM as in table2, from whose run Input x Gradient and IG (128) are taken; insertion "
        "and deletion of pixels in one order, mean colour as substrate; on digits-on-photos average precision against the "
        "digit's mask. Distance: relative L1 of the maps, means over channels, to IG's. From black and from the blurred "
        "picture: the own radius against IG. The wrapped nets' accuracy is taken at full contrast and at "
        f"{_P.contrast:g} of it. Differences are paired over images; intervals: 95 %, over images and, where there are several, "
        "trainings."
    ),
    differs=(
        "The paper holds X-Gradient on X-nets against IG on regular ones; here both are on the regular net. The photographs "
        "of open-photographs were chosen from images that classifiers get right. They are few, so fewer steps and radii "
        "are measured there at the embedded scale."
    ),
    protocols=PROTOCOLS,
    tasks=tasks,
    rows=rows,
    table=table,
    figure=figure,
    claims=(
        Claim(
            id="own-radius-complete",
            text=(
                f"The attributions of {_OWN} sum to the difference of logits on any net, from any baseline: the mean gap is "
                f"at most {COMPLETE:g} %"
            ),
            kind=Kind.THEOREM,
            source="docs/theory.md",
            reported="",
            metric="completeness_gap",
            criterion=at_most(COMPLETE),
            evidence=partial(measured, method=OWN, metric="completeness_gap"),
            n_chosen="a few images show rounding",
        ),
        Claim(
            id="wrapped-is-ig",
            text=(
                "About any baseline IG of the wrapped net is its closed form of one pass: relative L1 at most "
                f"{100 * SAME:g} %"
            ),
            kind=Kind.THEOREM,
            source="docs/theory.md",
            reported="",
            metric="distance_wrapped",
            criterion=at_most(SAME),
            evidence=partial(measured, metric="distance_wrapped"),
            n_chosen="two images show rounding",
        ),
        *(
            claim("one-pass", IXG, IG, metric, "package", f"{REAL} {_IXG} is not worse than {_IG}")
            for metric in (*PRINTED, *CURVES)
        ),
        claim("one-pass", IXG, IG, "ap", "trained", f"{MADE} {_IXG} is not worse than {_IG}"),
        *(
            claim("own-radius", OWN, IXG, metric, "package", f"{REAL} {_OWN} is not worse than {_IXG}")
            for metric in (*PRINTED, *CURVES)
        ),
        claim("own-radius", OWN, IXG, "ap", "trained", f"{MADE} {_OWN} is not worse than {_IXG}"),
        claim(
            "few-steps",
            "integrated_gradients_16",
            IG,
            "kpm",
            "package",
            f"{REAL} IG with 16 steps is not worse than {_IG}",
        ),
        claim(
            "few-steps",
            "integrated_gradients_16",
            IG,
            "ap",
            "trained",
            f"{MADE} IG with 16 steps is not worse than {_IG}",
        ),
    ),
)
