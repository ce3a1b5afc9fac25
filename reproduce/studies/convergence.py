"""How many steps Integrated Gradients needs, how many references Expected Gradients (X-DNN supplement, 128-step choice)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reproduce.claims import Claim, Kind, at_most, between, measured, select
from reproduce.context import Context
from reproduce.datasets.images import Images
from reproduce.experiment import Experiment
from reproduce.nets import Net, by_training, last_inputs, net_task
from reproduce.quadrature import integrate, merge, steps_needed
from reproduce.report import figures, style
from reproduce.report.tables import Table, wide
from reproduce.statistics import (
    Interval,
    count_interval,
    jackknife_interval,
    log_log_slope,
    mean_interval,
    ratio_interval,
)
from reproduce.study import Study
from reproduce.tasks import Result, Task
from xdnn import QUADRATURES, expected_gradients, input_x_gradient
from xdnn.logits import target_logits
from xdnn.memory_format import match_format
from xdnn.metrics.agreement import relative_l1

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Protocol:
    """What decides the numbers.

    Attributes:
        images: test images that are explained.
        rules: of IG, keys of QUADRATURES.
        eg: is EG measured, too?
        steps: of IG, and references of EG, each of which divides the largest.
        reference_steps: Gauss-Legendre steps of the IG that all others are held against; the paper's.
        reference_samples: references of the EG that the others are held against.
        pool: images that references are drawn from: the last of the test split, so none is explained.
    """

    images: int
    rules: tuple[str, ...] = tuple(QUADRATURES)
    eg: bool = True
    steps: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    reference_steps: int = 300
    reference_samples: int = 1_024
    pool: int = 256


@dataclass(frozen=True)
class Curve:
    """A rule with one number of steps, for each image.

    Attributes:
        distance: sum|A - reference| / sum|reference|.
        squared_distance: sum of (A - reference)^2, logits^2.
        gap: |sum A - (F(x) - F(x'))|, logits.
    """

    rule: str
    steps: int
    distance: list[float]
    squared_distance: list[float]
    gap: list[float]


@dataclass(frozen=True)
class Measurement:
    """Of one net.

    Attributes:
        change: |F(x) - F(x')| for each image, logits; x' is 0.
        change_from_pool: the same for the mean output over the pool, which EG sums to.
    """

    curves: list[Curve]
    change: list[float]
    change_from_pool: list[float]


PROTOCOLS = {
    "smoke": {"trained": Protocol(images=6, steps=(1, 2, 4, 8, 16, 128), reference_samples=256, pool=64)},
    "embedded": {
        "trained": Protocol(images=8),
        "open-photographs": Protocol(
            images=5, rules=("gauss_legendre",), eg=False, steps=(1, 2, 4, 8, 16, 32, 64, 128)
        ),
    },
    "subset": {"released": Protocol(images=16), "open-photographs": Protocol(images=8)},
    "paper": {"released": Protocol(images=256)},
}
CHOSEN = 128  # the paper's number of steps
CLOSE = 0.05  # the IG paper's "within 5 %"
RANGE = (20, 300)  # steps that are normally enough; IG paper Sec. 5
ONE_STEP_EXACT = 1e-3  # relative L1 that counts as float32 rounding
SLOPE = (-0.6, -0.4)  # a Monte-Carlo error falls like k^-1/2
PASS_BATCH = 64  # forward passes only: does not change a number
EG, IXG = "expected_gradients", "input_x_gradient"
SHOWN = ("gauss_legendre", EG)  # a figure keeps these apart; the table has every rule

METRICS = {  # name -> unit; all are better when lower, but for the images within the gap
    "distance": "",
    "squared_distance": "logits^2",
    "completeness_gap": "",
    "images_within": "images",
    "needed_distance": "steps",
    "needed_completeness": "steps",
    "slope_distance": "",
    "slope_rms": "",
}


def tasks(context: Context, protocols: Mapping[str, Protocol]) -> list[Task[Net, Measurement]]:
    """Of nets that came with weights only the regular one: ``table1`` shows on the others that one step is exact."""
    return [
        net_task(context, "convergence", net, protocol, measure, Measurement, seconds=40)
        for net, protocol in context.nets(protocols)
        if net.variant in ("regular", "x")
    ]


# --- measuring ---


def measure(model: nn.Module, images: Images, protocol: Protocol, experiment: Experiment[Net, Protocol]) -> Measurement:
    """IG by every rule, and EG, of all images."""
    inputs, targets = next(images.batches(len(images), experiment.device))
    pool = last_inputs(experiment, protocol.pool)
    with torch.no_grad():
        logits = target_logits(model, inputs, targets)
        change = logits - target_logits(model, torch.zeros_like(inputs), targets)
        mean_output = torch.cat([model(part) for part in pool.split(PASS_BATCH)]).mean(0)
        change_from_pool = logits - mean_output[targets]
    rules = [(q, n) for q, n in product(protocol.rules, protocol.steps) if n >= 2 or q != "trapezoid"]
    nodes, weights = merge([("gauss_legendre", protocol.reference_steps), *rules])
    generator = experiment.generator("eg", experiment.about.label)
    sample = partial(expected_gradients, model, references=pool, generator=generator)
    of_rules, of_counts = [], []
    for i, (x, target) in enumerate(zip(inputs.split(1), targets.split(1), strict=True)):
        reference, *by_rule = integrate(model, x, target, nodes, weights)
        own = torch.stack([input_x_gradient(model, x, target)[0], *by_rule])  # (1 + rules, *F)
        of_rules.append(errors(own, reference[None], change[i]))
        if protocol.eg:
            of_counts.append(eg_errors(sample, x, target, change_from_pool[i], protocol))
        experiment.progress((i + 1) / len(images))
    curves = as_curves([(IXG, 1), *rules], of_rules)
    if protocol.eg:
        curves += as_curves([(EG, n) for n in protocol.steps], of_counts)
    return Measurement(curves, change.abs().tolist(), change_from_pool.abs().tolist())


def eg_errors(sample: Callable[..., Tensor], x: Tensor, target: Tensor, change: Tensor, protocol: Protocol) -> Tensor:
    """``errors`` of one image's EG with each number of references against its EG with many: (3, steps).

    They are means over the groups that ``max(steps)`` draws fall into: 256 draws are 256 times EG with one reference, 128
    times EG with two, ... Such a mean is steadier, most of all where there are few references, and it costs nothing.
    """
    most = max(protocol.steps)
    reference = sample(x, target, samples=protocol.reference_samples)
    draws = sample(match_format(x.expand(most, *x.shape[1:]), x), target.expand(most))  # (most, *F)
    groups = (draws.unflatten(0, (-1, count)).mean(1) for count in protocol.steps)
    return torch.stack([errors(group, reference, change).mean(1) for group in groups], 1)


def errors(attributions: Tensor, reference: Tensor, change: Tensor) -> Tensor:
    """Distance, squared distance and gap (see ``Curve``) of attributions (N, *F) of one image: (3, N).

    Args:
        reference: (1, *F).
        change: F(x) - F(x'), a scalar.
    """
    distance = relative_l1(reference.expand_as(attributions), attributions)
    squared = (reference - attributions).flatten(1).square().sum(1)
    return torch.stack([distance, squared, (attributions.flatten(1).sum(1) - change).abs()])


def as_curves(rules: Sequence[tuple[str, int]], of_images: Sequence[Tensor]) -> list[Curve]:
    """``errors`` of each image (3, rules) as a curve for each rule."""
    together = torch.stack(list(of_images), 2)  # (3, rules, B)
    return [Curve(*rule, *together[:, j].tolist()) for j, rule in enumerate(rules)]


# --- rows ---


def rows(results: Sequence[Result[Net, Measurement]]) -> pd.DataFrame:
    out = []
    for ids, group in by_training(results):
        values = [result.value for result in group]
        found = rows_of_curves(values)
        sampled = slopes(values) if any(curve.rule == EG for curve in values[0].curves) else []
        out += [ids | entry for entry in (*found, *needed(found), *sampled)]
    return pd.DataFrame(out)


def row(rule: str, steps: int | None, metric: str, interval: Interval) -> dict[str, Any]:
    better = "higher" if metric == "images_within" else "lower"
    label = {"rule": rule, "steps": steps, "passes": steps, "metric": metric, "unit": METRICS[metric], "better": better}
    return label | interval.columns()


def rows_of_curves(values: Sequence[Measurement]) -> list[dict[str, Any]]:
    """Of each rule with each number of steps; ``values`` of each training."""
    together = zip(*(value.curves for value in values), strict=True)
    return [entry for curves in together for entry in of_curve(curves, values)]


def of_curve(curves: Sequence[Curve], values: Sequence[Measurement]) -> list[dict[str, Any]]:
    """The rows of one rule with one number of steps: ``curves`` and ``values`` of each training.

    The completeness gap is a ratio of means over images: of an image whose output hardly changes the ratio of its own gap
    says nothing. How many images' own gap is within CLOSE stands beside it.
    """
    rule, steps = curves[0].rule, curves[0].steps
    gaps = [curve.gap for curve in curves]
    changes = [value.change_from_pool if rule == EG else value.change for value in values]
    within = np.asarray(gaps) <= CLOSE * np.asarray(changes)
    return [
        row(rule, steps, "distance", mean_interval([curve.distance for curve in curves])),
        row(rule, steps, "squared_distance", mean_interval([curve.squared_distance for curve in curves])),
        row(rule, steps, "completeness_gap", ratio_interval(gaps, changes)),
        row(rule, steps, "images_within", count_interval(within)),
    ]


def needed(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each rule the number of steps that keeps its mean within CLOSE, as ``steps_needed`` has it.

    The ends of its interval are what the ends of the curve's intervals need.
    """
    out = []
    for metric, name in {"distance": "needed_distance", "completeness_gap": "needed_completeness"}.items():
        for rule in dict.fromkeys(entry["rule"] for entry in found if entry["rule"] != IXG):
            part = sorted((e for e in found if (e["rule"], e["metric"]) == (rule, metric)), key=lambda e: e["steps"])
            steps = [entry["steps"] for entry in part]
            ends = {end: steps_needed(steps, [e[end] for e in part], CLOSE) for end in ("value", "low", "high")}
            out.append(row(rule, None, name, Interval(**ends, n=part[0]["n"], trainings=part[0]["trainings"])))
    return out


def slopes(values: Sequence[Measurement]) -> list[dict[str, Any]]:
    """Of EG's mean relative L1, and of its root mean square distance, over the number of references; log-log."""
    sampled = [[curve for curve in value.curves if curve.rule == EG] for value in values]
    steps = [curve.steps for curve in sampled[0]]

    def slope(table: NDArray[np.float64]) -> float:
        return log_log_slope(steps, table.mean(0).tolist())[0]

    distances = [np.transpose([curve.distance for curve in curves]) for curves in sampled]  # (images, steps)
    squares = [np.transpose([curve.squared_distance for curve in curves]) for curves in sampled]
    return [
        row(EG, None, "slope_distance", jackknife_interval(slope, distances)),
        row(EG, None, "slope_rms", jackknife_interval(lambda table: slope(table) / 2, squares)),
    ]


# --- for people ---


def table(rows: pd.DataFrame) -> Table:
    """Distance at each number of steps; from which one on both stay within 5 %; how many images are within at CHOSEN."""
    part = rows[rows["rule"] != IXG]
    distance = part[part["metric"] == "distance"]
    columns = {f"{steps:g}": f"{steps:g}" for steps in sorted(set(distance["steps"]))}
    summary = part[(part["metric"] != "images_within") | (part["steps"] == CHOSEN)]
    summary = summary[summary["metric"].isin(["needed_distance", "needed_completeness", "images_within"])]
    by_steps = distance.assign(metric=[f"{steps:g}" for steps in distance["steps"]])
    percent = f"{100 * CLOSE:g} %"
    headings = {
        "needed_distance": f"steps to {percent} of the reference",
        "needed_completeness": f"steps to {percent} of completeness",
        "images_within": f"images within {percent} of completeness at {CHOSEN}",
    }
    index = ["dataset", "model", "variant", "rule"]
    return wide(pd.concat([by_steps, summary]), index, columns | headings, intervals=False)


def figure(rows: pd.DataFrame, results: Sequence[Result[Net, Measurement]]) -> Figure:
    """Distance to the reference (above) and completeness gap (below) over passes; one column for each architecture."""
    from matplotlib.lines import Line2D

    nets = list(dict.fromkeys(zip(rows["model"], rows["dataset"], strict=True)))
    metrics = {"distance": "relative L1 to the reference", "completeness_gap": "completeness gap"}
    fig, axes = figures.subplots(2, len(nets), sharex=True, sharey="row", height=5.4)
    for ax, (metric, (model, dataset)) in zip(axes, product(metrics, nets), strict=True):
        part = rows[(rows["model"] == model) & (rows["dataset"] == dataset) & (rows["metric"] == metric)]
        draw(ax, part[part["rule"].isin(SHOWN)])
        if metric == "distance":
            ax.set_title(f"{style.panel(model, dataset)}\nn = {part['n'].max()} images")
        else:
            ax.set_xlabel("steps or references")
        if (model, dataset) == nets[0]:
            ax.set_ylabel(metrics[metric])
    looks = [style.variant(name) for name in dict.fromkeys(rows["variant"])]
    handles = [Line2D([], [], color=style.rule(rule).color, label=style.rule(rule).label) for rule in SHOWN]
    handles += [Line2D([], [], color=style.GREY, ls=look.line, label=look.label) for look in looks]
    handles += [Line2D([], [], color=style.GREY, lw=0.8, ls=":", label=f"{100 * CLOSE:g} %, and {CHOSEN} passes")]
    title = "bands: 95 %; of those that reach below 0 the upper half"
    fig.legend(handles=handles, loc="outside lower center", ncols=3, title=title)
    return fig


def draw(ax: Axes, part: pd.DataFrame) -> None:
    """The curves of one net's rules and variants with their intervals as bands; below 0 a band has no place on a log axis."""
    floor = 1e-8  # nor has an exact zero
    for (rule, variant), line in part.groupby(["rule", "variant"], sort=False):
        color = style.rule(str(rule)).color
        value, high = line["value"].clip(lower=floor), line["high"].clip(lower=floor)
        low = line["low"].where(line["low"] > floor, value)
        ax.plot(line["steps"], value, color=color, ls=style.variant(str(variant)).line, lw=1.2)
        ax.fill_between(line["steps"], low, high, color=color, alpha=0.12, lw=0)
    ax.axhline(CLOSE, color=style.GREY, lw=0.8, ls=":")
    ax.axvline(CHOSEN, color=style.GREY, lw=0.8, ls=":")
    ax.set(xscale="log", yscale="log")


_PAPER = Protocol(images=0)
_RANGE = f"{_PAPER.steps[0]} to {_PAPER.steps[-1]}"
STUDY = Study(
    order=4,
    title="Convergence of Integrated Gradients and Expected Gradients",
    question="How many passes until IG and EG have converged, on a regular net and on its X-variant?",
    source="X-DNN Sec. 4.1 and supplement; IG paper Sec. 5",
    method=(
        f"IG with {_RANGE} steps and {len(QUADRATURES)} quadratures against IG with {_PAPER.reference_steps} "
        f"Gauss-Legendre steps; EG with {_RANGE} references against {_PAPER.reference_samples}, drawn from {_PAPER.pool} "
        f"other test images, as a mean over the groups that {_PAPER.steps[-1]} draws fall into. Distance: sum|A - B| / "
        "sum|A| of an image, and the mean over images. Completeness gap: mean |sum A - (F(x) - F(x'))| over mean |F(x) - "
        "F(x')|, for EG against the mean output over the pool; images whose own gap is within the limit are counted. Steps "
        "needed: the least number from which on all larger ones tried stay within the limit, with the ends of their "
        "intervals as its interval; twice the largest where that is not enough. Intervals: 95 %, over images and, where "
        "there are several, trainings; of slopes by the jackknife. The trapezoid rule has no one-step form. It and the left "
        "Riemann rule take the gradient at the zero baseline itself, where a bias-free ReLU net has none: on X-nets they "
        "lose the weight of that node, the other rules nothing."
    ),
    differs=(
        "The paper's curve (0.0041 at 1 step down to 0.00003 at 256, digitised) has no stated model or normalisation, so "
        "its values are not put beside these relative distances."
    ),
    protocols=PROTOCOLS,
    tasks=tasks,
    rows=rows,
    table=table,
    figure=figure,
    claims=(
        Claim(
            id="x-one-step",
            text=f"On an X-DNN one step of IG is exact: relative L1 at most {ONE_STEP_EXACT:g} in float32",
            kind=Kind.THEOREM,
            source="X-DNN Prop. 3.2",
            reported="",
            metric="distance",
            criterion=at_most(ONE_STEP_EXACT),
            evidence=partial(measured, variant="x", metric="distance", rule="gauss_legendre", steps=1),
            n_chosen="a few images show rounding",
        ),
        Claim(
            id="ig-converged",
            text=f"On a regular net IG has converged after {CHOSEN} steps: within {100 * CLOSE:g} % of "
            f"{_PAPER.reference_steps} steps",
            kind=Kind.EMPIRICAL,
            source="X-DNN Sec. 4.1 and supplement",
            reported="0.00006 from IG with 300 steps (digitised; scale not stated)",
            metric="distance",
            criterion=at_most(CLOSE),
            evidence=partial(select, variant="regular", metric="distance", rule="gauss_legendre", steps=CHOSEN),
            n_chosen="a few images tell 1 % from 5 %",
        ),
        Claim(
            id="eg-converged",
            text=f"EG has converged after {CHOSEN} references: within {100 * CLOSE:g} % of {_PAPER.reference_samples}",
            kind=Kind.EMPIRICAL,
            source="X-DNN supplement; Erion et al. supplement",
            reported="about 100 to 200 references (Erion et al.)",
            metric="distance",
            criterion=at_most(CLOSE),
            evidence=partial(select, metric="distance", rule=EG, steps=CHOSEN),
            n_chosen="a few images tell 5 % from 40 %",
        ),
        Claim(
            id="ig-complete",
            text=f"On a regular net {RANGE[0]} to {RANGE[1]} steps are enough for IG to come, and to stay, within {100 * CLOSE:g} % "
            "of completeness",
            kind=Kind.EMPIRICAL,
            source="IG paper Sec. 5",
            reported=f"{RANGE[0]} to {RANGE[1]} steps",
            metric="needed_completeness",
            criterion=at_most(RANGE[1]),
            evidence=partial(select, variant="regular", metric="needed_completeness", rule="gauss_legendre"),
            n_chosen="a few images tell 30 steps from 300",
        ),
        Claim(
            id="eg-rate",
            text="The root mean square distance of EG falls like the square root of the number of references: log-log "
            f"slope {SLOPE[0]} to {SLOPE[1]}",
            kind=Kind.THEOREM,
            source="the error of a mean of independent draws",
            reported="",
            metric="slope_rms",
            criterion=between(*SLOPE),
            evidence=partial(select, metric="slope_rms", rule=EG),
            n_chosen="a few images give the slope within 0.1",
        ),
    ),
)
