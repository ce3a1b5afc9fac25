"""How many steps of Integrated Gradients an image needs, and what it saves to give it no more (IG paper Sec. 5)."""

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from reproduce.attributions import QUADRATURES, adaptive_integrated_gradients
from reproduce.attributions.adaptive import EXACT, SETTLED
from reproduce.attributions.engine import chunk_size
from reproduce.attributions.gradients import gradient
from reproduce.cells import Cell, Tick, Value
from reproduce.datasets import Images
from reproduce.metrics.agreement import completeness_gap, relative_l1
from reproduce.metrics.statistics import mean_interval
from reproduce.report import figures
from reproduce.report.tables import number
from reproduce.run import Run
from reproduce.studies.study import Claim, Study, select

VERSION = 1
GRID = 360  # rules of equal steps share the nodes k / (2 GRID); steps are divisors of it
EQUAL = (1, 2, 3, 5, 10, 20, 36, 72, 120, 180, 360)  # steps of left, right, trapezoid (n + 1 nodes) and midpoint
GAUSS = (1, 2, 4, 8, 16, 32, 64, 128)
GAPS = (0.05, 0.01)  # completeness gaps asked for; 5 % is the IG paper's
PAPER_RANGE = (20, 300)  # steps, IG paper Sec. 5
SHARE = 0.9  # of the images that the paper's range is asked to serve
TOLERANCES = (0.05, 0.02, 0.01)  # of adaptive_integrated_gradients
CHEAPER = 0.9  # of the fixed number that is as exact: what counts as a saving

RULES = {
    "gauss_legendre": "Gauss-Legendre", "midpoint": "midpoint", "trapezoid": "trapezoid", "right_riemann": "right Riemann",
    "left_riemann": "left Riemann",
}  # fmt: skip
COLOURS = dict(zip(RULES, (figures.BLACK, figures.SKY, figures.GREEN, figures.VERMILION, figures.ORANGE), strict=True))


def cells(run: Run) -> list[Cell]:
    return [
        run.cell(
            "steps", VERSION, net, _measure, images=count, seconds=12,
            grid=GRID, equal=EQUAL, gauss=GAUSS, tolerances=TOLERANCES, rules=list(RULES), settled=SETTLED, exact=EXACT,
        )
        for net, count in run.nets("steps")
    ]  # fmt: skip


def _measure(tick: Tick, model: nn.Module, images: Images) -> Value:
    inputs, targets = next(images.batches(len(images), next(model.parameters()).device))
    change = _logits(model, inputs, targets) - _logits(model, torch.zeros_like(inputs), targets)
    rules = [("gauss_legendre", n) for n in GAUSS] + [
        (rule, n) for rule in RULES for n in EQUAL if rule != "gauss_legendre"
    ]
    nodes, weights = _together(rules)
    curves: dict[tuple[str, int], dict[str, list[float]]] = {rule: {"gap": [], "distance": []} for rule in rules}
    adaptive: dict[float, dict[str, list[float]]] = {t: {"gap": [], "distance": [], "steps": []} for t in TOLERANCES}
    for i in range(len(images)):
        x, t, whole = inputs[i : i + 1], targets[i : i + 1], change[i : i + 1]
        attributions = x * _all_rules(model, x, t, nodes, weights)  # (rules, *F)
        reference = attributions[rules.index(("midpoint", GRID))][None]
        gaps = completeness_gap(attributions, whole).tolist()
        distances = relative_l1(reference.expand_as(attributions), attributions).tolist()
        for rule, gap, distance in zip(rules, gaps, distances, strict=True):
            curves[rule]["gap"].append(gap)
            curves[rule]["distance"].append(distance)
        for tolerance, found in adaptive.items():
            own, steps = adaptive_integrated_gradients(model, x, t, tolerance=tolerance)
            found["gap"] += completeness_gap(own, whole).tolist()
            found["distance"] += relative_l1(reference, own).tolist()
            found["steps"] += steps.tolist()
        tick((i + 1) / len(images))
    return {
        "curves": [{"rule": rule, "steps": n} | curve for (rule, n), curve in curves.items()],
        "adaptive": [{"tolerance": tolerance} | found for tolerance, found in adaptive.items()],
    }


def _together(rules: list[tuple[str, int]]) -> tuple[Tensor, Tensor]:
    """All nodes of the rules, each once, and every rule's weights on them: (K,) and (rules, K), float64."""
    parts = [QUADRATURES[rule](n + (rule == "trapezoid")) for rule, n in rules]
    nodes = np.unique(np.concatenate([np.round(nodes, 12) for nodes, _ in parts]))
    weights = np.zeros((len(rules), len(nodes)))
    for row, (own, weight) in zip(weights, parts, strict=True):
        row[np.searchsorted(nodes, np.round(own, 12))] = weight
    return torch.from_numpy(nodes), torch.from_numpy(weights)


def _all_rules(model: nn.Module, x: Tensor, target: Tensor, nodes: Tensor, weights: Tensor) -> Tensor:
    """The mean gradient from 0 to one image x by every rule: (rules, *F). One pass for each node, however many rules use it."""
    total = x.new_zeros(len(weights), x[0].numel())
    size = chunk_size(model, x, None)
    for a, w in zip(nodes.to(x).split(size), weights.to(x).split(size, dim=1), strict=True):
        grads = gradient(model, a.view(-1, *[1] * (x.ndim - 1)) * x, target.expand(len(a)))
        total += w @ grads.flatten(1)
    return total.view(-1, *x.shape[1:])


@torch.no_grad()
def _logits(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    return model(inputs).gather(1, targets[:, None]).squeeze(1)


# --- rows ---


def rows(values: list[Value]) -> pd.DataFrame:
    out = []
    for value in values:
        for curve in value["curves"]:
            ids = value["net"] | {"rule": curve["rule"], "steps": curve["steps"], "tolerance": np.nan}
            out.append(ids | _metric("distance", "", "lower", curve["distance"]))
            for gap in GAPS:
                within = [100.0 * (g <= gap) for g in curve["gap"]]
                out.append(ids | _metric(f"within_{gap:g}", "%", "higher", within))
        for rule, gap in product(RULES, GAPS):
            ids = value["net"] | {"rule": rule, "steps": np.nan, "tolerance": np.nan}
            out.append(ids | _metric(f"needed_{gap:g}", "steps", "lower", _needed(value, rule, gap)))
        for found in value["adaptive"]:
            ids = value["net"] | {"rule": "adaptive", "steps": np.nan, "tolerance": found["tolerance"]}
            out.append(ids | _metric("distance", "", "lower", found["distance"]))
            out.append(ids | _metric("steps_used", "steps", "lower", found["steps"]))
            out.append(ids | _metric("equal_error", "steps", "lower", [_equal_error(value, found["distance"])]))
    return pd.DataFrame(out)


def _metric(name: str, unit: str, better: str, draws: list[float]) -> dict[str, Any]:
    return {"metric": name, "unit": unit, "better": better} | mean_interval(draws).columns()


def _needed(value: Value, rule: str, gap: float) -> list[float]:
    """For each image the least number of steps from which on every larger one tried stays within the gap.

    Where even the largest number is not enough, twice that number: it counts as more than was tried.
    """
    curves = sorted((c for c in value["curves"] if c["rule"] == rule), key=lambda c: c["steps"])
    needed = []
    for gaps in zip(*(c["gap"] for c in curves), strict=True):
        steps = 2.0 * curves[-1]["steps"]
        for curve, own in zip(reversed(curves), reversed(gaps), strict=True):
            if own > gap:
                break
            steps = float(curve["steps"])
        needed.append(steps)
    return needed


def _equal_error(value: Value, distances: list[float]) -> float:
    """Gauss-Legendre steps for all images that give the same mean distance to the reference; interpolated in log-log.

    Held at the ends of what was tried.
    """
    curves = sorted((c for c in value["curves"] if c["rule"] == "gauss_legendre"), key=lambda c: c["steps"])
    error = np.log([np.mean(c["distance"]) + 1e-12 for c in curves])
    falling = np.minimum.accumulate(error)
    own = np.log(np.mean(distances) + 1e-12)
    return float(np.exp(np.interp(-own, -falling, np.log([c["steps"] for c in curves]))))


# --- for people ---


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean steps needed per rule and gap; then what adaptive IG used, and how many steps for all are as exact."""
    lines = []
    for ids, part in rows.groupby(["dataset", "model", "variant"], sort=False):
        _, model, variant = map(str, ids)
        line: dict[str, object] = {
            "model": figures.MODEL_LABEL.get(model, model),
            "variant": figures.VARIANT_LABEL[variant],
        }
        for rule, gap in product(RULES, GAPS):
            found = part[(part["rule"] == rule) & (part["metric"] == f"needed_{gap:g}")]
            line[f"{RULES[rule]}, {100 * gap:g} %"] = number(found.iloc[0]["value"])
        for tolerance in TOLERANCES:
            own = part[part["tolerance"] == tolerance].set_index("metric")["value"]
            line[f"adaptive {100 * tolerance:g} %: used (for all)"] = (
                f"{number(own['steps_used'])} ({number(own['equal_error'])})"
            )
        lines.append(line)
    return pd.DataFrame(lines)


def figure(rows: pd.DataFrame, values: list[Value]) -> Figure:
    """Above: share of images within 5 % over steps, per rule. Below: distance to the reference over passes, adaptive as dots."""
    models = list(dict.fromkeys(rows["model"]))
    fig, axes = figures.subplots(2, max(1, len(models)), sharex=True, sharey="row", height=5.2)
    for i, model in enumerate(models):
        above, below = axes[i], axes[i + len(models)]
        for variant in dict.fromkeys(rows["variant"]):
            part = rows[(rows["model"] == model) & (rows["variant"] == variant)]
            style = figures.variant_line(str(variant))["ls"]
            for rule, label in RULES.items():
                within = part[(part["rule"] == rule) & (part["metric"] == f"within_{GAPS[0]:g}")]
                label_once = label if variant == "regular" else None
                above.plot(within["steps"], within["value"], ls=style, color=COLOURS[rule], lw=1.1, label=label_once)
            fixed = part[(part["rule"] == "gauss_legendre") & (part["metric"] == "distance")]
            below.plot(fixed["steps"], fixed["value"].clip(lower=1e-7), ls=style, color=figures.BLACK, lw=1.1)
            own = part[part["rule"] == "adaptive"].pivot_table(index="tolerance", columns="metric", values="value")
            below.plot(own["steps_used"], own["distance"].clip(lower=1e-7), ls="", marker="o" if variant == "x" else "s",
                       mfc=figures.BLUE if variant == "x" else "white", mec=figures.BLUE, ms=4)  # fmt: skip
        above.axvspan(*PAPER_RANGE, color="#eeeeee", zorder=0)
        above.set(xscale="log", title=figures.MODEL_LABEL.get(model, model))
        below.set(xscale="log", yscale="log", xlabel="steps = passes")
    axes[0].set_ylabel("images within 5 % (%)")
    axes[len(models)].set_ylabel("relative L1 to reference")
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=5,
               title="regular dashed, X solid; grey: the IG paper's 20 to 300; below: Gauss-Legendre, dots: as many as needed")  # fmt: skip
    return fig


# --- claims ---


def _within(rows: pd.DataFrame, variant: str, steps: int) -> pd.Series:
    part = select(rows, variant=variant, rule="right_riemann", metric=f"within_{GAPS[0]:g}", steps=steps)
    return part.set_index("model")["value"]


def _paper_range(rows: pd.DataFrame) -> tuple[bool, str]:
    """The paper's own rule is the right Riemann sum; tried are divisors of the grid, so 20 and 180 stand for 20 to 300."""
    few, many = (_within(rows, "regular", n) for n in (PAPER_RANGE[0], max(n for n in EQUAL if n <= PAPER_RANGE[1])))
    words = ", ".join(f"{figures.MODEL_LABEL.get(str(m), m)} {few[m]:.0f} to {many[m]:.0f} %" for m in few.index)
    return bool((many >= 100 * SHARE).all()), f"images within 5 % at 20 to 180 steps: {words}"


def _one_on_x(rows: pd.DataFrame) -> tuple[bool, str]:
    part = select(rows, variant="x", metric="needed_0.01", rule="gauss_legendre")
    return bool(part["value"].max() == 1), f"mean steps needed for 1 %: at most {part['value'].max():g}"


def _left_on_x(rows: pd.DataFrame) -> tuple[bool, str]:
    """The lost node weighs 1/n in the left rule, so 1 % takes 100 steps or more; of those tried 120."""
    part = select(rows, variant="x", metric="needed_0.01", rule="left_riemann")
    expected = min(n for n in EQUAL if 1 / n <= 0.01)
    return bool(
        (part["value"] == expected).all()
    ), f"mean steps needed for 1 %: {number(part['value'].min())} to {number(part['value'].max())}"


def _cheaper(rows: pd.DataFrame) -> tuple[bool, str]:
    part = select(rows, variant="regular", rule="adaptive", tolerance=0.01)
    wide = part.pivot_table(index="model", columns="metric", values="value", sort=False)
    words = ", ".join(
        f"{figures.MODEL_LABEL.get(str(m), m)} {r['steps_used']:.0f} used, as exact as {r['equal_error']:.0f} for all"
        for m, r in wide.iterrows()
    )
    return bool((wide["steps_used"] <= CHEAPER * wide["equal_error"]).all()), words


STUDY = Study(
    name="steps",
    title="How many steps an image needs",
    question="How many steps bring IG within 5 % and 1 % of completeness, and what does it save to stop there?",
    source="IG paper Sec. 5",
    protocol=(
        f"IG from the zero baseline, logit of the true class, every rule at {EQUAL[0]} to {EQUAL[-1]} equal steps (the trapezoid has "
        f"one node more) and Gauss-Legendre at {GAUSS[0]} to {GAUSS[-1]}; all rules share one sweep of an image's path. Steps needed: "
        "the least number from which on every larger one tried stays within the gap; twice the largest where that is not enough. Gap: "
        "|sum A - (F(x) - F(x'))| / |F(x) - F(x')|. Adaptive: adaptive_integrated_gradients (gap within the tolerance and attributions "
        "settled), steps used on average and, in brackets, how many Gauss-Legendre steps for all images have the same mean relative L1 "
        f"to the reference, {GRID} midpoints. Means over images with 95 % bootstrap intervals."
    ),
    differs="The paper says 'normally 20 to 300' of its own nets without a table; here it is measured per image, on other nets.",
    cells=cells,
    rows=rows,
    table=table,
    figure=figure,
    claims=(
        Claim("Of the images of a regular net 90 % are within 5 % at the upper end of 20 to 300 steps", "IG paper Sec. 5",
              "20 to 300 steps", _paper_range),
        Claim("On an X-DNN one Gauss-Legendre step is enough for every image", "X-DNN Prop. 3.2", "1 step", _one_on_x),
        Claim("On an X-DNN the left rule loses its node at the zero baseline: 1 % takes at least 100 steps",
              "torch's ReLU has slope 0 at 0", "", _left_on_x),
        Claim("As many steps as each image needs (1 %) cost at least 10 % less than a fixed number for all that is as exact",
              "what IG paper Sec. 5's check would save", "", _cheaper),
    ),
)  # fmt: skip
