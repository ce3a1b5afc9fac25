"""A study of your own in one file: are the maps of nets without biases as sparse as those of nets with them?

python -m reproduce run sparsity --scale smoke --plugin examples/my_study.py

As a part of the suite it would be reproduce/studies/sparsity.py and end in ``STUDY = Study(...)``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd
from matplotlib.figure import Figure
from torch import nn

from reproduce.claims import Claim, Kind, not_worse, select
from reproduce.context import Context
from reproduce.datasets.images import Images
from reproduce.experiment import Experiment
from reproduce.nets import Net, by_training, net_task
from reproduce.report import figures, style
from reproduce.report.tables import Table, wide
from reproduce.statistics import difference_interval, mean_interval
from reproduce.study import Study
from reproduce.tasks import Result, Task
from xdnn import input_x_gradient
from xdnn.metrics.gini import gini


@dataclass(frozen=True)
class Protocol:
    """What decides the numbers: it is part of each task's key."""

    images: int


@dataclass(frozen=True)
class Measurement:
    """What is kept of one net: Gini coefficients, one for each image."""

    sparsity: list[float]


MARGIN = 0.02  # a difference that matters, chosen before anything was measured


def tasks(context: Context, protocols: Mapping[str, Protocol]) -> list[Task[Net, Measurement]]:
    nets = context.nets(protocols)
    return [net_task(context, "sparsity", net, protocol, measure, Measurement, seconds=5) for net, protocol in nets]


def measure(model: nn.Module, images: Images, protocol: Protocol, experiment: Experiment[Net, Protocol]) -> Measurement:
    inputs, targets = next(images.batches(protocol.images, experiment.device))
    maps = input_x_gradient(model, inputs, targets).sum(1).flatten(1)  # over colours: (B, pixels)
    return Measurement(gini(maps.abs()).tolist())


def rows(results: Sequence[Result[Net, Measurement]]) -> pd.DataFrame:
    nets = by_training(results)
    samples = {(ids["model"], ids["variant"]): [result.value.sparsity for result in group] for ids, group in nets}
    out = []
    for ids, _ in nets:
        own, regular = samples[ids["model"], ids["variant"]], samples[ids["model"], "regular"]
        found = {"sparsity": mean_interval(own)}
        if ids["variant"] != "regular":
            found["sparsity_change"] = difference_interval(own, regular)  # of the same images: paired
        for metric, interval in found.items():
            out.append(ids | {"metric": metric, "unit": "", "better": "higher"} | interval.columns())
    return pd.DataFrame(out)


def table(rows: pd.DataFrame) -> Table:
    return wide(rows, ["dataset", "model", "variant"], {"sparsity": "Gini", "sparsity_change": "change"})


def figure(rows: pd.DataFrame, results: Sequence[Result[Net, Measurement]]) -> Figure:
    """A point with its interval for each net, regular and without biases."""
    fig, (ax,) = figures.subplots(1, 1)
    shown = rows[rows["metric"] == "sparsity"]
    names = [f"{style.model(row.model).label}\n{style.variant(row.variant).label}" for row in shown.itertuples()]
    ax.errorbar(names, shown["value"], [shown["value"] - shown["low"], shown["high"] - shown["value"]], fmt="o")
    ax.set_ylabel("Gini coefficient of |Input x Gradient|")
    return fig


STUDY = Study(
    name="sparsity",
    order=20,
    title="Sparsity of one-pass maps",
    question="Are the maps of nets without biases as sparse as those of nets with them?",
    source="ours",
    method="Gini coefficient of |Input x Gradient|, summed over colours, of the true class. Intervals: 95 %, over images.",
    differs="No paper asks this.",
    protocols={  # scale -> which nets -> how much
        "smoke": {"trained": Protocol(images=16)},
        "embedded": {"trained": Protocol(images=200)},
    },
    tasks=tasks,
    rows=rows,
    table=table,
    figure=figure,
    claims=(
        Claim(
            id="as-sparse",
            text=f"Without biases maps are not less sparse, within a margin of {MARGIN} of the Gini coefficient",
            kind=Kind.EMPIRICAL,
            source="ours",
            reported="",
            metric="sparsity_change",
            criterion=not_worse(MARGIN),
            evidence=partial(select, variant="x", metric="sparsity_change"),
            n_chosen="200 images tell 0.02 from nothing",
        ),
    ),
)
STUDIES = {STUDY.name: STUDY}
