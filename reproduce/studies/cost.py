"""What an attribution costs: passes, time against one gradient of the same run, peak memory, and its rival in captum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor, nn

from reproduce.claims import Claim, Kind, at_most, between, measured, select
from reproduce.context import Context
from reproduce.datasets.images import Images
from reproduce.experiment import Experiment
from reproduce.models import VARIANTS
from reproduce.nets import Net, by_training, net_task
from reproduce.peak_memory import peak_bytes
from reproduce.report import figures, style
from reproduce.report.tables import Table, wide
from reproduce.statistics import Interval, exact, mean_interval
from reproduce.stopwatch import Stopwatch, bare_passes
from reproduce.study import Study
from reproduce.tasks import Result, Task
from xdnn import METHODS, NotHomogeneousError, expected_gradients, gradient, integrated_gradients
from xdnn.chunking import chunk_size
from xdnn.metrics.agreement import relative_l1
from xdnn.passes import count_passes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Call = Callable[[], Tensor]

IXG, XG = "input_x_gradient", "x_gradient"
IG, EG, BF16 = "integrated_gradients_128", "expected_gradients_128", "integrated_gradients_128_bf16"
IG_PASSES = 128
BOUND = 1.15  # times the bound that IG, EG and X-Gradient may take
EXACT = 1e-3  # relative L1 that counts as float32 rounding, and within which ours and captum's are the same result
BOTH_VARIANTS = "alexnet"  # are timed of this narrow net; of the others the X-variant, whose passes cost the same


@dataclass(frozen=True)
class Protocol:
    """What decides the numbers.

    Attributes:
        images: the batch.
        rounds: of each method, interleaved with plain gradients and bare passes.
        few_rounds: of IG and EG, which take more than ``many`` passes; other methods that do are timed once.
        stretch: rows of one timing, at least: short calls are repeated, so that all timings are equally noisy.
        steps: further points of IG on the curve of error over cost.
        reference_steps: of the IG that errors are held against, as in the study ``convergence``.
        every_method: is the whole registry timed on a regular net? Else what X-Gradient replaces, as on the others.
        variants: of a net of full width that are timed.
        threads: of the run, since times depend on it.
    """

    images: int
    rounds: int = 3
    few_rounds: int = 2
    many: int = 16
    stretch: int = 128
    steps: tuple[int, ...] = (1, 4, 16, 64)
    reference_steps: int = 300
    every_method: bool = True
    variants: tuple[str, ...] = VARIANTS
    threads: int = 0

    def rounds_of(self, method: str, passes: float) -> int:
        if passes <= self.many:
            return self.rounds
        return self.few_rounds if method in (IG, EG) else 1


@dataclass(frozen=True)
class MethodCost:
    """One method on one net: samples of each metric, or the reason why it is not defined there."""

    method: str
    samples: dict[str, list[float]]
    reason: str = ""


@dataclass(frozen=True)
class Measurement:
    """Of one net."""

    methods: list[MethodCost]


PROTOCOLS = {
    "smoke": {"trained": Protocol(images=2, rounds=1, few_rounds=1, stretch=1)},
    "embedded": {
        "trained": Protocol(images=8),
        "digits-on-photos/alexnet": Protocol(images=16),
        "open-photographs": Protocol(
            images=2, rounds=2, few_rounds=1, stretch=16, steps=(4, 16), every_method=False, variants=("regular",)
        ),
    },
    "subset": {"released": Protocol(images=16), "open-photographs": Protocol(images=4, rounds=1, few_rounds=1)},
    "paper": {"released": Protocol(images=16)},
}

METRICS = {  # name -> (heading, unit, better)
    "passes": ("passes", "passes", "lower"),
    "relative_time": ("time / gradient", "", "lower"),
    "images_per_second": ("images/s", "images/s", "higher"),
    "peak_mib": ("peak MiB", "MiB", "lower"),
    "over_bound": ("time / bound", "", "lower"),
    "captum": ("captum's time / ours", "", "higher"),
    "error": (f"relative L1 to IG ({Protocol.reference_steps})", "", "lower"),
}
COUNTED = ("passes", "peak_mib")  # exact, the others are means over rounds or images


def tasks(context: Context, protocols: Mapping[str, Protocol]) -> list[Task[Net, Measurement]]:
    """Of the first training of each net only: what a pass costs does not depend on the weights."""
    return [
        net_task(
            context,
            "cost",
            net,
            replace(protocol, threads=context.threads),
            measure,
            Measurement,
            seconds=22,
            alone=True,
        )
        for net, protocol in context.nets(protocols)
        if net.seed == context.seed and is_timed(net, protocol)
    ]


def is_timed(net: Net, protocol: Protocol) -> bool:
    """Of narrow nets the X-variant, whose passes cost the same as the regular net's, and of one of them both."""
    if net.width < 1:
        return net.variant == "x" or net.model == BOTH_VARIANTS
    return net.variant in protocol.variants


# --- what is timed ---


def calls(model: nn.Module, inputs: Tensor, targets: Tensor, experiment: Experiment[Net, Protocol]) -> dict[str, Call]:
    """Methods of the registry, and IG at the other points of the curve, ready to be called.

    All of them where the protocol says so, else what X-Gradient replaces: the methods of one pass, IG and EG.
    """
    references, label = inputs.flip(0), experiment.about.label
    every = experiment.protocol.every_method and experiment.about.variant == "regular"
    out: dict[str, Call] = {}
    for name, method in METHODS.items():
        if every or method.passes == 1 or name == IG:
            fresh = partial(experiment.generator, "cost", label, name)
            out[name] = partial(_call, method, model, inputs, targets, references=references, fresh=fresh)
    ig = partial(integrated_gradients, model, inputs, targets)
    out |= {f"integrated_gradients_{steps}": partial(ig, steps=steps) for steps in experiment.protocol.steps}
    out[BF16] = partial(ig, steps=IG_PASSES, precision="bf16")
    eg = partial(expected_gradients, samples=IG_PASSES)
    fresh = partial(experiment.generator, "cost", label)
    out[EG] = partial(_call, eg, model, inputs, targets, references=references, fresh=fresh)
    return out


def _call(
    method: Callable[..., Tensor],
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    references: Tensor,
    fresh: Callable[[], torch.Generator],
) -> Tensor:
    return method(model, inputs, targets, references=references, generator=fresh())


def captum_calls(model: nn.Module, inputs: Tensor, targets: Tensor, *, whole: bool) -> dict[str, Call]:
    """The same attributions by captum; draws of its GradientShap come from NumPy's global generator.

    Args:
        whole: with its defaults, which hold all points at once; else IG in chunks of our size, and no GradientShap, which
            has none.
    """
    import captum.attr  # slow to import, and nothing else needs it

    zeros, own = torch.zeros_like(inputs), inputs.clone()  # InputXGradient wants inputs that ask for gradients
    ig, ixg = captum.attr.IntegratedGradients(model), captum.attr.InputXGradient(model)
    shap = captum.attr.GradientShap(model)
    batch = None if whole else chunk_size(model, inputs, None)
    options = {"n_steps": IG_PASSES, "method": "gausslegendre", "internal_batch_size": batch}
    out: dict[str, Call] = {
        IXG: lambda: ixg.attribute(own.requires_grad_(), target=targets).detach(),
        IG: lambda: ig.attribute(inputs, zeros, target=targets, **options),
    }
    if whole:
        sampled = partial(shap.attribute, inputs, inputs.flip(0), target=targets, n_samples=IG_PASSES, stdevs=0.0)
        out[EG] = lambda: sampled().detach()
    return out


def fits_whole(net: Net) -> bool:
    """Fit a net's points of all images into memory at once? At 224 px they would take 10 GB of AlexNet, 240 GB of VGG16."""
    return net.width < 1 and net.model == BOTH_VARIANTS


# --- measuring ---


def measure(model: nn.Module, images: Images, protocol: Protocol, experiment: Experiment[Net, Protocol]) -> Measurement:
    """Each method once untimed, which counts its passes and its memory and warms it up, and then timed."""
    device = experiment.device
    inputs, targets = next(images.batches(len(images), device))
    reference = integrated_gradients(model, inputs, targets, steps=protocol.reference_steps)
    stopwatch = Stopwatch(
        len(inputs),
        protocol.stretch,
        device,
        partial(gradient, model, inputs, targets),
        bare_passes(model, inputs, targets, protocol.stretch),
    )
    stopwatch.gradient()
    theirs = captum_calls(model, inputs, targets, whole=fits_whole(experiment.about))
    costs = []
    own = calls(model, inputs, targets, experiment)
    for done, (name, call) in enumerate(own.items()):
        experiment.progress(done / len(own))
        found: list[Tensor] = []
        try:
            with count_passes(model) as passes:
                peak = peak_bytes(partial(_keep, call, found), device)
        except (NotHomogeneousError, ValueError, TypeError) as reason:
            costs.append(MethodCost(name, {}, str(reason).split(": ")[0].split(". ")[0]))
            continue
        peer = theirs.get(name)
        if peer is not None and not _same(name, peer(), found[0]):
            peer = None
        per_image = max(passes.forward, passes.backward) / len(inputs)
        samples = {
            "passes": [per_image],
            "peak_mib": [peak / 2**20],
            "error": relative_l1(reference, found[0]).tolist(),
        }
        samples |= stopwatch.times(call, peer, passes, protocol.rounds_of(name, per_image))
        if name == BF16:  # the bound is that of float32 passes
            samples.pop("over_bound", None)
        costs.append(MethodCost(name, samples))
    return Measurement(costs)


def _keep(call: Call, found: list[Tensor]) -> None:
    found.append(call())


def _same(name: str, theirs: Tensor, ours: Tensor) -> bool:
    """A time is only put beside captum's where both computed the same; EG's draws differ."""
    return name == EG or bool((relative_l1(theirs, ours) <= EXACT).all())


# --- rows ---


def rows(results: Sequence[Result[Net, Measurement]]) -> pd.DataFrame:
    out = []
    for ids, (result,) in by_training(results):
        for cost in result.value.methods:
            named = ids | {"method": cost.method, "reason": cost.reason}
            if cost.reason:
                out.append(named | labels("passes") | exact(float("nan"), 0).columns())
            for metric in METRICS:
                if metric in cost.samples:
                    out.append(named | labels(metric) | summary(cost, metric).columns())
    return pd.DataFrame(out)


def labels(metric: str) -> dict[str, str]:
    return {"metric": metric, "unit": METRICS[metric][1], "better": METRICS[metric][2]}


def summary(cost: MethodCost, metric: str) -> Interval:
    if metric in COUNTED:
        return exact(cost.samples[metric][0], len(cost.samples["error"]))
    return mean_interval(cost.samples[metric])


# --- for people ---


def table(rows: pd.DataFrame) -> Table:
    headings = {metric: heading for metric, (heading, _, _) in METRICS.items()}
    return wide(rows, ["dataset", "model", "variant", "method"], headings, intervals=False)


def figure(rows: pd.DataFrame, results: Sequence[Result[Net, Measurement]]) -> Figure:
    """A line for each method, cheapest first: time in gradients, distance to IG, peak memory; a mark for each net."""
    drawn = {"relative_time": "time / one gradient", "error": METRICS["error"][0], "peak_mib": "peak memory (MiB)"}
    cheapest = rows[rows["metric"] == "passes"].dropna(subset="value").groupby("method", sort=False)["value"].min()
    methods = list(cheapest.sort_values(kind="stable").index)
    fig, axes = figures.subplots(1, 3, sharey=True, height=1.1 + 0.2 * len(methods))
    nets = list(rows.groupby(["model", "dataset", "variant"], sort=False))
    for number, ((model, dataset, variant), part) in enumerate(nets):
        look = style.model(model)
        shift = 0.84 * ((number + 0.5) / len(nets) - 0.5)  # beside each other, within the band of the method
        for ax, metric in zip(axes, drawn, strict=True):
            found = part[part["metric"] == metric]
            place = [methods.index(name) + shift for name in found["method"]]
            label = f"{style.model(model).label} {style.variant(variant).label}, {style.dataset(dataset).label}"
            marks = {
                "marker": look.marker,
                "s": 9,
                "lw": 0.8,
                "facecolor": figures.face(str(variant), look.color),
                "edgecolor": look.color,
                "label": label,
            }
            ax.scatter(found["value"].clip(lower=1e-8), place, **marks)
        passes = part[(part["metric"] == "passes") & (part["value"] > 0)]
        place = [methods.index(name) + shift for name in passes["method"]]
        axes[0].scatter(passes["value"], place, marker="|", s=12, color=style.GREY, lw=0.8)
    for ax, heading in zip(axes, drawn.values(), strict=True):
        ax.set(xscale="log", xlabel=heading)
        ax.grid(axis="y", visible=False)
        for band in range(0, len(methods), 2):
            ax.axhspan(band - 0.5, band + 0.5, color=style.PALE, lw=0, zorder=0)
    axes[0].set_yticks(range(len(methods)), [style.method(name).label for name in methods])
    axes[0].set_ylim(len(methods) - 0.5, -0.5)  # the cheapest at the top
    handles, names = axes[1].get_legend_handles_labels()
    fig.legend(handles, names, loc="outside lower center", ncols=2, title="grey bars on the left: passes")
    return fig


_PAPER = Protocol(images=0)
STUDY = Study(
    order=14,
    title="Cost of attributions",
    question="What does each method cost in passes, time and memory, and what does one get for it?",
    source="X-DNN Sec. 3 (one pass instead of many); timings are ours",
    method=(
        f"Each method of the registry on one batch, warm, {_PAPER.rounds} rounds interleaved with plain gradients of the "
        f"same batch (above {_PAPER.many} passes one, and {_PAPER.few_rounds} of IG and EG), while nothing else runs. "
        "Passes: rows through the net, counted. Bound: passes times the time of a row of bare passes at the best of four "
        "batch sizes, taken in the same round. Peak: tensor bytes that the call allocated, replayed from the allocation "
        f"record. Error: relative L1 to IG with {_PAPER.reference_steps} steps, for other methods a distance only. bf16: the "
        "passes only, by autocast; its error is beside it. captum runs in the same rounds (all points at once, its default, "
        "on narrow AlexNet; elsewhere in our chunks, and no EG), and its time is shown where its result equals ours within "
        f"{100 * EXACT:g} % (EG: different draws). On X-nets, and on "
        "SqueezeNet here: the methods of one pass, IG and EG; of narrow VGG16 and ResNet-50 only the X-variants."
    ),
    differs="The paper prints no times. Ratios travel between machines of one kind, images per second do not.",
    protocols=PROTOCOLS,
    tasks=tasks,
    rows=rows,
    table=table,
    figure=figure,
    claims=(
        Claim(
            id="x-one-pass",
            text="On an X-DNN X-Gradient takes one pass",
            kind=Kind.THEOREM,
            source="X-DNN Prop. 3.2, Sec. 4.2",
            reported="1 gradient evaluation",
            metric="passes",
            criterion=between(1, 1),
            evidence=partial(measured, variant="x", method=XG, metric="passes"),
            n_chosen="counted, so one batch decides",
        ),
        Claim(
            id="x-exact",
            text=f"On an X-DNN X-Gradient is IG: relative L1 to {_PAPER.reference_steps} steps at most {EXACT:g} in float32",
            kind=Kind.THEOREM,
            source="X-DNN Prop. 3.2",
            reported="",
            metric="error",
            criterion=at_most(EXACT),
            evidence=partial(measured, variant="x", method=XG, metric="error"),
            n_chosen="a batch shows rounding",
        ),
        Claim(
            id="ig-passes",
            text=f"IG with {IG_PASSES} steps takes {IG_PASSES} passes, two orders of magnitude more than one gradient",
            kind=Kind.THEOREM,
            source="X-DNN Sec. 4.2",
            reported=f"{IG_PASSES} gradient evaluations",
            metric="passes",
            criterion=between(IG_PASSES, IG_PASSES),
            evidence=partial(measured, method=IG, metric="passes"),
            n_chosen="counted, so one batch decides",
        ),
        Claim(
            id="ig-bound",
            text=f"IG ({IG_PASSES}) runs within {BOUND} times its bound",
            kind=Kind.SPEED,
            source="this suite's own aim",
            reported="",
            metric="over_bound",
            criterion=at_most(BOUND),
            evidence=partial(select, method=IG, metric="over_bound"),
            n_chosen="rounds of one batch",
        ),
        Claim(
            id="eg-bound",
            text=f"EG ({IG_PASSES}) runs within {BOUND} times its bound",
            kind=Kind.SPEED,
            source="this suite's own aim",
            reported="",
            metric="over_bound",
            criterion=at_most(BOUND),
            evidence=partial(select, method=EG, metric="over_bound"),
            n_chosen="rounds of one batch",
        ),
        Claim(
            id="x-gradient-bound",
            text=f"X-Gradient on one batch runs within {BOUND} times its bound",
            kind=Kind.SPEED,
            source="this suite's own aim",
            reported="",
            metric="over_bound",
            criterion=at_most(BOUND),
            evidence=partial(select, method=XG, metric="over_bound"),
            n_chosen="rounds of one batch",
        ),
    ),
)
