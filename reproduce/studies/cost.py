"""What an attribution costs: passes, time against one gradient of the same run, peak memory, and its rival in captum."""

from collections.abc import Callable
from functools import partial

import captum.attr
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from reproduce.attributions import METHODS, Method, expected_gradients, gradient, integrated_gradients
from reproduce.attributions.engine import chunk_size, picked
from reproduce.cells import Cell, Tick, Value
from reproduce.datasets import Images
from reproduce.metrics.agreement import relative_l1
from reproduce.metrics.memory import peak_bytes
from reproduce.metrics.statistics import mean_interval
from reproduce.metrics.timing import clocked, counted
from reproduce.report import figures
from reproduce.report.tables import wide
from reproduce.run import Net, Run
from reproduce.studies.study import Claim, Study, select
from reproduce.xdnn import NotHomogeneousError

VERSION = 5
ROUNDS = 3  # interleaved with plain gradients and bare passes
FEWER_ROUNDS = 2  # for methods of many passes that are held to their bound; others are timed once
MANY = 16
REFERENCE_STEPS = 300  # of the IG that errors are held against, as in the convergence study
STEPS = (1, 4, 16, 64)  # further points of IG on the curve of error over cost
PEERS_EQUAL = 1e-3  # relative L1 within which ours and captum's are the same result
CAPTUM = ("input_x_gradient", "integrated_gradients_128", "expected_gradients_128")
BF16 = "integrated_gradients_128_bf16"
BOUNDED = ("integrated_gradients_128", "expected_gradients_128", "x_gradient")
BOUND = 1.15  # times the bound that these may take
STRETCH = 128  # rows of one timing, at least: short calls are repeated, so that all timings are equally noisy
BOTH_VARIANTS = "alexnet"  # are timed of this narrow net; of the others the X-variant, whose passes cost the same

METRICS = {
    "passes": ("passes", "lower"), "relative_time": ("time / gradient", "lower"), "images_per_second": ("images/s", "higher"),
    "peak_mib": ("peak MiB", "lower"), "over_bound": ("time / bound", "lower"), "captum": ("captum's time / ours", "higher"),
    "error": ("relative L1 to IG(300)", "lower"),
}  # fmt: skip


def cells(run: Run) -> list[Cell]:
    return [
        run.cell("cost", VERSION, net, partial(_measure, run, net), images=count, seconds=22, rounds=ROUNDS, threads=run.threads,
                 methods=_methods(net), steps=STEPS, reference=REFERENCE_STEPS)
        for net, count in run.nets("cost")
        if net.variant == "x" or net.width == 1 or net.model == BOTH_VARIANTS
    ]  # fmt: skip


def _methods(net: Net) -> list[str]:
    """All on regular nets. Where X-Gradient is defined: it, what else costs one pass, and the IG that it replaces."""
    return [name for name, m in METHODS.items() if net.variant == "regular" or m.passes == 1 or name == CAPTUM[1]]


def _small(net: Net) -> bool:
    """Fits a net's 128 points of each image into memory at once? At 224 px they would take 10 GB of AlexNet, 240 GB of VGG16."""
    return net.width < 1 and net.model == BOTH_VARIANTS


def _rounds(name: str, passes: float) -> int:
    return ROUNDS if passes <= MANY else FEWER_ROUNDS if name in BOUNDED else 1


def _calls(run: Run, net: Net, model: nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Every method of the registry, and IG at the other points of the curve, ready to be called."""
    references = inputs.flip(0)
    calls: dict[str, Callable[[], Tensor]] = {
        name: partial(
            _call, method, model, inputs, targets, references, partial(run.generator, "cost", net.label, name)
        )
        for name, method in METHODS.items()
        if name in _methods(net)
    }
    calls |= {
        f"integrated_gradients_{s}": partial(integrated_gradients, model, inputs, targets, steps=s) for s in STEPS
    }
    calls[BF16] = partial(integrated_gradients, model, inputs, targets, steps=128, precision="bf16")
    calls["expected_gradients_128"] = lambda: expected_gradients(
        model, inputs, targets, references=references, generator=run.generator("cost", net.label), samples=128
    )
    return calls


def _call(
    method: Method,
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    references: Tensor,
    fresh: Callable[[], torch.Generator],
) -> Tensor:
    return method(model, inputs, targets, references=references, generator=fresh())


def _captum(model: nn.Module, inputs: Tensor, targets: Tensor, whole: bool) -> dict[str, Callable[[], Tensor]]:
    """The same attributions by captum; draws of its GradientShap come from NumPy's global generator.

    ``whole``: with its defaults, which hold all points at once; else IG in chunks of our size, and no GradientShap, which has none.
    """
    zeros, own = torch.zeros_like(inputs), inputs.clone()  # InputXGradient wants inputs that ask for gradients
    ig, ixg, shap = (
        kind(model) for kind in (captum.attr.IntegratedGradients, captum.attr.InputXGradient, captum.attr.GradientShap)
    )
    batch = None if whole else chunk_size(model, inputs, None)
    peers: dict[str, Callable[[], Tensor]] = {
        "input_x_gradient": lambda: ixg.attribute(own.requires_grad_(), target=targets).detach(),
        "integrated_gradients_128": lambda: ig.attribute(
            inputs, zeros, target=targets, n_steps=128, method="gausslegendre", internal_batch_size=batch
        ),
    }
    if whole:
        peers["expected_gradients_128"] = lambda: shap.attribute(
            inputs, inputs.flip(0), target=targets, n_samples=128, stdevs=0.0
        ).detach()
    return peers


def _measure(run: Run, net: Net, tick: Tick, model: nn.Module, images: Images) -> Value:
    inputs, targets = next(images.batches(len(images), run.device))
    reference = integrated_gradients(model, inputs, targets, steps=REFERENCE_STEPS)
    one_gradient = partial(gradient, model, inputs, targets)
    calls, peers = _calls(run, net, model, inputs, targets), _captum(model, inputs, targets, _small(net))
    row_seconds = bare_passes(model, inputs, targets)
    out: list[dict[str, object]] = []
    for done, (name, call) in enumerate(calls.items()):
        tick(done / len(calls))
        found: list[Tensor] = []
        try:
            with counted(model) as passes:
                peak = peak_bytes(partial(_kept, call, found), run.device)
        except (NotHomogeneousError, ValueError, TypeError) as reason:
            out.append({"method": name, "reason": str(reason).split(". ")[0]})
            continue
        peer = peers.get(name)
        ours, gradients, theirs, over = [], [], [], []
        of_call = max(passes.forward, passes.backward)  # rows
        count = of_call / len(inputs)
        for _ in range(_rounds(name, count)):
            gradients.append(_seconds(one_gradient, len(inputs), run.device)[0])
            ours.append(_seconds(call, of_call, run.device)[0])
            over.append(ours[-1] / (row_seconds() * max(1, passes.backward)))
            if peer is not None:
                taken, of_theirs = _seconds(peer, of_call, run.device)
                theirs.append(taken)
        row: dict[str, object] = {
            "method": name,
            "passes": count,
            "relative_time": [a / b for a, b in zip(ours, gradients, strict=True)],
            "images_per_second": [len(inputs) / a for a in ours],
            "error": relative_l1(reference, found[0]).tolist(),
            "peak_mib": peak / 2**20,
        }
        if passes.backward and name != BF16:  # the bound is that of float32 passes
            row["over_bound"] = over
        if theirs and (name == "expected_gradients_128" or _equal(of_theirs, found[0])):
            row["captum"] = [b / a for a, b in zip(ours, theirs, strict=True)]
        out.append(row)
    return {"methods": out}


def _kept(call: Callable[[], Tensor], found: list[Tensor]) -> None:
    found.append(call())


def _seconds(call: Callable[[], Tensor], of_call: int, device: torch.device) -> tuple[float, Tensor]:
    """Of one call that takes ``of_call`` rows through the net, when it is repeated for a stretch, and what it returned."""
    times = -(-STRETCH // max(1, of_call))
    seconds, result = clocked(lambda: [call() for _ in range(times)][-1], device)
    return seconds / times, result


def bare_passes(model: nn.Module, inputs: Tensor, targets: Tensor) -> Callable[[], float]:
    """Times bare passes at the batch size that is fastest per row: seconds of a row, forward and backward, at each call."""
    found = []
    for size in sorted({4, 16, 64, chunk_size(model, inputs, None)}):
        place = torch.arange(size, device=inputs.device) % len(inputs)
        once = partial(gradient, model, picked(inputs, place), targets[place])
        once()  # the first call allocates
        clock = partial(_seconds, once, size, inputs.device)
        found.append((clock()[0] / size, size, clock))
    _, size, clock = min(found, key=lambda one: one[0])
    return lambda: clock()[0] / size


def _equal(theirs: Tensor, ours: Tensor) -> bool:
    """A time is only put beside captum's where both computed the same."""
    return bool((relative_l1(theirs, ours) <= PEERS_EQUAL).all())


def rows(values: list[Value]) -> pd.DataFrame:
    out = []
    for value in values:
        for entry in value["methods"]:
            ids = value["net"] | {"method": entry["method"], "unit": "", "reason": entry.get("reason", "")}
            if "reason" in entry:
                out.append(
                    ids
                    | {"metric": "passes", "better": "lower", "value": np.nan, "low": np.nan, "high": np.nan, "n": 0}
                )
            for metric in METRICS:
                if metric in entry:
                    measured = np.atleast_1d(entry[metric])
                    out.append(
                        ids | {"metric": metric, "better": METRICS[metric][1]} | mean_interval(measured).columns()
                    )
    return pd.DataFrame(out)


def label(name: str) -> str:
    """A method's name in tables: the registry's, or one that this study adds."""
    if name in METHODS:
        return METHODS[name].label
    if name == BF16:
        return "IG (128) in bf16"
    kind, _, count = name.rpartition("_")
    return f"{'IG' if kind == 'integrated_gradients' else 'EG'} ({count})"


def table(rows: pd.DataFrame) -> pd.DataFrame:
    shown = rows.assign(method=rows["method"].map(label))
    return wide(
        shown, ["dataset", "model", "variant", "method"], {m: h for m, (h, _) in METRICS.items()}, intervals=False
    )


def figure(rows: pd.DataFrame, values: list[Value]) -> Figure:
    """Error against IG(300) over time in gradients; one panel per architecture, regular hollow and X-nets filled."""
    models = list(dict.fromkeys(rows["model"]))
    fig, axes = figures.subplots(1, max(1, len(models)), sharey=True, height=3.2)
    named = {"integrated_gradients_128": "IG (128)", "input_x_gradient": "Input x Gradient", "x_gradient": "X-Gradient"}
    for ax, model in zip(axes, models, strict=True):
        wideform = rows[rows["model"] == model].pivot_table(
            index=["variant", "method"], columns="metric", values="value"
        )
        for variant in wideform.index.get_level_values(0).unique():
            part = wideform.loc[variant].dropna(subset=["relative_time", "error"])
            style = figures.variant_line(variant)
            face = "white" if variant == "regular" else style["color"]
            error = part["error"].clip(lower=1e-8)
            ax.scatter(part["relative_time"], error, s=18, facecolor=face, edgecolor=style["color"],
                       label=figures.VARIANT_LABEL[variant])  # fmt: skip
            curve = part[part.index.str.fullmatch(r"integrated_gradients_\d+")].sort_values("relative_time")
            ax.plot(
                curve["relative_time"], curve["error"].clip(lower=1e-8), color=style["color"], ls=style["ls"], lw=0.9
            )
            for name, text in named.items():
                if name in part.index and name != ("x_gradient" if variant == "regular" else "input_x_gradient"):
                    ax.annotate(text, (part.loc[name, "relative_time"], error[name]), fontsize=6, xytext=(3, 3),
                                textcoords="offset points")  # fmt: skip
        ax.set(xscale="log", yscale="log", title=figures.MODEL_LABEL.get(model, model), xlabel="time / one gradient")
    axes[0].set_ylabel("relative L1 to IG (300)")
    axes[0].legend(loc="center left")
    return fig


def _exact_at_cost_one(rows: pd.DataFrame) -> tuple[bool, str]:
    part = select(rows, variant="x", method="x_gradient")
    error, cost = select(part, metric="error")["value"].max(), select(part, metric="passes")["value"].max()
    ratio = select(part, metric="relative_time")["value"].max()
    return bool(
        error <= 1e-3 and cost == 1
    ), f"error at most {error:.1g} in {cost:.0f} pass, {ratio:.2f} times a gradient"


def _ig_is_two_orders_dearer(rows: pd.DataFrame) -> tuple[bool, str]:
    part = select(rows, method="integrated_gradients_128", metric="relative_time")
    return bool(part["low"].min() >= 50), f"{part['value'].min():.0f} to {part['value'].max():.0f} times one gradient"


def _near_the_bound(names: tuple[str, ...], rows: pd.DataFrame) -> tuple[bool, str]:
    part = select(rows[rows["method"].isin(names)], metric="over_bound")
    worst = part.groupby(["method", "model"])["value"].max()
    found = []
    for name in (name for name in names if name in worst):
        on_nets = (f"{value:.2f} ({figures.MODEL_LABEL.get(model, model)})" for model, value in worst[name].items())
        found.append(f"{label(name)} {', '.join(on_nets)}")
    return bool(worst.max() <= BOUND), "; ".join(found)


STUDY = Study(
    name="cost",
    title="Cost of attributions",
    question="What does each method cost in passes, time and memory, and what does one get for it?",
    source="X-DNN Sec. 3 (one pass instead of many); timings are ours",
    protocol=(
        f"Each method of the registry on one batch, {ROUNDS} rounds interleaved with plain gradients of the same batch (above {MANY} passes "
        f"one, and {FEWER_ROUNDS} of IG and EG). Passes: rows through the net, counted. Bound: passes times the time of a row of bare passes "
        "at the best of four batch sizes, taken in the same round. Peak: tensor bytes that the call allocated, replayed from the allocation "
        "record. Error: relative L1 to IG with 300 steps, for other methods a distance only. bf16: the passes only, by autocast; "
        "its error is beside it. captum runs in the same rounds (all points at once, its default, on narrow AlexNet; elsewhere in our "
        "chunks, and no EG), and its time is shown where its result equals ours within 0.1 % (EG: different draws). On X-nets: X-Gradient, "
        "the other methods of one pass, IG and EG; of narrow VGG16 and ResNet-50 only these."
    ),
    differs="The paper prints no times. Ratios travel between machines, images per second do not.",
    cells=cells,
    rows=rows,
    table=table,
    figure=figure,
    claims=(
        Claim("On an X-DNN exact IG costs one pass", "X-DNN Prop. 3.2", "1 pass", _exact_at_cost_one),
        Claim("IG with 128 steps costs about two orders of magnitude more than one gradient", "X-DNN Sec. 4.2", "128 passes",
              _ig_is_two_orders_dearer),
        Claim(f"IG (128) and EG (128) run within {BOUND} times their bound", "this suite's own aim", "",
              partial(_near_the_bound, BOUNDED[:2])),
        Claim(f"X-Gradient on one batch runs within {BOUND} times its bound", "this suite's own aim", "",
              partial(_near_the_bound, BOUNDED[2:])),
    ),
)  # fmt: skip
