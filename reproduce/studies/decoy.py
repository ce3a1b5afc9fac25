"""Extension of X-DNN Sec. 4.3 to images: a prior against a known shortcut, and what a training step with it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from reproduce.claims import Claim, Kind, at_least, at_most, between, select
from reproduce.context import Context
from reproduce.datasets import decoy
from reproduce.datasets.decoy import DecoyDigits, decoy_digits
from reproduce.experiment import Experiment
from reproduce.report import figures, style
from reproduce.report.tables import Table, wide
from reproduce.statistics import difference_interval, exact, mean_interval, ratio_interval
from reproduce.study import Study
from reproduce.tasks import Progress, Result, Task, no_progress
from reproduce.training import right_reasons
from xdnn import integrated_gradients

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Protocol:
    """What decides the numbers.

    Attributes:
        seeds: trainings of each method, at least; they are the units.
        strengths: tried with the first seed; the best on validation digits with honest squares is taken, of equals the
            smallest.
        mass_steps, mass_images: of the Integrated Gradients that measure what is left in the square, for every net alike.
        rounds: of the step times; in each, every method trains for an epoch, so that all see the same machine.
    """

    seeds: int = 8
    strengths: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1e0, 1e1, 1e2, 1e3, 1e4)
    epochs: int = right_reasons.EPOCHS
    mass_steps: int = 16
    mass_images: int = 200
    rounds: int = 8


@dataclass(frozen=True)
class Way:
    """A way to train.

    Attributes:
        variant: of the net.
        attribution: that the prior is on; "" is no prior.
        strength_of: the method whose strength is taken.
    """

    variant: str
    attribution: str = ""
    strength_of: str = ""


@dataclass(frozen=True)
class Configuration:
    method: str
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Choice:
    """``scores``: accuracy on validation digits with honest squares for each strength, in percent."""

    strength: float
    at_edge: bool
    scores: list[float]


@dataclass(frozen=True)
class Measurement:
    """One number per seed: accuracies and ``mass`` in percent."""

    strength: float
    at_edge: bool
    accuracy: list[float]
    accuracy_with: list[float]
    mass: list[float]
    data: dict[str, str]


@dataclass(frozen=True)
class StepTimes:
    """``seconds``: method -> of an epoch, in each round."""

    seconds: dict[str, list[float]]


_FULL = Protocol()
PROTOCOLS = {
    "smoke": Protocol(seeds=2, strengths=(1.0, 10.0), epochs=1, mass_images=20, rounds=5),
    "embedded": _FULL,
    "subset": _FULL,
    "paper": _FULL,
}
METHODS = {
    "plain": Way("regular"),
    "plain_x": Way("x"),
    "rrr": Way("regular", "rrr", "rrr"),
    "expected_gradients_1": Way("regular", "expected_gradients_1", "expected_gradients_1"),
    "expected_gradients_8": Way("regular", "expected_gradients_8", "expected_gradients_1"),
    "integrated_gradients_8": Way("regular", "integrated_gradients_8", "expected_gradients_1"),
    "x_gradient": Way("x", "x_gradient", "x_gradient"),
    "honest": Way("regular"),
    "honest_x": Way("x"),
}
METRICS = {  # name -> (label, unit, better)
    "accuracy": ("accuracy without the shortcut (%)", "%", "higher"),
    "accuracy_with": ("accuracy with it (%)", "%", "higher"),
    "mass": ("attribution in the square (%)", "%", "lower"),
    "cost": ("time of an epoch / plain", "", "lower"),
    "regained": ("regained of what the shortcut cost (%)", "%", "higher"),
    "strength": ("strength", "", ""),
    "at_edge": ("strength at the edge of the grid", "", ""),
}
MANY_POINTS = ("expected_gradients_8", "integrated_gradients_8")
ONE_POINT = ("expected_gradients_1", "rrr")
SHORTCUT_POINTS = 10.0  # what a plain net must lose for there to be a shortcut to unlearn
REGAINED = 50.0  # percent of what was lost
AS_GOOD = 1.0  # points of accuracy: less is no difference
SAME_COST = 4 / 3  # and its inverse: times within it are equal


# --- tasks ------------------------------------------------------------------------------------------------------------


def tasks(context: Context, protocol: Protocol) -> list[Task[Configuration, Any]]:
    seeds = tuple(context.seed + number for number in range(max(protocol.seeds, context.seeds)))
    data = {"digits": decoy.key(), "seed": context.seed}
    choices = {
        name: Task(f"decoy strength of {label(name)}", Choice, choose, Configuration(name, seeds[:1]), protocol, data)
        for name in dict.fromkeys(way.strength_of for way in METHODS.values() if way.strength_of)
    }
    trained = [
        Task(
            f"decoy {label(name)}",
            Measurement,
            measure,
            Configuration(name, seeds),
            protocol,
            data,
            (choices[way.strength_of],) if way.strength_of else (),
            seconds=30 if name in MANY_POINTS else 6,
        )
        for name, way in METHODS.items()
    ]
    about = Configuration("all", seeds[:1])
    return [*trained, Task("decoy step times", StepTimes, clock, about, protocol, data, seconds=20, alone=True)]


def nothing_missing(context: Context, protocol: Protocol) -> dict[str, str]:
    """Its digits come inside a package."""
    return {}


def label(method: str) -> str:
    return style.method(method).label


def digits(experiment: Experiment[Any, Any], split: str, seed: int, *, honest: bool) -> DecoyDigits:
    return decoy_digits(split, honest=honest, generator=experiment.generator("decoy", split, seed))


def train(
    experiment: Experiment[Any, Any], name: str, seed: int, strength: float, epochs: int, progress: Progress
) -> tuple[nn.Module, list[float]]:
    """A net of one of METHODS, and the seconds of each epoch."""
    way = METHODS[name]
    return right_reasons.train(
        way.variant,
        digits(experiment, "train", seed, honest=name.startswith("honest")),
        way.attribution,
        strength,
        experiment.generator("decoy net", seed),
        device=experiment.device,
        epochs=epochs,
        progress=progress,
    )


def choose(experiment: Experiment[Configuration, Protocol]) -> Choice:
    """The strength with the best accuracy on validation digits whose squares are random; of equals the smaller."""
    name, (seed,), protocol = experiment.about.method, experiment.about.seeds, experiment.protocol
    held_out = digits(experiment, "validation", seed, honest=True)
    scores: list[float] = []
    for strength in protocol.strengths:
        net, _ = train(experiment, name, seed, strength, protocol.epochs, no_progress)
        scores.append(accuracy(net, held_out, experiment.device))
        experiment.progress(len(scores) / len(protocol.strengths))
    best = scores.index(max(scores))
    return Choice(protocol.strengths[best], best in (0, len(scores) - 1), scores)


def measure(experiment: Experiment[Configuration, Protocol], *chosen: Choice) -> Measurement:
    """Train a net with each seed and test it with and without the shortcut."""
    about, protocol, device = experiment.about, experiment.protocol, experiment.device
    strength, at_edge = (chosen[0].strength, chosen[0].at_edge) if chosen else (0.0, False)
    out = Measurement(strength, at_edge, [], [], [], {})
    for seed in about.seeds:
        net, _ = train(experiment, about.method, seed, strength, protocol.epochs, no_progress)
        honest = digits(experiment, "test", seed, honest=True)
        out.accuracy.append(accuracy(net, honest, device))
        out.accuracy_with.append(accuracy(net, digits(experiment, "test", seed, honest=False), device))
        out.mass.append(mass(net, honest, protocol, device))
        out.data[f"decoy-mnist test, seed {seed}"] = honest.fingerprint()
        experiment.progress(len(out.mass) / len(about.seeds))
    return out


def clock(experiment: Experiment[Configuration, Protocol]) -> StepTimes:
    """An epoch of each method, round by round; the first round warms up and is not kept. No strength changes what it costs."""
    (seed,), rounds = experiment.about.seeds, experiment.protocol.rounds
    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    for done in range(rounds + 1):
        for name, samples in seconds.items():
            _, (epoch,) = train(experiment, name, seed, 1.0, 1, no_progress)
            samples += [epoch] if done else []
        experiment.progress((done + 1) / (rounds + 1))
    return StepTimes(seconds)


@torch.no_grad()
def accuracy(net: nn.Module, shown: DecoyDigits, device: torch.device) -> float:
    """In percent."""
    return 100 * (net(shown.inputs.to(device)).argmax(1).cpu() == shown.targets).float().mean().item()


def mass(net: nn.Module, shown: DecoyDigits, protocol: Protocol, device: torch.device) -> float:
    """Share of |IG| of the true class that lies in the square, in percent; the mean over images."""
    index = torch.randperm(len(shown), generator=torch.Generator().manual_seed(0))[: protocol.mass_images]
    inputs, targets = shown.inputs[index].to(device), shown.targets[index].to(device)
    attributions = integrated_gradients(net, inputs, targets, steps=protocol.mass_steps)
    return share_inside(attributions.cpu(), shown.squares[index])


def share_inside(attributions: Tensor, squares: Tensor) -> float:
    """100 * mean over images of sum|A| inside the square / sum|A|; an all-zero attribution has nothing inside.

    Raises:
        ValueError: an attribution that is NaN or infinite.
    """
    if not attributions.isfinite().all():
        raise ValueError("an attribution is NaN or infinite, so no share of it lies anywhere")
    sizes = attributions.abs()
    inside, total = (sizes * squares).flatten(1).sum(1), sizes.flatten(1).sum(1)
    return 100 * (inside / total.where(total > 0, 1.0)).mean().item()


# --- rows -------------------------------------------------------------------------------------------------------------


def rows(results: Sequence[Result[Configuration, Any]]) -> pd.DataFrame:
    found: dict[str, Measurement] = {r.about.method: r.value for r in results if isinstance(r.value, Measurement)}
    (times,) = (r.value.seconds for r in results if isinstance(r.value, StepTimes))
    costs = {name: np.divide(times[name], times["plain"]) for name in found}
    out: list[dict[str, Any]] = []
    for name, value in found.items():
        n = len(value.accuracy)
        intervals = {
            "accuracy": mean_interval(value.accuracy),
            "accuracy_with": mean_interval(value.accuracy_with),
            "mass": mean_interval(value.mass),
            "cost": mean_interval(costs[name]),
            "strength": exact(value.strength, n),
        }
        if METHODS[name].attribution:
            plain, honest = ("plain_x", "honest_x") if METHODS[name].variant == "x" else ("plain", "honest")
            gained, lost = (np.subtract(found[n].accuracy, found[plain].accuracy) for n in (name, honest))
            intervals["regained"] = ratio_interval(100 * gained, lost)
            intervals["at_edge"] = exact(float(value.at_edge), n)
        for metric, interval in intervals.items():
            _, unit, better = METRICS[metric]
            out.append(_ids(name) | {"metric": metric, "unit": unit, "better": better} | interval.columns())
        for versus in ("plain", "plain_x", "honest", "honest_x", "x_gradient"):
            about = {"versus": versus, "metric": "accuracy_difference", "unit": "%", "better": "higher"}
            interval = difference_interval(value.accuracy, found[versus].accuracy)
            out.append(_ids(name) | about | interval.columns())
        about = {"versus": "x_gradient", "metric": "cost_ratio", "unit": "", "better": "lower"}
        out.append(_ids(name) | about | ratio_interval(costs[name], costs["x_gradient"]).columns())
    return pd.DataFrame(out)


def _ids(method: str) -> dict[str, Any]:
    return {"dataset": "decoy-mnist", "model": "small CNN", "variant": METHODS[method].variant, "method": method}


# --- what people read -------------------------------------------------------------------------------------------------


def table(rows: pd.DataFrame) -> Table:
    return wide(
        rows, ["dataset", "method", "variant"], {metric: heading for metric, (heading, _, _) in METRICS.items()}
    )


def figure(rows: pd.DataFrame, results: Sequence[Result[Configuration, Any]]) -> Figure:
    """Accuracy, attribution that is left in the square, and what an epoch costs, a line for each way to train."""
    fig, axes = figures.subplots(1, 3, height=2.9, sharey=True)
    order = list(reversed(METHODS))
    for ax, metric in zip(axes, ("accuracy", "mass", "cost"), strict=True):
        part = rows[rows["metric"] == metric].set_index("method")
        for place, name in enumerate(order):
            look, row = style.method(name), part.loc[name]
            spread = [[row["value"] - row["low"]], [row["high"] - row["value"]]]
            ax.errorbar(row["value"], place, xerr=spread, color=look.color, marker=look.marker, ms=4, capsize=2)
        ax.set_xlabel(METRICS[metric][0].replace(" (", "\n("))
    axes[0].set_yticks(range(len(order)), [label(name) for name in order])
    axes[1].set_xlim(left=-0.5)
    axes[2].set_xscale("log", base=2)
    axes[2].set_xlim(left=0.5)
    axes[2].set_xticks([1, 4, 16], ["1", "4", "16"])
    fig.suptitle(" and ".join(style.dataset(name).label for name in dict.fromkeys(rows["dataset"])), fontsize=8)
    return fig


# --- claims -----------------------------------------------------------------------------------------------------------


def against(rows: pd.DataFrame, metric: str, methods: Sequence[str], versus: str = "x_gradient") -> pd.DataFrame:
    """Rows of a metric that compares methods with another one."""
    found = select(rows, metric=metric, versus=versus)
    return found[found["method"].isin(methods)]


def of_the_shortcut(rows: pd.DataFrame) -> pd.DataFrame:
    """What each plain net loses against the same net trained without the shortcut."""
    pairs = (("plain", "honest"), ("plain_x", "honest_x"))
    return pd.concat([against(rows, "accuracy_difference", [name], versus) for name, versus in pairs])


N_CHOSEN = "eight trainings tell one point of accuracy from none"
_empirical = partial(Claim, kind=Kind.EMPIRICAL, source="extension", reported="", n_chosen=N_CHOSEN)
_speed = partial(Claim, kind=Kind.SPEED, source="extension", reported="", metric="cost_ratio", n_chosen=N_CHOSEN)
STUDY = Study(
    order=9,
    title="A prior against a shortcut: Decoy-MNIST",
    question="Does a prior on attributions make a net unlearn a shortcut that it is told about, and at what cost per step?",
    source="extension of X-DNN Sec. 4.3; data after Ross et al. 2017",
    method=(
        "2,000 real digits to train on, 1,000 to test. A 4 x 4 grey square in a random corner has the shade 255 - 25 * label "
        f"in training and that of a random class in the test. Small CNN, Adam, {_FULL.epochs} epochs of batches of "
        f"{right_reasons.BATCH}. Prior: strength * mean over images of the summed squared attribution inside the square, of "
        f"the true class's logit (RRR: log probabilities). Strength: of {_FULL.strengths[0]:g} to {_FULL.strengths[-1]:g} in "
        "powers of ten the best of the first seed on 500 digits with random squares; EG (8) and IG (8) take EG (1)'s; a row "
        "says whether the best is the first or last of the grid. Attribution in the square: share of |IG|, "
        f"{_FULL.mass_steps} steps, of {_FULL.mass_images} test digits. Cost: time of an epoch over that of plain "
        f"training in the same of {_FULL.rounds} rounds, with nothing else on the machine. "
        "X-Gradient has two honest rivals at its own price, EG (1) "
        "and RRR: what sets it apart from them is that it is IG, not that it is cheaper or unlearns more. "
        f"Intervals over {_FULL.seeds} trainings."
    ),
    differs=(
        "The paper has no experiment on images with a prior; Ross et al. use all of MNIST and a multilayer perceptron. The "
        "net's patches lie on the square's grid, so that it does take the shortcut. Claims are ours."
    ),
    protocols=PROTOCOLS,
    tasks=tasks,
    rows=rows,
    table=table,
    figure=figure,
    missing=nothing_missing,
    claims=(
        _empirical(
            id="shortcut-costs",
            text=f"Without a prior the shortcut costs a net, with or without biases, at least {SHORTCUT_POINTS:g} points",
            metric="accuracy_difference",
            criterion=at_most(-SHORTCUT_POINTS),
            evidence=of_the_shortcut,
        ),
        _empirical(
            id="x-gradient-regains",
            text=f"The X-Gradient prior regains at least {REGAINED:g} % of what the shortcut cost",
            metric="regained",
            criterion=at_least(REGAINED),
            evidence=partial(select, metric="regained", method="x_gradient"),
        ),
        _empirical(
            id="many-points-gain-nothing",
            text=f"Priors on EG (8) and IG (8) are at most {AS_GOOD:g} point more accurate than the X-Gradient prior",
            metric="accuracy_difference",
            criterion=at_most(AS_GOOD),
            evidence=partial(against, metric="accuracy_difference", methods=MANY_POINTS),
        ),
        _speed(
            id="many-points-cost-more",
            text="An epoch with a prior on EG (8) or IG (8) takes longer than one with the X-Gradient prior",
            criterion=at_least(1.0),
            evidence=partial(against, metric="cost_ratio", methods=MANY_POINTS),
        ),
        _empirical(
            id="rivals-as-accurate",
            text=f"EG (1) and RRR are as accurate as the X-Gradient prior, within {AS_GOOD:g} point either way",
            metric="accuracy_difference",
            criterion=between(-AS_GOOD, AS_GOOD),
            evidence=partial(against, metric="accuracy_difference", methods=ONE_POINT),
        ),
        _speed(
            id="rivals-as-cheap",
            text="An epoch with a prior on EG (1) or RRR takes as long as one with the X-Gradient prior, within a third",
            criterion=between(1 / SAME_COST, SAME_COST),
            evidence=partial(against, metric="cost_ratio", methods=ONE_POINT),
        ),
    ),
)
