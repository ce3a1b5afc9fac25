"""Extension of X-DNN Sec. 4.3 to images: a prior against a known shortcut, and what a training step with it costs."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from reproduce.attributions import integrated_gradients
from reproduce.cells import Cell, Tick, Value
from reproduce.datasets.decoy import RECIPE, DecoyDigits, decoy_digits
from reproduce.metrics.statistics import difference_interval, mean_interval
from reproduce.report import figures
from reproduce.report.tables import wide
from reproduce.run import Run
from reproduce.studies.study import Claim, Study, select
from reproduce.training import right_reasons

VERSION = 2
STRENGTHS = (
    1.0,
    10.0,
    100.0,
    1000.0,
)  # tried with the first seed; the best on validation digits with honest squares is taken
MASS_STEPS = 16  # of the Integrated Gradients that measure what is left in the square, for every net alike
MASS_IMAGES = 200
CLOCKED_EPOCHS = 2

# name -> (label, net, prior's attribution, the method whose strength is taken)
METHODS: dict[str, tuple[str, str, str, str]] = {
    "plain": ("no prior", "regular", "", ""),
    "plain_x": ("no prior, X-net", "x", "", ""),
    "rrr": ("RRR", "regular", "rrr", "rrr"),
    "expected_gradients_1": ("EG (1)", "regular", "expected_gradients_1", "expected_gradients_1"),
    "expected_gradients_8": ("EG (8)", "regular", "expected_gradients_8", "expected_gradients_1"),
    "integrated_gradients_8": ("IG (8)", "regular", "integrated_gradients_8", "expected_gradients_1"),
    "x_gradient": ("X-Gradient, X-net", "x", "x_gradient", "x_gradient"),
    "honest": ("no shortcut in training", "regular", "", ""),
    "honest_x": ("no shortcut, X-net", "x", "", ""),
}
COLOURS = {
    "plain": figures.BLACK, "plain_x": "grey", "rrr": figures.GREEN, "expected_gradients_1": figures.PURPLE,
    "expected_gradients_8": figures.ORANGE, "integrated_gradients_8": figures.VERMILION, "x_gradient": figures.BLUE,
    "honest": figures.BLACK, "honest_x": "grey",
}  # fmt: skip
METRICS = {  # name -> (label, unit, better)
    "accuracy": ("accuracy without the shortcut (%)", "%", "higher"),
    "accuracy_with": ("accuracy with it (%)", "%", "higher"),
    "mass": ("attribution in the square (%)", "%", "lower"),
    "cost": ("time of an epoch / plain", "", "lower"),
    "strength": ("strength", "", ""),
}
SHORTCUT_POINTS = 10.0  # what a plain net must lose for there to be a shortcut to unlearn
REGAINED = 0.5  # of what was lost
AS_GOOD = 1.0  # points of accuracy


def cells(run: Run) -> list[Cell]:
    seeds = [run.seed + seed for seed in range(run.scale.priors.decoy_seeds)]
    if not seeds:
        return []
    key = {
        "study": "decoy", "version": VERSION, "training": right_reasons.VERSION, "recipe": RECIPE, "strengths": list(STRENGTHS),
        "epochs": right_reasons.EPOCHS, "mass": [MASS_STEPS, MASS_IMAGES],
    }  # fmt: skip
    choices = {
        name: Cell(f"decoy strength of {METHODS[name][0]}", key | {"choose": name, "seed": seeds[0]}, partial(_choose, run, name, seeds[0]))
        for name in dict.fromkeys(method[3] for method in METHODS.values() if method[3])
    }  # fmt: skip
    return [
        Cell(f"decoy {label}", key | {"method": name, "seeds": seeds}, partial(_measure, run, name, seeds),
             (choices[taken],) if taken else (), 30 if "8" in name else 6)
        for name, (label, _, _, taken) in METHODS.items()
    ]  # fmt: skip


def _digits(run: Run, split: str, seed: int, *, honest: bool) -> DecoyDigits:
    return decoy_digits(split, honest=honest, generator=run.generator("decoy", split, seed))


def _train(
    run: Run, name: str, seed: int, strength: float, tick: Tick, epochs: int | None = None
) -> tuple[nn.Module, list[float]]:
    _, variant, attribution, _ = METHODS[name]
    shown = _digits(run, "train", seed, honest=name.startswith("honest"))
    generator = run.generator("decoy net", seed)
    return right_reasons.train(
        variant, shown, attribution, strength, generator, device=run.device, epochs=epochs, tick=tick
    )


def _choose(run: Run, name: str, seed: int, tick: Tick) -> Value:
    """The strength with the best accuracy on validation digits whose squares are random; of equals the smaller."""
    held_out = _digits(run, "validation", seed, honest=True)
    scores = {}
    for number, strength in enumerate(STRENGTHS):
        net, _ = _train(run, name, seed, strength, lambda share, n=number: tick((n + share) / len(STRENGTHS)))  # type: ignore[misc]
        scores[strength] = _accuracy(net, held_out, run.device)
    return {"scores": list(scores.values()), "strength": max(scores, key=lambda s: (scores[s], -s))}


def _measure(run: Run, name: str, seeds: list[int], tick: Tick, *chosen: Value) -> Value:
    strength = chosen[0]["strength"] if chosen else 0.0
    out: dict[str, list[float]] = {"accuracy": [], "accuracy_with": [], "mass": [], "seconds": [], "plain_seconds": []}
    prints = {}
    for number, seed in enumerate(seeds):
        net, seconds = _train(run, name, seed, strength, lambda share, n=number: tick((n + share) / len(seeds)))  # type: ignore[misc]
        # A plain net beside it, so that both see the same machine; a few epochs of it give the time of one.
        _, plain = _train(run, "plain", seed, 0.0, lambda share: None, epochs=CLOCKED_EPOCHS)
        honest = _digits(run, "test", seed, honest=True)
        out["accuracy"].append(_accuracy(net, honest, run.device))
        out["accuracy_with"].append(_accuracy(net, _digits(run, "test", seed, honest=False), run.device))
        out["mass"].append(_mass(net, honest, run.device))
        out["seconds"].append(float(np.median(seconds)))
        out["plain_seconds"].append(float(np.median(plain)))
        prints[f"decoy-mnist test, seed {seed}"] = honest.fingerprint()
    return {"method": name, "strength": strength, "measured": out, "data": prints}


@torch.no_grad()
def _accuracy(net: nn.Module, shown: DecoyDigits, device: torch.device) -> float:
    return 100 * (net(shown.inputs.to(device)).argmax(1).cpu() == shown.targets).float().mean().item()


def _mass(net: nn.Module, shown: DecoyDigits, device: torch.device) -> float:
    """Share of |IG| of the true class that lies in the square, in percent; the mean over images."""
    index = torch.randperm(len(shown), generator=torch.Generator().manual_seed(0))[:MASS_IMAGES]
    inputs, targets = shown.inputs[index].to(device), shown.targets[index].to(device)
    return share_inside(integrated_gradients(net, inputs, targets, steps=MASS_STEPS).cpu(), shown.squares[index])


def share_inside(attributions: Tensor, squares: Tensor) -> float:
    """100 * mean over images of sum|A| inside the square / sum|A|; an all-zero attribution has nothing inside."""
    sizes = attributions.abs()
    inside, total = (sizes * squares).flatten(1).sum(1), sizes.flatten(1).sum(1)
    return 100 * (inside / total.where(total > 0, 1.0)).mean().item()


def rows(values: list[Value]) -> pd.DataFrame:
    samples = {}
    for value in values:
        measured = value["measured"]
        cost = [a / b for a, b in zip(measured["seconds"], measured["plain_seconds"], strict=True)]
        samples[value["method"]] = measured | {"cost": cost, "strength": [value["strength"]] * len(cost)}
    out: list[dict[str, Any]] = []
    for name, sample in samples.items():
        about = {"dataset": "decoy-mnist", "model": "small CNN", "variant": METHODS[name][1], "method": name}
        for metric, (_, unit, better) in METRICS.items():
            about_metric = {"metric": metric, "unit": unit, "better": better}
            out.append(about | about_metric | mean_interval(sample[metric]).columns())
        for versus in ("plain", "plain_x", "honest", "honest_x", "x_gradient"):
            difference = difference_interval(sample["accuracy"], samples[versus]["accuracy"]).columns()
            out.append(
                about
                | {"versus": versus, "metric": "accuracy_difference", "unit": "%", "better": "higher"}
                | difference
            )
    return pd.DataFrame(out)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    part = rows[rows["metric"].isin(METRICS)]
    part = part.assign(prior=part["method"].map(lambda name: METHODS[name][0]))
    return wide(part, ["dataset", "prior", "variant"], {metric: label for metric, (label, _, _) in METRICS.items()})


def figure(rows: pd.DataFrame, values: list[Value]) -> Figure:
    """Accuracy without the shortcut over the cost of an epoch (left); attribution that is left in the square (right)."""
    wanted = rows[rows["metric"].isin(METRICS)].set_index(["metric", "method"])
    fig, (left, right) = figures.subplots(1, 2, height=3.0)
    for name, (label, _, _, _) in METHODS.items():
        x, y = wanted.loc[("cost", name)], wanted.loc[("accuracy", name)]
        if name.startswith("honest"):
            left.axhline(y["value"], color=COLOURS[name], lw=0.8, ls=":", label=label)
        else:
            spread = [[y["value"] - y["low"]], [y["high"] - y["value"]]]
            left.errorbar(
                x["value"], y["value"], spread, color=COLOURS[name], marker="o", ms=5, capsize=2, ls="", label=label
            )
    left.set_xscale("log", base=2)
    left.set(xlabel="time of an epoch, plain training = 1", ylabel="accuracy without the shortcut (%)")
    left.legend(loc="lower right")
    mass = wanted.loc["mass"].reindex(list(METHODS))[::-1]
    mass_spread = np.stack([mass["value"] - mass["low"], mass["high"] - mass["value"]])
    labels = [METHODS[str(name)][0] for name in mass.index]
    right.barh(
        labels,
        mass["value"],
        xerr=mass_spread,
        color=[COLOURS[str(name)] for name in mass.index],
        error_kw={"lw": 0.8},
        capsize=2,
    )
    right.set(xlabel="attribution in the square (%)")
    return fig


def _difference(rows: pd.DataFrame, method: str, versus: str) -> pd.Series:
    return select(rows, metric="accuracy_difference", method=method, versus=versus).iloc[0]


def _there_is_a_shortcut(rows: pd.DataFrame) -> tuple[bool, str]:
    found = {name: _difference(rows, name, other) for name, other in (("plain", "honest"), ("plain_x", "honest_x"))}
    words = "; ".join(
        f"{METHODS[n][0]} {r['value']:+.1f} [{r['low']:+.1f}, {r['high']:+.1f}]" for n, r in found.items()
    )
    return all(row["high"] <= -SHORTCUT_POINTS for row in found.values()), f"{words} points"


def _x_gradient_regains(rows: pd.DataFrame) -> tuple[bool, str]:
    gain = _difference(rows, "x_gradient", "plain_x")
    lost = -_difference(rows, "plain_x", "honest_x")["value"]
    holds = lost > 0 and gain["low"] >= REGAINED * lost
    return bool(holds), f"{gain['value']:+.1f} [{gain['low']:+.1f}, {gain['high']:+.1f}] of {lost:.1f} points lost"


def _cheap_and_as_good(rows: pd.DataFrame) -> tuple[bool, str]:
    cost = {name: select(rows, metric="cost", method=name)["value"].iloc[0] for name in METHODS}
    dear = ("expected_gradients_8", "integrated_gradients_8")
    behind = {name: _difference(rows, name, "x_gradient") for name in dear}
    words = "; ".join(
        f"{METHODS[n][0]} {r['value']:+.1f} points at {cost[n]:.0f} times plain" for n, r in behind.items()
    )
    holds = all(row["high"] <= AS_GOOD and cost[name] > cost["x_gradient"] for name, row in behind.items())
    return bool(holds), f"X-Gradient at {cost['x_gradient']:.1f} times plain; against it {words}"


STUDY = Study(
    name="decoy",
    title="A prior against a shortcut: Decoy-MNIST",
    question="Does a prior on attributions make a net unlearn a shortcut that it is told about, and at what cost per step?",
    source="extension of X-DNN Sec. 4.3; data after Ross et al. 2017",
    protocol=(
        "2,000 real digits to train on, 1,000 to test. A 4 x 4 grey square in a random corner has the shade 255 - 25 * label in training and "
        f"that of a random class in the test. Small CNN, Adam, {right_reasons.EPOCHS} epochs of batches of {right_reasons.BATCH}. Prior: "
        "strength * mean over images of the summed squared attribution inside the square, of the true class's logit (RRR: log probabilities). "
        "Strength: of 1 to 1000 the best of the first seed on 500 digits with random squares; EG (8), IG (8) take EG (1)'s. Attribution "
        f"in the square: share of |IG|, {MASS_STEPS} steps, of {MASS_IMAGES} test digits. Cost: median time of an epoch over that of plain "
        "training run beside it. Intervals: 95 % bootstrap over training seeds."
    ),
    differs=(
        "The paper has no experiment on images with a prior; Ross et al. use all of MNIST and a multilayer perceptron. The net's patches "
        "lie on the square's grid, so that it does take the shortcut. Claims are ours."
    ),
    cells=cells,
    rows=rows,
    table=table,
    figure=figure,
    claims=(
        Claim(f"Without a prior the shortcut costs both nets at least {SHORTCUT_POINTS:g} points", "extension", "", _there_is_a_shortcut),
        Claim(f"The X-Gradient prior regains at least {100 * REGAINED:g} % of what the shortcut cost", "extension", "", _x_gradient_regains),
        Claim(f"X-Gradient is cheaper per step than EG (8) and IG (8), which are at most {AS_GOOD:g} point better", "extension", "",
              _cheap_and_as_good),
    ),
)  # fmt: skip
