"""MFABA Table 2: images per second, at the authors' batch sizes and at one equal size, beside one plain gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from reproduce.claims import Claim, Kind, NotRun, at_least, between, select
from reproduce.context import Context
from reproduce.datasets.images import Images
from reproduce.experiment import Experiment
from reproduce.mfaba_lines import (
    ADDED,
    AGI_BATCH,
    ALL_OF_BIG,
    CORRECTED,
    DESCRIBED,
    INSTEAD,
    LABELS,
    LINES,
    MFABA,
    MFABA_BATCH,
    RELEASED,
    SMOOTHGRAD,
    Line,
    Spaces,
    predictions,
)
from reproduce.nets import Net, by_training, net_task
from reproduce.rankings import kendall_tau, rank
from reproduce.report import figures, style
from reproduce.report.tables import Table, stack, wide
from reproduce.statistics import Interval, exact, mean_interval, ratio_interval
from reproduce.study import Study
from reproduce.tasks import Result, Task
from reproduce.timing import clocked
from xdnn import NotSupportedError, gradient
from xdnn.attributions.mfaba import BoundaryPaths
from xdnn.metrics.agreement import relative_l1
from xdnn.passes import count_passes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# --- protocol and measurement ---

TIMED = (
    LINES[f"gradient {RELEASED}"],
    LINES[f"mfaba_sharp {RELEASED}"],
    LINES[f"mfaba_smooth {RELEASED}"],
    LINES[f"deeplift {ADDED}"],
    LINES[f"agi {RELEASED}"],
    LINES[f"ig {RELEASED}"],
    SMOOTHGRAD,
    ALL_OF_BIG,
    LINES[f"mfaba_sharp {DESCRIBED}"],
    LINES[f"mfaba_smooth {DESCRIBED}"],
    LINES[f"agi {DESCRIBED}"],
    LINES[f"mfaba_sharp {CORRECTED}"],
    LINES[f"mfaba_smooth {CORRECTED}"],
    LINES[f"big {CORRECTED}"],
)
X_GRADIENT = LINES[f"x_gradient {ADDED}"]  # on X-variants and wrapped nets, against their own gradient
EQUAL_BATCH = 4  # of every method
# Of the authors' scripts: what each FPS of the paper was taken at.
RELEASED_BATCH = {
    "gradient": 64,
    "mfaba_sharp": MFABA_BATCH,
    "mfaba_smooth": MFABA_BATCH,
    "agi": AGI_BATCH,
    "ig": 4,
    "smoothgrad": 4,
    "deeplift": 4,
    "big": 4,
}
UNDIVIDED = ("gradient", "deeplift", "x_gradient")  # methods that know no chunks
EQUAL = "equal"  # a batching; the other is RELEASED
SAME = 1e-2  # relative L1 within which a result counts as the same: float32 paths amplify rounding


@dataclass(frozen=True)
class Protocol:
    """What decides the numbers.

    Attributes:
        images:  the first batch of each size is timed; the authors' sizes need MFABA_BATCH images.
        rounds:  calls of each method, each beside a plain gradient.
        long:    seconds: a method that has run for as long is not called again.
        threads: of the run, since times depend on it.
    """

    images: int
    rounds: int = 5
    long: float = 2.0
    threads: int = 0


@dataclass(frozen=True)
class Timing:
    """A line at a batch size.

    Attributes:
        batching: EQUAL or RELEASED.
        seconds, gradients: of each call of the method, and of the plain gradient beside it.
        forward, backward: passes per image.
        wrong: why its attributions are not believed, and its time is not shown; "" where they are.
    """

    method: str
    protocol: str
    batching: str
    batch: int
    seconds: list[float]
    gradients: list[float]
    forward: float
    backward: float
    wrong: str = ""


@dataclass(frozen=True)
class Measurement:
    """Of one net: what was timed, and line -> why it could not be run."""

    timings: list[Timing]
    refused: dict[str, str]


PROTOCOLS = {
    "smoke": {"untrained": Protocol(images=4, rounds=1)},
    "embedded": {"untrained": Protocol(images=EQUAL_BATCH)},
    "subset": {
        "cifar10/resnet50": Protocol(images=MFABA_BATCH),
        "package": Protocol(images=EQUAL_BATCH),
        "imagenet-sample-torchvision/torchvision_resnet50": Protocol(images=16),
    },
    "paper": {"imagenet-val-torchvision/torchvision_resnet50": Protocol(images=MFABA_BATCH)},
}

# MFABA Table 2: images per second of BIG, IG, AGI and MFABA.
REPORTED = {
    "CIFAR-10, ResNet-50": (1.35, 24.64, 0.14, 136.96),
    "CIFAR-100, ResNet-50": (1.36, 24.29, 0.15, 162.74),
    "ImageNet, ResNet-50": (0.37, 6.76, 0.28, 51.58),
    "ImageNet, EfficientNet": (0.32, 10.42, 0.21, 39.97),
}
RIVALS = ("big", "ig", "agi")  # in the order of REPORTED
BIG_TIMES, IG_TIMES, AGI_TIMES = (
    100,
    (4, 8),
    100,
)  # MFABA abstract: 101.5142 times; its Table 2: 3.8 to 7.6, 184 to 1085
RANKED = (*RIVALS, *MFABA)
# Whose time stands for a method's in a protocol that changes no pass of it.
SAME_COST = INSTEAD | {("ig", CORRECTED): RELEASED, ("big", DESCRIBED): RELEASED}
SAME_RANKING = 0.79  # Kendall's tau: of five methods' 10 pairs one may have changed places, which is 0.8
METRICS = {  # name -> (heading, unit, better)
    "images_per_second": ("Images per second", "1/s", "higher"),
    "ratio": ("Time in plain gradients", "plain gradients", "lower"),
    "forward_passes": ("Forward passes", "per image", "lower"),
    "backward_passes": ("Backward passes", "per image", "lower"),
    **{f"times_{name}": (f"Times as fast as {LABELS[name]}", "", "higher") for name in RIVALS},
    "times_next": ("Times as fast as the fastest other", "", "higher"),
    "rank": ("Rank by speed", "", "lower"),
    "tau": ("Kendall's tau of two rankings", "", ""),
}

Group = Sequence[Result[Net, Measurement]]
Row = dict[str, object]


def tasks(context: Context, protocols: Mapping[str, Protocol]) -> list[Task[Net, Measurement]]:
    """Of the first training of each net."""
    return [
        net_task(
            context,
            "mfaba-table2",
            net,
            replace(protocol, threads=context.threads),
            measure,
            Measurement,
            seconds=80 if net.variant == "regular" else 2,
            alone=True,
        )
        for net, protocol in context.nets(protocols)
        if net.seed == context.seed
    ]


def measure(model: nn.Module, images: Images, protocol: Protocol, experiment: Experiment[Net, Protocol]) -> Measurement:
    """At one equal batch size, then at the authors' where there are images enough for all of them."""
    regular = experiment.about.variant == "regular"
    lines = TIMED if regular else (X_GRADIENT,)
    batches = [(line, EQUAL, min(EQUAL_BATCH, len(images))) for line in lines]
    if regular and len(images) >= MFABA_BATCH:
        batches += [
            (line, RELEASED, RELEASED_BATCH[line.method]) for line in lines if line.protocol in (RELEASED, ADDED)
        ]
    spaces = Spaces(model, images, experiment.device)
    timings: list[Timing] = []
    refused: dict[str, str] = {}
    for done, (line, batching, batch) in enumerate(batches):
        inputs, labels = next(images.batches(batch, experiment.device))
        targets = predictions(model, inputs) if line.predicted else labels
        try:
            timings.append(time(model, spaces, line, batching, (inputs, targets), experiment))
        except NotSupportedError as reason:
            refused[line.key] = str(reason)
        experiment.progress((done + 1) / len(batches))
    return Measurement(timings, refused)


def time(
    model: nn.Module,
    spaces: Spaces,
    line: Line,
    batching: str,
    batch: tuple[Tensor, Tensor],
    experiment: Experiment[Net, Protocol],
) -> Timing:
    """Each call is timed beside a plain gradient of the same batch, after a call of each that is not timed.

    A method whose call takes long is warmed up by a shorter one of the same passes: BIG by one of its seven searches.
    """
    device, protocol = experiment.device, experiment.protocol
    plain = partial(gradient, model, *batch)

    def call(inputs: Tensor, targets: Tensor, **options: Any) -> Tensor:
        if line.stochastic:
            options["generator"] = experiment.generator("mfaba-table2", line.method)
        made = spaces.run(line, inputs, targets, **options)
        return made.attributions if isinstance(made, BoundaryPaths) else made

    plain()
    warm: dict[str, Any] = {"repeat_equal": False} if line is ALL_OF_BIG else {}
    call(*batch, **warm)
    seconds: list[float] = []
    gradients: list[float] = []
    while len(seconds) < protocol.rounds and sum(seconds) < protocol.long:
        gradients.append(clocked(plain, device)[0])
        with count_passes(model) as passes:
            taken, attributions = clocked(partial(call, *batch), device)
        seconds.append(taken)
    count = len(attributions)
    passed = (passes.forward / count, passes.backward / count)
    wrong = fault(attributions, again(call, line, *batch))
    return Timing(line.method, line.protocol, batching, count, seconds, gradients, *passed, wrong)


def again(call: Callable[..., Tensor], line: Line, inputs: Tensor, targets: Tensor) -> Tensor | None:
    """The batch once more, through the net in two halves; None of BIG, which would take its 407 passes again."""
    half = -(-len(inputs) // 2)
    if line.method == "big":
        return None
    if line.method in UNDIVIDED:
        return torch.cat([call(x, t) for x, t in zip(inputs.split(half), targets.split(half), strict=True)])
    return call(inputs, targets, chunk=half)


def fault(attributions: Tensor, halves: Tensor | None) -> str:
    """Why attributions are not believed; "" where they are."""
    if not torch.isfinite(attributions).all():
        return "attributions that are not finite"
    if not attributions.flatten(1).any(1).all():
        return "attributions that are zero"
    worst = 0.0 if halves is None else float(relative_l1(attributions, halves).max())
    return (
        "" if worst <= SAME else f"attributions that differ by {worst:.2g} when a batch goes through the net in halves"
    )


# --- rows ---


def rows(results: Sequence[Result[Net, Measurement]]) -> pd.DataFrame:
    """Ids beside the net's: method, protocol, batching, batch. ``times_<rival>``: of MFABA's faster kind as released,
    which ``reason`` names.

    A row of ``rank`` is a method's place by images per second among RANKED under a protocol, at the equal batch size; one of
    ``tau`` compares the released ranking with the one that it is held ``against``.
    """
    out: list[Row] = []
    nets = by_training(results)
    for ids, (result, *_) in nets:
        timings = result.value.timings
        for key, reason in result.value.refused.items():
            method, protocol = key.split(" ")
            out.append(ids | refusal(method, protocol, EQUAL, EQUAL_BATCH, reason))
        for timing in timings:
            same = [other for other in timings if other.batch == timing.batch]
            out += [ids | found for found in timing_rows(timing, same)]
        for batching in (RELEASED, EQUAL):
            out += [
                ids | found for found in speedup_rows([t for t in timings if t.batching == batching and not t.wrong])
            ]
        out += [ids | found for found in rank_rows(timings)]
    for ids, (result, *_) in nets:
        regular = next((group for i, group in nets if i == ids | {"variant": "regular"}), None)
        if ids["variant"] != "regular" and regular is not None:
            out += [ids | found for found in lead_rows(result.value.timings, regular[0].value.timings)]
    return pd.DataFrame(out)


def names(timing: Timing) -> dict[str, object]:
    return {name: getattr(timing, name) for name in ("method", "protocol", "batching", "batch")}


def row(ids: Mapping[str, object], metric: str, interval: Interval) -> Row:
    return {**ids, "metric": metric, "unit": METRICS[metric][1], "better": METRICS[metric][2]} | interval.columns()


def refusal(method: str, protocol: str, batching: str, batch: int, reason: str) -> Row:
    ids = {"method": method, "protocol": protocol, "batching": batching, "batch": batch}
    return row(ids, "images_per_second", exact(float("nan"), 0)) | {"reason": reason}


def timing_rows(timing: Timing, same_batch: Sequence[Timing]) -> Iterator[Row]:
    """A line's rows; a plain gradient is the median over all that were taken of its batch size."""
    ids = names(timing)
    if timing.wrong:
        yield refusal(timing.method, timing.protocol, timing.batching, timing.batch, timing.wrong)
    else:
        plain = median([second for other in same_batch for second in other.gradients])
        yield row(ids, "images_per_second", mean_interval([timing.batch / s for s in timing.seconds]))
        yield row(ids, "ratio", mean_interval([s / plain for s in timing.seconds]))
    yield row(ids, "forward_passes", exact(timing.forward, timing.batch))
    yield row(ids, "backward_passes", exact(timing.backward, timing.batch))


def per_image(timing: Timing) -> float:
    return sum(timing.seconds) / len(timing.seconds) / timing.batch


def speedup_rows(timings: Sequence[Timing]) -> Iterator[Row]:
    """How many times as many images a second MFABA's faster kind explains as its rivals, all as released."""
    released = {t.method: t for t in timings if t.protocol == RELEASED}
    kinds = [released[kind] for kind in MFABA if kind in released]
    if not kinds:
        return
    fastest = min(kinds, key=per_image)
    for rival in RIVALS:
        if rival in released:
            ids = names(fastest) | {"method": "mfaba"}
            yield row(ids, f"times_{rival}", speedup(released[rival], fastest)) | {"reason": fastest.method}


def speedup(slower: Timing, faster: Timing) -> Interval:
    """Of the mean times per image, round by round as far as both go."""
    rounds = min(len(slower.seconds), len(faster.seconds))
    times = [[s / timing.batch for s in timing.seconds[:rounds]] for timing in (slower, faster)]
    found = ratio_interval(*times)
    return replace(found, value=per_image(slower) / per_image(faster)) if rounds < len(faster.seconds) else found


def lead_rows(own: Sequence[Timing], regular: Sequence[Timing]) -> Iterator[Row]:
    """X-Gradient against the fastest of the regular net's methods but the gradient, each in gradients of its own net."""
    ours = [t for t in own if t.batching == EQUAL and not t.wrong]
    others = [t for t in regular if t.batching == EQUAL and not t.wrong and t.method != "gradient"]
    if ours and others:
        fastest = min(in_gradients(t) for t in others)
        yield row(names(ours[0]), "times_next", exact(fastest / in_gradients(ours[0]), len(ours[0].seconds)))


def rank_rows(timings: Sequence[Timing]) -> Iterator[Row]:
    """Each method's place by speed in each protocol, and how alike the rankings are; none where a method was not timed."""
    timed = {(t.method, t.protocol): t for t in timings if t.batching == EQUAL and not t.wrong}
    rankings = {}
    for protocol in (RELEASED, DESCRIBED, CORRECTED):
        keys = [(method, SAME_COST.get((method, protocol), protocol)) for method in RANKED]
        if not set(keys) <= set(timed):
            continue
        found = [timed[key] for key in keys]
        rankings[protocol] = speeds = np.array([1 / per_image(timing) for timing in found])
        for place, timing in enumerate(found):
            yield row(names(timing) | {"protocol": protocol}, "rank", exact(rank(place, speeds), len(timing.seconds)))
    for name, speeds in rankings.items():
        if name != RELEASED and RELEASED in rankings:
            ids = names(timed[MFABA[0], RELEASED]) | {"method": "ranking", "against": name}
            yield row(ids, "tau", exact(kendall_tau(rankings[RELEASED], speeds), len(RANKED)))


def in_gradients(timing: Timing) -> float:
    return sum(timing.seconds) / sum(timing.gradients)


# --- for people ---

INDEX = ["dataset", "model", "width", "weights", "variant", "method", "protocol", "batching", "batch"]


def table(rows: pd.DataFrame) -> Table:
    """As released first, then described and corrected; then how alike the rankings are."""
    order = {name: place for place, name in enumerate((RELEASED, DESCRIBED, CORRECTED, ADDED))}
    nets = rows.groupby(INDEX[:5], sort=False).ngroup()
    keys = pd.DataFrame(
        {"net": nets, "batching": rows["batching"] != RELEASED, "protocol": rows["protocol"].map(order)}
    )
    ordered = rows.iloc[keys.reset_index(drop=True).sort_values(list(keys), kind="stable").index]
    named = ordered.assign(method=[LABELS.get(name, name) for name in ordered["method"]])
    headings = {metric: heading for metric, (heading, _, _) in METRICS.items()}
    alike = {"tau": headings.pop("tau")}
    rankings = rows[rows["metric"] == "tau"].copy()
    if rankings.empty:
        return wide(named, INDEX, headings)
    rankings["protocol"] = [f"{a} and {b}" for a, b in zip(rankings["protocol"], rankings["against"], strict=True)]
    return stack(wide(named[named["metric"] != "tau"], INDEX, headings), wide(rankings, INDEX, alike))


MARKERS = {RELEASED: "o", DESCRIBED: "D", CORRECTED: "s", ADDED: "o"}


def figure(rows: pd.DataFrame, results: Sequence[Result[Net, Measurement]]) -> Figure:
    """What each method costs in plain gradients of the same net at an equal batch size; a panel for each architecture."""
    part = rows[(rows["metric"] == "ratio") & (rows["batching"] == EQUAL)]
    released = part[part["protocol"].isin((RELEASED, ADDED))]
    methods = list(released.groupby("method")["value"].mean().sort_values(ascending=False).index)
    nets = list(dict.fromkeys(zip(part["dataset"], part["model"], strict=True)))
    fig, axes = figures.subplots(1, max(1, len(nets)), sharey=True, sharex=True, height=1.4 + 0.2 * len(methods))
    for ax, (dataset, model) in zip(axes, nets, strict=True):
        for found in part[(part["dataset"] == dataset) & (part["model"] == model)].to_dict("records"):
            shift = {RELEASED: 0.25, CORRECTED: -0.25}.get(str(found["protocol"]), 0.0)
            look: dict[str, Any] = {"color": style.method(found["method"]).color, "capsize": 2, "ms": 4}
            ends = [[found["value"] - found["low"]], [found["high"] - found["value"]]]
            across = None if pd.isna(found["low"]) else ends
            place = methods.index(found["method"]) + shift
            ax.errorbar([found["value"]], [place], xerr=across, fmt=MARKERS[str(found["protocol"])], **look)
        ax.set(xscale="log", xlabel="time, in plain gradients")
        ax.set_title(style.panel(model, dataset))
    axes[0].set_yticks(range(len(methods)), [LABELS[method] for method in methods])
    for protocol in (RELEASED, DESCRIBED, CORRECTED):
        axes[0].plot([], [], marker=MARKERS[protocol], ls="", ms=4, color=style.GREY, label=protocol)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


# --- claims ---


def speedups(rival: str, batching: str, rows: pd.DataFrame) -> pd.DataFrame:
    if batching == RELEASED and RELEASED not in set(rows.get("batching", ())):
        raise NotRun(f"the authors' batch sizes need {MFABA_BATCH} images of a net: at the scales subset and paper")
    return select(rows, metric=f"times_{rival}", batching=batching)


def speed_claims() -> Iterator[Claim]:
    """MFABA's faster kind against each rival, at the batch sizes of the authors and at an equal one."""
    printed = {rival: [values[-1] / values[k] for values in REPORTED.values()] for k, rival in enumerate(RIVALS)}
    limits = {
        "big": (f"over {BIG_TIMES} times", at_least(BIG_TIMES)),
        "ig": (f"{IG_TIMES[0]} to {IG_TIMES[1]} times", between(*IG_TIMES)),
        "agi": (f"over {AGI_TIMES} times", at_least(AGI_TIMES)),
    }
    for rival, (words, criterion) in limits.items():
        for batching, at in (
            (RELEASED, "at the authors' batch sizes"),
            (EQUAL, f"at an equal batch size of {EQUAL_BATCH}"),
        ):
            yield Claim(
                id=f"{rival}-{batching}",
                text=f"MFABA's faster kind explains {words} as many images a second as {LABELS[rival]}, {at}",
                kind=Kind.SPEED,
                source="MFABA Table 2" + (", abstract" if rival == "big" else ""),
                reported=f"{min(printed[rival]):.4g} to {max(printed[rival]):.4g} times, at the authors' batch sizes",
                metric=f"times_{rival}",
                criterion=criterion,
                evidence=partial(speedups, rival, batching),
                n_chosen="rounds of one batch",
                effect=round(median(printed[rival]), 1),
            )


_PAPER = Protocol(images=0)
STUDY = Study(
    order=13,
    title="Images per second of boundary-based methods",
    question="How much faster than its rivals is MFABA, at the authors' batch sizes and at an equal one, and what does X-Gradient cost?",
    source="MFABA Table 2",
    method=(
        f"A batch of {EQUAL_BATCH} for every method, and, where the scale has the images, the authors' sizes (MFABA "
        f"{MFABA_BATCH}, AGI and SM {AGI_BATCH}, the others 4). Each method is called once before the clock starts (BIG: one "
        f"of its seven equal searches), then up to {_PAPER.rounds} times, each beside a plain gradient of the same batch, while "
        f"nothing else runs; a method that has taken {_PAPER.long:g} s is not called again. Only the call is timed. As "
        "released: in [0, 1] pixel space, following the sum of the gradients, AGI's losses over the whole batch, BIG with all "
        "seven searches, SmoothGrad's noise 0.15 of the pixels' range; as described: a fresh gradient a step; corrected: as in "
        "MFABA Table 1. X-Gradient runs on the X-variant or the wrapped net. Time in plain gradients: over the median plain "
        "gradient of that batch size. A time is shown only where the attributions are finite, not zero, and the same when the "
        "batch goes through the net in halves (not asked of BIG). Passes are counted as run. Rank by speed and Kendall's tau: of "
        "BIG, IG, AGI and both kinds of MFABA at the equal batch size; where a protocol changes no pass of a method its "
        "released time stands for it. Intervals: 95 %, over calls."
    ),
    differs=(
        "A CPU instead of an unnamed GPU, so the ratios count and not the images per second. ResNet-50 is torchvision's with "
        "untrained weights, at 32 px only: its paths are as long as its boundary happens to be far; trained weights, 224 px "
        "and the authors' batch sizes are at the larger scales. The released MFABA evaluates each point twice; here the class "
        "and the gradient come from one pass."
    ),
    protocols=PROTOCOLS,
    tasks=tasks,
    rows=rows,
    table=table,
    figure=figure,
    claims=(
        *speed_claims(),
        Claim(
            id="x-gradient-fastest",
            text="X-Gradient on an X-net takes fewer plain gradients' time than any of these methods on the regular net",
            kind=Kind.SPEED,
            source="X-DNN Sec. 3: one pass",
            reported="",
            metric="times_next",
            criterion=at_least(1),
            evidence=partial(select, metric="times_next"),
            n_chosen="rounds of one batch",
        ),
        *(
            Claim(
                id=f"ranking-{name}",
                text=f"As {name} the methods keep the released code's order by speed: at most one of the 10 pairs of BIG, IG, "
                "AGI and both kinds of MFABA changes places",
                kind=Kind.SPEED,
                source="ours",
                reported="",
                metric="tau",
                criterion=at_least(SAME_RANKING),
                evidence=partial(select, metric="tau", against=name),
                n_chosen="rounds of one batch",
            )
            for name in (DESCRIBED, CORRECTED)
        ),
    ),
)
