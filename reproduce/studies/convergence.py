"""How many steps Integrated Gradients needs, how many references Expected Gradients (X-DNN supplement, 128-step choice)."""

from functools import partial
from itertools import product

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from reproduce.attributions import QUADRATURES, expected_gradients, input_x_gradient, integrated_gradients
from reproduce.cells import Cell, Tick, Value
from reproduce.datasets import Images
from reproduce.metrics.agreement import completeness_gap, relative_l1
from reproduce.metrics.statistics import log_log_slope, mean_interval
from reproduce.report import figures
from reproduce.report.tables import wide
from reproduce.run import Net, Run
from reproduce.studies.study import Claim, Study, select

VERSION = 2
STEPS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CHOSEN = 128  # the paper's number of steps
REFERENCE_STEPS = 300  # Gauss-Legendre; the paper's reference
REFERENCE_SAMPLES = 1024  # references of Expected Gradients that the others are held against
POOL = 256  # images that references are drawn from: the last of the test split, so none is explained
ONE_STEP_EXACT = 1e-3  # relative L1 that counts as float32 rounding
CLOSE = 0.05  # the IG paper's "within 5 %"
SLOPE = (-0.6, -0.4)  # a Monte-Carlo error falls like k^-1/2

RULES = {
    "gauss_legendre": "Gauss-Legendre", "midpoint": "midpoint", "trapezoid": "trapezoid", "left_riemann": "left Riemann",
    "right_riemann": "right Riemann", "expected_gradients": "EG", "input_x_gradient": "Input x Gradient",
}  # fmt: skip


def cells(run: Run) -> list[Cell]:
    return [
        run.cell(
            "convergence", VERSION, net, partial(_measure, run, net), images=count, seconds=40,
            steps=STEPS, reference=REFERENCE_STEPS, quadratures=list(QUADRATURES), samples=REFERENCE_SAMPLES, pool=POOL, seed=run.seed,
        )
        for net, count in run.nets("convergence")
    ]  # fmt: skip


def _measure(run: Run, net: Net, tick: Tick, model: nn.Module, images: Images) -> Value:
    inputs, targets = next(images.batches(len(images), run.device))
    test = run.images(net.dataset)
    pool = test.inputs(slice(len(test) - POOL, len(test))).to(run.device)
    with torch.no_grad():
        logits = _target_logits(model, inputs, targets)
        from_zero = logits - _target_logits(model, torch.zeros_like(inputs), targets)
        from_pool = logits - torch.cat([model(part) for part in pool.split(64)]).mean(0)[targets]
    rules = [(q, steps) for q, steps in product(QUADRATURES, STEPS) if (q, steps) != ("trapezoid", 1)]
    done, passes = REFERENCE_STEPS, REFERENCE_STEPS + REFERENCE_SAMPLES + sum(STEPS) + sum(steps for _, steps in rules)
    curves: list[dict[str, object]] = []

    def record(rule: str, steps: int, attributions: Tensor, reference: Tensor, change: Tensor) -> None:
        measured = {
            "distance": relative_l1(reference, attributions),
            "squared_distance": (reference - attributions).flatten(1).square().sum(1),
            "completeness_gap": completeness_gap(attributions, change),
        }
        curves.append({"rule": rule, "steps": steps} | {name: tensor.tolist() for name, tensor in measured.items()})

    reference = integrated_gradients(model, inputs, targets, steps=REFERENCE_STEPS)
    record("input_x_gradient", 1, input_x_gradient(model, inputs, targets), reference, from_zero)
    for quadrature, steps in rules:
        attributions = integrated_gradients(model, inputs, targets, steps=steps, quadrature=quadrature)
        record(quadrature, steps, attributions, reference, from_zero)
        done += steps
        tick(done / passes)
    sample = partial(
        expected_gradients, model, inputs, targets, references=pool, generator=run.generator("eg", net.label)
    )
    reference = sample(samples=REFERENCE_SAMPLES)
    for samples in STEPS:
        record("expected_gradients", samples, sample(samples=samples), reference, from_pool)
        tick(1 - (sum(STEPS) - samples) / passes)
    return {"curves": curves}


def _target_logits(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    return model(inputs).gather(1, targets[:, None]).squeeze(1)


def rows(values: list[Value]) -> pd.DataFrame:
    return pd.DataFrame(
        value["net"]
        | {"rule": curve["rule"], "steps": curve["steps"], "passes": curve["steps"], "metric": metric, "unit": "", "better": "lower"}
        | mean_interval(curve[metric]).columns()
        for value in values
        for curve in value["curves"]
        for metric in ("distance", "squared_distance", "completeness_gap")
    )  # fmt: skip


def table(rows: pd.DataFrame) -> pd.DataFrame:
    part = rows[(rows["metric"] == "distance") & (rows["rule"] != "input_x_gradient")]
    part = part.assign(rule=part["rule"].map(RULES), metric=part["steps"].astype(str))
    return wide(part, ["dataset", "model", "variant", "rule"], {str(s): str(s) for s in STEPS}, intervals=False)


def figure(rows: pd.DataFrame, values: list[Value]) -> Figure:
    """Distance to the reference (above) and completeness gap (below) over passes; one column per architecture."""
    rows = rows.assign(value=rows["value"].clip(lower=1e-8))  # an exact zero has no place on a log axis
    models = list(dict.fromkeys(rows["model"]))
    metrics = {"distance": "relative L1 to reference", "completeness_gap": "completeness gap"}
    fig, axes = figures.subplots(2, max(1, len(models)), sharex=True, sharey="row", height=5.2)
    for ax, (metric, model) in zip(axes, product(metrics, models), strict=True):
        for (rule, variant), line in rows[(rows["model"] == model) & (rows["metric"] == metric)].groupby(
            ["rule", "variant"], sort=False
        ):
            if rule == "input_x_gradient":
                continue
            label = RULES[rule] if variant == "regular" else None
            ax.plot(
                line["steps"],
                line["value"],
                ls=figures.variant_line(variant)["ls"],
                color=COLOURS[rule],
                lw=1.1,
                label=label,
            )
        ax.axvline(CHOSEN, color="grey", lw=0.8, ls=":")
        ax.set(xscale="log", yscale="log")
        if metric == "distance":
            ax.set_title(figures.MODEL_LABEL.get(model, model))
        else:
            ax.set_xlabel("steps or references = passes")
        if model == models[0]:
            ax.set_ylabel(metrics[metric])
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=6,
        title="regular dashed, X-variant solid; dotted: the paper's 128",
    )
    return fig


COLOURS = {
    "gauss_legendre": figures.BLACK, "midpoint": figures.SKY, "trapezoid": figures.GREEN, "left_riemann": figures.ORANGE,
    "right_riemann": figures.VERMILION, "expected_gradients": figures.PURPLE,
}  # fmt: skip


def _one_step(rows: pd.DataFrame) -> tuple[bool, str]:
    part = select(rows, variant="x", metric="distance", rule="gauss_legendre", steps=1)
    return bool(part["value"].max() <= ONE_STEP_EXACT), f"relative L1 at most {part['value'].max():.1g}"


def _chosen_is_close(rows: pd.DataFrame) -> tuple[bool, str]:
    part = select(rows, variant="regular", metric="distance", rule="gauss_legendre", steps=CHOSEN)
    return bool((part["high"] <= CLOSE).all()), f"{100 * part['value'].min():.2g} to {100 * part['value'].max():.2g} %"


def _many_steps(rows: pd.DataFrame) -> tuple[bool, str]:
    part = select(rows, variant="regular", metric="completeness_gap", rule="gauss_legendre")
    needed = {m: group.loc[group["value"] <= CLOSE, "steps"].min() for m, group in part.groupby("model", sort=False)}
    words = ", ".join(f"{figures.MODEL_LABEL.get(str(m), m)} {s:.0f}" for m, s in needed.items())
    return all(s <= 300 for s in needed.values()), f"mean gap within 5 % from these steps on: {words}"


def _slopes(rows: pd.DataFrame, metric: str) -> list[float]:
    part = select(rows, metric=metric, rule="expected_gradients")
    nets = part.groupby(["dataset", "model", "variant"])
    return [log_log_slope(net["steps"].tolist(), net["value"].tolist())[0] for _, net in nets]


def _eg_slope(rows: pd.DataFrame) -> tuple[bool, str]:
    """Judged on the root mean square, for which theory has the rate; heavy tails make the mean absolute error start flatter."""
    squares = [slope / 2 for slope in _slopes(rows, "squared_distance")]
    l1 = _slopes(rows, "distance")
    holds = SLOPE[0] <= min(squares) and max(squares) <= SLOPE[1]
    return holds, (
        f"log-log slopes {min(squares):.2f} to {max(squares):.2f} in root mean square, {min(l1):.2f} to {max(l1):.2f} in relative L1"
    )


STUDY = Study(
    name="convergence",
    title="Convergence of Integrated Gradients and Expected Gradients",
    question="How many passes until IG and EG have converged, on a regular net and on its X-variant?",
    source="X-DNN Sec. 4.1 and supplement; IG paper Sec. 5",
    protocol=(
        f"IG with 1 to 256 steps and five quadratures against IG with {REFERENCE_STEPS} Gauss-Legendre steps; EG with 1 to 256 references "
        f"against {REFERENCE_SAMPLES}, drawn from {POOL} other test images. Distance: sum|A - B| / sum|A| per image. Completeness gap: "
        "|sum A - (F(x) - F(x'))| / |F(x) - F(x')| per image, for EG against the mean output over the pool. Means over images with 95 % "
        "bootstrap intervals. The trapezoid rule has no one-step form. It and the left Riemann rule take the gradient at the zero baseline "
        "itself, where a bias-free ReLU net has none: on X-nets they lose the weight of that node, the other rules nothing."
    ),
    differs=(
        "The paper's curve (0.0041 at 1 step down to 0.00003 at 256, digitised) has no stated model or normalisation, so its values are not "
        "put beside these relative distances."
    ),
    cells=cells,
    rows=rows,
    table=table,
    figure=figure,
    claims=(
        Claim("On an X-DNN one step of IG is exact", "X-DNN Prop. 3.2", "", _one_step),
        Claim(f"On a regular net {CHOSEN} Gauss-Legendre steps are within 5 % of {REFERENCE_STEPS}", "X-DNN Sec. 4.1", "", _chosen_is_close),
        Claim("20 to 300 steps are enough for IG to be within 5 % of completeness", "IG paper Sec. 5", "20 to 300 steps", _many_steps),
        Claim("EG's distance falls like k^-1/2", "Monte-Carlo error; Erion et al. report convergence at 100 to 200 references", "",
              _eg_slope),
    ),
)  # fmt: skip
