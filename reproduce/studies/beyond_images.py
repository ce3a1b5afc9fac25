"""Extension of X-DNN Prop. 3.2: the theorem is about F(ax) = aF(x), not about pictures. Words by letters, molecules by atoms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from reproduce.claims import Claim, Kind, at_least, at_most, not_worse, select
from reproduce.context import Context
from reproduce.datasets import beyond_images
from reproduce.experiment import Experiment
from reproduce.problems import PROBLEMS, Problem
from reproduce.report import figures, style
from reproduce.report.tables import Table, stack, wide
from reproduce.report.tokens import draw_molecules, draw_words
from reproduce.statistics import difference_interval, exact, mean_interval, ratio_interval
from reproduce.study import Study
from reproduce.tasks import Result, Task
from reproduce.training import compact
from xdnn import gradient, input_x_gradient, integrated_gradients, is_homogeneous, to_x_variant, x_gradient
from xdnn.metrics.agreement import mard_by_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Protocol:
    """What decides the numbers.

    Attributes:
        trainings: of each net, at least.
        explained: test examples whose attributions are computed, the same for each training.
        ig_steps: Gauss-Legendre, from nothing at any token, as X-DNN Sec. 4.1 takes them from a zero image.
        mard_batch: part of the definition, as in study table1.
    """

    trainings: int = 3
    explained: int = 160
    ig_steps: int = 128
    mard_batch: int = 16
    epochs: int = compact.EPOCHS


@dataclass(frozen=True)
class Subject:
    """Which net of which data was trained with which seed."""

    dataset: str
    variant: str
    seed: int


@dataclass(frozen=True)
class Measurement:
    """Of one training.

    Attributes:
        quality: a number per test example; ``mard``: what each explained one contributes to its batch's.
        deviation: of F(ax) from aF(x) in float64.
        truth: method -> per explained example, how well its attribution agrees with what is known.
        maps: method -> attributions by token, (N, P); ``known`` (N, P) and ``names`` are of the same examples.
    """

    quality: list[float]
    mard: list[float]
    deviation: float
    truth: dict[str, list[float]]
    maps: dict[str, Tensor]
    known: Tensor
    names: list[str]
    data: dict[str, str]


_FULL = Protocol()
PROTOCOLS = {
    "smoke": Protocol(trainings=2, explained=32, ig_steps=8, epochs=1),
    "embedded": _FULL,
    "subset": _FULL,
    "paper": _FULL,
}
VARIANTS = ("regular", "x")
METHODS = ("gradient", "input_x_gradient", "integrated_gradients")
LOST_POINTS = 1.5  # what X-DNN Table 1 loses at most
LOST_ERROR = 10.0  # percent of the regular net's error; ours, the paper has no regression
AS_GOOD = {"spelled-sounds": 2.0, "nci-molecules": 0.02}  # percent of words, correlation: less is no difference


# --- tasks ------------------------------------------------------------------------------------------------------------


def tasks(context: Context, protocol: Protocol) -> list[Task[Subject, Measurement]]:
    trainings = max(protocol.trainings, context.seeds)
    return [
        Task(
            f"beyond-images {name} {variant}, seed {context.seed + number}",
            Measurement,
            measure,
            Subject(name, variant, context.seed + number),
            protocol,
            {"examples": beyond_images.key()},
            seconds=5,
        )
        for name in PROBLEMS
        for number in range(trainings)
        for variant in VARIANTS
    ]


def nothing_missing(context: Context, protocol: Protocol) -> dict[str, str]:
    """Its words and molecules come inside packages."""
    return {}


def measure(experiment: Experiment[Subject, Protocol]) -> Measurement:
    """Train a net, test it, and compare its attributions with each other and with what is known."""
    about, protocol, device = experiment.about, experiment.protocol, experiment.device
    problem, is_x = PROBLEMS[about.dataset], about.variant == "x"
    train, test = problem.load("train"), problem.load("test")

    def build() -> nn.Module:
        net = problem.net(train.features)
        return to_x_variant(net) if is_x else net

    net = compact.train(
        build,
        train.inputs.to(device),
        train.targets.to(device),
        problem.loss,
        seed=about.seed,
        epochs=protocol.epochs,
        progress=lambda share: experiment.progress(0.6 * share),
    )
    with torch.no_grad():
        quality = problem.quality(net(test.inputs.to(device)), test.targets.to(device))
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))
    explained = test[order[problem.known(test.truth)[order]][: protocol.explained]]
    inputs, targets = explained.inputs.to(device), problem.target(explained.targets).to(device)
    blank = explained.baseline().to(device)
    reference = integrated_gradients(net, inputs, targets, baseline=blank, steps=protocol.ig_steps)
    # Bonds are no input: what is attributed is x minus the baseline, and the same on an X-net, where X-Gradient checks itself.
    product = x_gradient(net, inputs, targets) if is_x else input_x_gradient(net, inputs, targets)
    found = dict(zip(METHODS, (gradient(net, inputs, targets), product, reference), strict=True))
    maps = {method: explained.tokens(attributions.cpu()) for method, attributions in found.items()}
    batches = zip(reference.split(protocol.mard_batch), product.split(protocol.mard_batch), strict=True)
    return Measurement(
        quality.tolist(),
        [part for a, b in batches for part in mard_by_image(a, b).tolist()],
        is_homogeneous(net, inputs[:32], dtype=torch.float64).deviation,
        {method: problem.agreement(tokens, explained.truth).tolist() for method, tokens in maps.items()},
        maps,
        explained.truth.float(),
        list(explained.names),
        {f"{about.dataset} test": test.fingerprint()},
    )


# --- rows: every sample is (trainings, units), since all trainings are tested on the same examples -----------------------


def rows(results: Sequence[Result[Subject, Measurement]]) -> pd.DataFrame:
    out: list[dict[str, Any]] = []
    for name, problem in PROBLEMS.items():
        found = {v: [r.value for r in results if (r.about.dataset, r.about.variant) == (name, v)] for v in VARIANTS}
        net, _, unit, better, _, truth_unit = problem.words
        for variant, group in found.items():
            ids = {"dataset": name, "model": net, "variant": variant}
            qualities = mean_interval([one.quality for one in group])
            out.append(ids | {"metric": "quality", "unit": unit, "better": better} | qualities.columns())
            gaps = mean_interval([[100 * gap for gap in one.mard] for one in group])
            out.append(ids | {"metric": "mard", "unit": "%", "better": "lower"} | gaps.columns())
            largest = exact(max(one.deviation for one in group), len(group))
            out.append(ids | {"metric": "deviation", "unit": "", "better": "lower"} | largest.columns())
            for method in METHODS:
                about = {"method": method, "metric": "truth", "unit": truth_unit, "better": "higher"}
                out.append(ids | about | mean_interval([one.truth[method] for one in group]).columns())
        out += _differences({"dataset": name, "model": net, "variant": "x"}, problem, found["regular"], found["x"])
    return pd.DataFrame(out)


def _differences(
    ids: dict[str, Any], problem: Problem, regular: Sequence[Measurement], x: Sequence[Measurement]
) -> list[dict[str, Any]]:
    """The X-nets minus the regular nets; of the quality also in percent of the regular nets'."""
    first, second = (np.array([one.quality for one in group]) for group in (x, regular))
    ours, theirs = [one.truth["input_x_gradient"] for one in x], [one.truth["integrated_gradients"] for one in regular]
    found = {
        "quality_difference": (problem.words[2], problem.words[3], difference_interval(first, second)),
        "quality_change": ("%", problem.words[3], ratio_interval(100 * (first - second), second)),
        "truth_difference": (problem.words[5], "higher", difference_interval(ours, theirs)),
    }
    return [ids | {"metric": m, "unit": u, "better": b} | interval.columns() for m, (u, b, interval) in found.items()]


# --- what people read -------------------------------------------------------------------------------------------------


def table(rows: pd.DataFrame) -> Table:
    """A line for each net; what its quality and the agreement with the truth are measured in stands beside it."""
    ids = ("dataset", "model", "variant", "measured in")
    said = {name: f"{problem.words[1]}; {problem.words[4]}" for name, problem in PROBLEMS.items()}
    headings = {"quality": "quality", "mard": "MARD (%)", "deviation": "F(ax) - aF(x), float64"}
    headings |= {f"truth {method}": f"truth: {style.method(method).label}" for method in METHODS}
    shown = rows[~rows["metric"].str.contains("difference|change")]
    named = shown["metric"] + shown["method"].map(lambda method: f" {method}" if isinstance(method, str) else "")
    direction = shown["better"].where(shown["metric"] != "quality", "")  # of an accuracy another than of an error
    lines = shown.assign(metric=named, better=direction, **{"measured in": shown["dataset"].map(said)})
    return stack(*(wide(part, ids, headings) for _, part in lines.groupby("dataset", sort=False)))


def figure(rows: pd.DataFrame, results: Sequence[Result[Subject, Measurement]]) -> Figure:
    """Above: words, letters coloured by attribution (red raises the output). Below: molecules, atoms coloured."""
    first = {(r.about.dataset, r.about.variant): r.value for r in reversed(results)}  # the first training of each
    fig, axes = figures.subplots(2, 3, height=5.6, gridspec_kw={"height_ratios": [1, 1.25]})
    columns = (
        ("known", "regular", None),
        ("IG, regular net", "regular", "integrated_gradients"),
        ("X-Gradient, X-net", "x", "input_x_gradient"),
    )
    what = {"spelled-sounds": "letters", "nci-molecules": "atoms"}
    for line, (name, draw) in enumerate((("spelled-sounds", draw_words), ("nci-molecules", draw_molecules))):
        for ax, (title, variant, method) in zip(axes[3 * line :], columns, strict=False):
            value = first[name, variant]
            draw(ax, value.names, (value.known if method is None else value.maps[method]).numpy())
            ax.set_title(f"{style.dataset(name).label}: {title} {what[name]}" if method is None else title)
            ax.axis("off")
    fig.supxlabel("red raises the explained output, blue lowers it", fontsize=8)
    return fig


# --- claims -----------------------------------------------------------------------------------------------------------

_claim = partial(Claim, reported="", n_chosen="all test examples; explained ones as many as show differences of 0.03")
_as_good = {
    name: _claim(
        id=f"{name}-truth",
        text=f"X-Gradient on the X-net finds the known {what} as well as IG on the regular net: within {AS_GOOD[name]:g} {unit}",
        kind=Kind.EMPIRICAL,
        source="extension",
        metric="truth_difference",
        criterion=not_worse(AS_GOOD[name]),
        evidence=partial(select, metric="truth_difference", dataset=name),
    )
    for name, what, unit in (
        ("spelled-sounds", "letters", "% of the words"),
        ("nci-molecules", "atoms", "of correlation"),
    )
}
STUDY = Study(
    order=10,
    title="Beyond images: words and molecules",
    question=(
        "Does the theorem carry over to nets that read words or molecules, and do the attributions find the known letters "
        "and atoms?"
    ),
    source="extension of X-DNN Prop. 3.2; text and molecules as in IG Sec. 6",
    method=(
        "Words: 9,500 English words by letters, which of the sounds sh, ch, th, j, ng is in them; two convolutions and the "
        "strongest response. Truth: the letters of the sound's only usual spelling in the word. Molecules: about 4,000 "
        "compounds, polar surface area; two rounds of sums over neighbours. Truth: each atom's part in the area. "
        f"{_FULL.trainings} trainings each, regular and X-variant, tested and explained on the same examples. Baseline: no "
        f"letter, no atom feature (bonds stay). MARD per batch of {_FULL.mard_batch} between IG with {_FULL.ig_steps} points "
        f"and Input x Gradient on {_FULL.explained} test examples. Agreement: is the highest letter part of the spelling; "
        "Pearson's correlation over a molecule's atoms. Intervals: of a mean over trainings and examples, crossed."
    ),
    differs=(
        "The papers' text and molecule data are not inside packages. The surface area is computed from the structure by a "
        "published rule, which is what makes each atom's part known. Claims are ours where the papers have none."
    ),
    protocols=PROTOCOLS,
    tasks=tasks,
    rows=rows,
    table=table,
    figure=figure,
    missing=nothing_missing,
    claims=(
        _claim(
            id="x-mard",
            text="On words and molecules, too, Input x Gradient equals IG on X-nets: MARD is at most 0.1 %",
            kind=Kind.THEOREM,
            source="X-DNN Prop. 3.2",
            metric="mard",
            criterion=at_most(0.1),
            evidence=partial(select, metric="mard", variant="x"),
        ),
        _claim(
            id="x-homogeneous",
            text="X-nets for words and molecules are homogeneous: F(ax) is within 1e-9 of aF(x) in float64",
            kind=Kind.THEOREM,
            source="X-DNN Def. 3.3",
            metric="deviation",
            criterion=at_most(1e-9),
            evidence=partial(select, metric="deviation", variant="x"),
        ),
        _claim(
            id="regular-mard",
            text="With biases Input x Gradient is not IG on words and molecules either: MARD is at least 20 %",
            kind=Kind.EMPIRICAL,
            source="extension of X-DNN Table 1",
            metric="mard",
            criterion=at_least(20),
            evidence=partial(select, metric="mard", variant="regular"),
        ),
        _claim(
            id="accuracy-cost",
            text=f"Removing the biases costs the net that reads words at most {LOST_POINTS:g} points of accuracy",
            kind=Kind.EMPIRICAL,
            source="extension of X-DNN Table 1",
            metric="quality_difference",
            criterion=not_worse(LOST_POINTS),
            evidence=partial(select, metric="quality_difference", dataset="spelled-sounds"),
        ),
        _claim(
            id="error-cost",
            text=f"Removing the biases raises the error of the net that reads molecules by at most {LOST_ERROR:g} %",
            kind=Kind.EMPIRICAL,
            source="extension of X-DNN Table 1",
            metric="quality_change",
            criterion=at_most(LOST_ERROR),
            evidence=partial(select, metric="quality_change", dataset="nci-molecules"),
        ),
        *_as_good.values(),
    ),
)
