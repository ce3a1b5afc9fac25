"""The axioms, measured: every registered method on the papers' functions, on random nets and on the scale's nets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd
from torch import nn

from reproduce.axiom_claims import CLAIMS
from reproduce.axiom_rows import ACCOUNTED, CNN_MODEL, COMPLETE, FUNCTIONS_MODEL, TOLERANCE, net_rows
from reproduce.axiom_subjects import Power, Setting, of_net, paper_functions, random_net
from reproduce.axiom_trials import CONTROLS, Trial, try_methods
from reproduce.context import Context
from reproduce.datasets.images import Images
from reproduce.experiment import Experiment
from reproduce.nets import Net, by_training, last_inputs, net_task
from reproduce.report import figures, style
from reproduce.report.tables import Column, Entry, Line, Number, Table, number, stack, wide
from reproduce.statistics import exact
from reproduce.study import Study
from reproduce.tasks import Result, Task
from xdnn import METHODS, input_x_gradient, integrated_gradients
from xdnn.metrics.agreement import relative_l1
from xdnn.metrics.axioms import AXIOMS
from xdnn.metrics.axioms import METRICS as AXIOM_LABELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SETTING = Setting()


@dataclass(frozen=True)
class Protocol:
    """What decides the numbers.

    Attributes:
        images: of each of the scale's nets, in float32.
        functions, function_draws: random parameters of the papers' functions, and inputs of each, in float64.
        nets, net_draws: random nets of each kind, and inputs of each, in float64.
        most_passes: on the scale's nets. Methods that cost more, or as much as an image asks for, run on drawn nets only.
        degrees: k of the nets F^k on which IG is held against Input x Gradient / k.
    """

    images: int
    functions: int = 4
    function_draws: int = 30
    nets: int = 2
    net_draws: int = 16
    most_passes: int = 128
    degrees: tuple[int, ...] = (1, 2, 3)
    setting: Setting = SETTING


@dataclass(frozen=True)
class Drawn:
    """A kind of net that is drawn here."""

    model: str
    variant: str


@dataclass(frozen=True)
class Measurement:
    """``powers``: degree k -> per input the relative L1 distance of IG of F^k from Input x Gradient / k."""

    trials: list[Trial]
    powers: dict[int, list[float]]


PROTOCOLS = {
    "smoke": {"trained": Protocol(images=1, functions=1, function_draws=6, nets=1, net_draws=5, most_passes=2)},
    "embedded": {"trained": Protocol(images=1)},
    "subset": {"released": Protocol(images=2)},
    "paper": {"released": Protocol(images=16)},
}
# --- tasks ------------------------------------------------------------------------------------------------------------


def tasks(context: Context, protocols: Mapping[str, Protocol]) -> list[Task[Any, Measurement]]:
    protocol = replace(next(iter(protocols.values())), images=0)
    kinds = (Drawn(FUNCTIONS_MODEL, "regular"), Drawn(CNN_MODEL, "regular"), Drawn(CNN_MODEL, "x"))
    seed = {"seed": context.seed}
    drawn = [
        Task(f"axioms {kind.model} {kind.variant}", Measurement, measure_drawn, kind, protocol, seed, seconds=10)
        for kind in kinds
    ]
    nets = [
        net_task(context, "axioms", net, own, measure_net, Measurement, seconds=10)
        for net, own in context.nets(protocols)
    ]
    return drawn + nets


def measure_drawn(experiment: Experiment[Drawn, Protocol]) -> Measurement:
    """Try all methods on each random function or net."""
    about, protocol = experiment.about, experiment.protocol
    is_cnn = about.model == CNN_MODEL
    name, count = (f"random {about.variant}", protocol.nets) if is_cnn else ("functions", protocol.functions)
    out = Measurement([], {})
    for drawing in range(count):
        generator = experiment.generator("axioms", name, drawing)
        if is_cnn:
            subject, references = random_net(about.variant, protocol.net_draws, protocol.setting, generator)
            for k in protocol.degrees:
                net = Power(subject.net, k)
                ours = input_x_gradient(net, subject.inputs, subject.targets) / k
                distances = relative_l1(integrated_gradients(net, subject.inputs, subject.targets), ours)
                out.powers.setdefault(k, []).extend(distances.tolist())
        else:
            subject, references = paper_functions(protocol.function_draws, protocol.setting, generator)
        out.trials.extend(
            try_methods(
                subject,
                references,
                METHODS | CONTROLS,
                protocol.setting,
                lambda share, done=drawing: experiment.progress((done + share) / count),  # type: ignore[misc]
            )
        )
    return out


def measure_net(
    model: nn.Module, images: Images, protocol: Protocol, experiment: Experiment[Net, Protocol]
) -> Measurement:
    """Try the methods of few passes on a net and images of its data set."""
    net, setting = experiment.about, protocol.setting
    inputs, targets = next(images.batches(len(images), experiment.device))
    references = last_inputs(experiment, setting.references)
    subject = of_net(model, inputs, targets, setting, experiment.generator("axioms", net.label))
    cheap = {name: m for name, m in METHODS.items() if m.passes is not None and m.passes <= protocol.most_passes}
    trials = try_methods(subject, references, cheap, setting, experiment.progress)
    reason = f"more than {protocol.most_passes} passes, or as many as the image asks for: measured on drawn nets only"
    return Measurement(trials + [Trial(name, {}, reason) for name in METHODS if name not in cheap], {})


# --- rows -------------------------------------------------------------------------------------------------------------


def rows(results: Sequence[Result[Any, Measurement]]) -> pd.DataFrame:
    out: list[dict[str, Any]] = []
    for result in (result for result in results if isinstance(result.about, Drawn)):
        ids = {"dataset": "drawn", "model": result.about.model, "variant": result.about.variant, "dtype": "float64"}
        out += net_rows(ids, [result.value.trials])
        for k, distances in result.value.powers.items():
            about = ids | {"model": f"{CNN_MODEL} to the power {k}", "method": "input_x_gradient"}
            about |= {"metric": "distance_from_ig", "unit": "", "better": "lower"}
            out.append(about | exact(max(distances), len(distances)).columns())
    for ids, group in by_training([result for result in results if isinstance(result.about, Net)]):
        out += net_rows(ids | {"dtype": "float32"}, [result.value.trials for result in group])
    return pd.DataFrame(out)


# --- for people -------------------------------------------------------------------------------------------------------

GROUPS = {"functions": FUNCTIONS_MODEL, "regular": "regular nets", "x": "X-nets"}


def _measured_on(rows: pd.DataFrame) -> pd.Series:
    return rows["variant"].where(rows["model"] != FUNCTIONS_MODEL, "functions").map(GROUPS)


def table(rows: pd.DataFrame) -> Table:
    """One line for each method and kind of net; entries are the largest mean over the kind's nets."""
    shown, lines = rows[rows["metric"].isin(AXIOMS)], []
    for ids, part in shown.assign(on=_measured_on(shown)).groupby(["method", "on"], sort=False):
        why = "; ".join(sorted(set(part.loc[part["n"] == 0, "reason"]))) if (part["n"] == 0).all() else ""
        lines.append(Line(tuple(ids), (*(_entry(part[part["metric"] == axiom]) for axiom in AXIOMS), why[:90])))
    columns = (*(Column(AXIOM_LABELS[axiom].label) for axiom in AXIOMS), Column("why not"))
    powers = rows[rows["metric"] == "distance_from_ig"]
    about = powers["model"] + powers["variant"].map({"regular": "", "x": ", X-net"})
    proposition = wide(
        powers.assign(on=about), ("method", "on"), {"distance_from_ig": "distance of its k-th part from IG"}
    )
    return stack(Table(("method", "on"), columns, tuple(lines)), proposition)


def _worst(part: pd.DataFrame) -> pd.Series | None:
    measured = part.dropna(subset=["value"])
    return None if measured.empty else measured.loc[measured["value"].astype(float).idxmax()]


def _entry(part: pd.DataFrame) -> Entry:
    worst = _worst(part)
    if worst is None:
        return None
    said = {"holds": ", said to hold", "fails": ", as is said"}.get(worst["asserted"], "")
    if worst["verdict"] == "holds":
        return "kept" + (", as is said" if worst["asserted"] == "holds" else "")
    return Number(
        float(worst["value"]), note="not asked" if worst["verdict"].startswith("not asked") else f"broken{said}"
    )


MEASURED = ("holds", "violated")
CLAIMED: dict[str, Any] = {"edgecolor": style.BLACK, "lw": 0.7}
REFUTED: dict[str, Any] = {"edgecolor": style.VERMILION, "lw": 1.3}


def figure(rows: pd.DataFrame, results: Sequence[Result[Any, Measurement]]) -> Figure:
    """Each method on each axiom and kind of net, in words: kept, or broken and how far; framed where a paper claims it."""
    from matplotlib.patches import Patch

    rows = rows[rows["metric"].isin(AXIOMS)]
    rows = rows.assign(on=_measured_on(rows))
    methods = [name for name, part in rows.groupby("method", sort=False) if part["verdict"].isin(MEASURED).any()]
    fig, axes = figures.subplots(1, len(GROUPS), sharey=True, height=0.23 * len(methods) + 1.7)
    for ax, title in zip(axes, GROUPS.values(), strict=True):
        for (method, axiom), part in rows[rows["on"] == title].groupby(["method", "metric"]):
            if method in methods:
                _square(ax, list(AXIOMS).index(axiom), methods.index(method), _worst(part))
        ax.set(xlim=(-0.5, len(AXIOMS) - 0.5), ylim=(len(methods) - 0.5, -0.5), title=title)
        ax.set_xticks(range(len(AXIOMS)), [AXIOM_LABELS[axiom].label for axiom in AXIOMS], rotation=90)
        ax.set_yticks(range(len(methods)), [style.method(str(method)).label for method in methods])
        ax.tick_params(length=0)
        ax.grid(visible=False)
    looks = {
        "kept": {"facecolor": style.PALE_BLUE},
        "broken, and how far": {"facecolor": style.PALE_VERMILION},
        "a paper claims this": {"facecolor": "white", **CLAIMED},
        "a paper claims the opposite": {"facecolor": "white", **REFUTED},
        "not framed: no paper claims it; empty: does not apply": {
            "facecolor": "white",
            "edgecolor": style.GREY,
            "lw": 0.3,
        },
    }
    handles = [Patch(label=label, **look) for label, look in looks.items()]
    fig.legend(handles=handles, loc="outside upper center", ncols=3)
    return fig


def _square(ax: Axes, x: int, y: int, worst: pd.Series | None) -> None:
    from matplotlib.patches import Rectangle

    if worst is None or worst["verdict"] not in MEASURED:
        return
    kept = worst["verdict"] == "holds"
    tint = style.PALE_BLUE if kept else style.PALE_VERMILION
    ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=tint, edgecolor="white", lw=0.5))
    size = number(float(f"{worst['value']:.2g}"))
    said = "kept" if kept else f"broken\n{size}"
    ax.text(x, y, said, ha="center", va="center", fontsize=4.8, linespacing=0.95)
    if worst["asserted"]:
        frame = CLAIMED if kept == (worst["asserted"] == "holds") else REFUTED
        ax.add_patch(Rectangle((x - 0.44, y - 0.44), 0.88, 0.88, fill=False, zorder=3, **frame))


# --- the study -----------------------------------------------------------------------------------------------------------

_P = PROTOCOLS["embedded"]["trained"]
STUDY = Study(
    order=6,
    title="The axioms, measured",
    question="Which methods satisfy which axioms, and by how much do the others miss them?",
    source="IG paper Sec. 2 to 4; X-DNN Sec. 3",
    method=(
        "Violations are 0 where an axiom holds: "
        + "; ".join(f"{AXIOM_LABELS[axiom].label}: {what}" for axiom, what in AXIOMS.items())
        + f". Subjects: {_P.functions} x {_P.function_draws} draws of the IG paper's functions (saturation, the pair f and g, "
        f"minimum) and {_P.nets} x {_P.net_draws} draws of random CNNs and of their X-variants, all in float64, and the "
        f"scale's nets in float32 (methods of at most {_P.most_passes} passes). The net under test is blind to "
        f"{100 * SETTING.dead:.0f} % of its input; its equivalent network has neurons permuted, layers split and layers "
        "rotated; symmetry is tried with (F(x) + F(x mirrored)) / 2 at mirror-symmetric inputs; x is scaled by "
        f"{SETTING.factor}. An axiom is kept up to {TOLERANCE['float64']:g} in float64 and {TOLERANCE['float32']:g} in "
        f"float32; completeness up to a mean gap of {100 * COMPLETE:g} % (IG paper Sec. 5), and all draws together must "
        f"account for the change within {100 * ACCOUNTED:g} % or within the interval of that share. Distance: 2 |A - B|_1 / "
        "(|A|_1 + |B|_1). A stochastic method draws the same numbers on both sides and is measured call by call, not in "
        "expectation. The targets are any classes, not the predicted ones. Proposition 3.2 of X-DNN is measured on the powers "
        "F^k of the random CNNs: of an X-net they are homogeneous of degree k, and IG is Input x Gradient / k. Entries: the "
        "largest mean over the nets of the kind."
    ),
    differs=(
        "The papers argue by proof and example; none of them measures. Rows that name captum or 50 points are controls of the "
        "measurement, not methods of the suite. MFABA is said to adhere to the axioms; it breaks sensitivity (a) where the "
        "net does not predict the class that is explained, since its path then ends before it begins (corrected), and where "
        "the gradient vanishes at the input, like the gradient itself."
    ),
    protocols=PROTOCOLS,
    tasks=tasks,
    rows=rows,
    table=table,
    figure=figure,
    claims=CLAIMS,
)
