"""X-DNN Table 2 (Sec. 4.2): is X-Gradient as good an attribution as Integrated Gradients, by six mask metrics?"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import nn

from reproduce.attributions import METHODS
from reproduce.cells import Cell, Tick, Value
from reproduce.datasets import Images
from reproduce.metrics.accuracy import topk_hits
from reproduce.metrics.masks import FRACTIONS, METRICS, area, mask_curves
from reproduce.metrics.statistics import Interval, difference_interval, mean_interval
from reproduce.report import figures
from reproduce.report.tables import wide
from reproduce.run import Net, Run
from reproduce.studies.maps import EXTENDED, EXTENDED_SHARE, IG, JUDGED, batch_size, homogeneous, maps, one_pass
from reproduce.studies.study import Claim, NotRun, Study, select

VERSION = 1
CONTRAST = 0.3  # factor of the normalised input at which accuracy is also taken: what homogeneity buys a wrapped net
ACCURACY_IMAGES = 1_000  # at most; forward passes only, so more than are explained
EQUAL = 0.01  # share of the value that X-Gradient and IG may differ by
RIVALS = ("gradient", "expected_gradients_1", "random")
OTHERS = ("vgg16", "resnet50")  # the paper's table has AlexNet only; its code runs these too

# X-DNN Sec. 4.2, AlexNet and X-AlexNet on ImageNet validation; paper-facts 1.4. RPM and RNM are not printed.
REPORTED = {
    ("regular", method): dict(zip(("kpm", "knm", "kam", "ram"), values, strict=True))
    for method, values in {
        "integrated_gradients_128": (7.57, 1.67, 25.22, 11.12), "random": (3.68, 3.68, 14.12, 14.10),
        "gradient": (3.62, 3.88, 20.78, 11.82), "expected_gradients_1": (4.92, 2.97, 20.49, 13.76),
    }.items()
} | {
    ("x", method): dict(zip(("kpm", "knm", "kam", "ram"), values, strict=True))
    for method, values in {
        "integrated_gradients_128": (7.38, 2.21, 21.79, 11.68), "random": (3.81, 3.81, 13.52, 13.50),
        "gradient": (3.87, 4.34, 19.75, 11.25), "expected_gradients_1": (5.41, 3.19, 19.47, 13.19),
        "x_gradient": (7.38, 2.21, 21.83, 11.68),
    }.items()
}  # fmt: skip


def cells(run: Run) -> list[Cell]:
    return [cell(run, net, count) for net, count in run.nets("table2")]


def cell(run: Run, net: Net, count: int) -> Cell:
    """The mask metrics of one net's maps; ``ground-truth`` ranks the methods by them too."""
    return run.cell(
        "table2", VERSION, net, partial(_measure, run, net), images=count, seconds=40, needs=(maps(run, net, count),),
        fractions=FRACTIONS.tolist(), contrast=CONTRAST, accuracy_images=ACCURACY_IMAGES,
    )  # fmt: skip


def _measure(run: Run, net: Net, tick: Tick, model: nn.Module, images: Images, judged: Value) -> Value:
    scores, means = {}, {}
    size = batch_size(run, model, images)
    for done, (name, found) in enumerate(judged["maps"].items()):
        curves = torch.cat(
            [
                mask_curves(model, inputs, targets, attributions.to(run.device))
                for (inputs, targets), attributions in zip(
                    images.first(len(found)).batches(size, run.device), found.split(size), strict=True
                )
            ]
        ).cpu()
        scores[name], means[name] = area(curves), curves.mean(0)
        tick((done + 1) / len(judged["maps"]))
    return {"scores": scores, "curves": means, "distance": judged["distance"], "hits": _hits(run, net, model)}


@torch.no_grad()
def _hits(run: Run, net: Net, model: nn.Module) -> dict[str, list[bool]]:
    """Top-1 hits at full and at low contrast."""
    images = run.images_for(net, min(ACCURACY_IMAGES, len(run.images(net.dataset))))
    hits: dict[str, list[bool]] = {"top1": [], "top1_contrast": []}
    for inputs, targets in images.batches(batch_size(run, model, images), run.device):
        for metric, factor in (("top1", 1.0), ("top1_contrast", CONTRAST)):
            hits[metric] += topk_hits(model(factor * inputs), targets).tolist()
    return hits


# --- rows -------------------------------------------------------------------------------------------------------------


def rows(values: list[Value]) -> pd.DataFrame:
    """``against`` is empty for a mean, and names the method that a row is the paired difference to."""
    return pd.DataFrame(row for value in values for row in _rows(value, values))


def _rows(value: Value, values: list[Value]) -> Iterator[dict[str, object]]:
    net, scores = value["net"], value["scores"]
    for name, found in scores.items():
        yield from _metric_rows(net, name, "", found.T, lambda found: mean_interval(found))
    for name, other in _pairs(net["variant"], list(scores)):
        pair = zip(scores[name].T, scores[other].T, strict=True)
        yield from _metric_rows(net, name, other, pair, _paired)
    if homogeneous(net["variant"]) and (regular := _regular(value, values)) is not None:
        name = one_pass(net["variant"])
        for other in (IG, "input_x_gradient"):
            pair = zip(scores[name].T, regular["scores"][other].T, strict=True)
            yield from _metric_rows(net, name, f"regular {other}", pair, _paired)
    ids = net | {"method": one_pass(net["variant"]), "against": "", "metric": "distance", "unit": "", "better": "lower"}
    yield ids | mean_interval(value["distance"]).columns() | {"reported": None}
    for metric, hits in value["hits"].items():
        ids = net | {"method": "", "against": "", "metric": metric, "unit": "%", "better": "higher"}
        yield ids | mean_interval([100.0 * hit for hit in hits]).columns() | {"reported": None}


def _pairs(variant: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """The differences that the paper's argument rests on: the one exact method, and gradient, against each other method."""
    exact = one_pass(variant) if homogeneous(variant) else IG
    return [(a, b) for a in dict.fromkeys((exact, "gradient")) for b in names if b != a]


def _paired(pair: tuple[torch.Tensor, torch.Tensor]) -> Interval:
    both = min(map(len, pair))
    return difference_interval(pair[0][:both], pair[1][:both])


def _metric_rows(
    net: Value, name: str, against: str, found: object, interval: Callable[..., Interval]
) -> Iterator[dict[str, object]]:
    reported = REPORTED.get((net["variant"], name), {}) if net["model"] == "alexnet" and not against else {}
    for (metric, about), sample in zip(METRICS.items(), found, strict=True):  # type: ignore[call-overload]
        ids = {"method": name, "against": against, "metric": metric, "unit": about.unit, "better": about.better}
        yield net | ids | interval(sample).columns() | {"reported": reported.get(metric)}


def _regular(value: Value, values: list[Value]) -> Value | None:
    """The same architecture's regular net with the same seed."""
    wanted = value["net"] | {"variant": "regular"}
    return next((other for other in values if other["net"] == wanted), None)


# --- table and figure -------------------------------------------------------------------------------------------------

COLUMNS = {name: f"{m.label} {'↑' if m.better == 'higher' else '↓'}" for name, m in METRICS.items()} | {
    "distance": "relative L1 to IG (128)", "top1": "Top-1 (%)", "top1_contrast": f"Top-1 at contrast {CONTRAST} (%)",
}  # fmt: skip


def label(method: str) -> str:
    return METHODS[method].label if method in METHODS else "the net itself"


def table(rows: pd.DataFrame) -> pd.DataFrame:
    part = rows[rows["against"] == ""]
    ids = ["dataset", "model", "variant", "method"]
    part = part.assign(images=part.groupby(ids)["n"].transform("first"), method=part["method"].map(label))
    return wide(part, [*ids, "images"], COLUMNS)


COLOURS = {
    IG: figures.BLACK, "input_x_gradient": figures.SKY, "x_gradient": figures.BLUE, "expected_gradients_1": figures.PURPLE,
    "gradient": figures.ORANGE, "random": "grey",
}  # fmt: skip


def figure(rows: pd.DataFrame, values: list[Value]) -> Figure:
    """The mean curves of the first architecture, one panel per metric: regular dashed, its variant solid."""
    model, dataset = values[0]["net"]["model"], values[0]["net"]["dataset"]
    fig, axes = figures.subplots(2, 3, sharex=True, height=4.6)
    for i, (ax, (name, metric)) in enumerate(zip(axes, METRICS.items(), strict=True)):
        for value in (v for v in values if (v["net"]["model"], v["net"]["dataset"]) == (model, dataset)):
            style = figures.variant_line(value["net"]["variant"])["ls"]
            for method, curves in value["curves"].items():
                if method in EXTENDED:
                    continue  # on few images
                if method == IG and homogeneous(value["net"]["variant"]):
                    continue  # it is X-Gradient, on fewer images: a second curve beside it would only show those images
                ax.plot(
                    FRACTIONS,
                    curves[i].numpy(),
                    ls=style,
                    lw=1.1,
                    color=COLOURS.get(method, figures.GREEN),
                    label=label(method),
                )
        ax.set_title(f"{COLUMNS[name]} ({figures.net_label(model, dataset)})")
        ax.set(xscale="log", ylabel="top-1 (%)" if metric.unit == "%" else "target logit")
        if i >= 3:
            ax.set_xlabel("share of the pixels asked for")
    found = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
    fig.legend(
        found.values(),
        found.keys(),
        loc="outside lower center",
        ncols=6,
        title="regular dashed, X-variant solid (IG on it is X-Gradient)",
    )
    return fig


NET_AND_METRIC = ["dataset", "model", "seed", "metric"]

# --- claims -----------------------------------------------------------------------------------------------------------

Judge = Callable[[pd.DataFrame], tuple[bool, str]]


def _named(row: pd.Series) -> str:
    return f"{figures.net_label(row['model'], row['dataset'])} {METRICS[row['metric']].label}"


def _agree(rows: pd.DataFrame) -> tuple[bool, str]:
    part = select(rows, variant="x", method="x_gradient", against=IG)
    whole = select(rows, variant="x", method="x_gradient", against="").set_index(NET_AND_METRIC)["value"]
    size = whole.loc[list(part[NET_AND_METRIC].itertuples(index=False, name=None))].abs().to_numpy()
    share = part["value"].abs().to_numpy() / np.maximum(size, 1e-12)
    equal = (share <= EQUAL) | ((part["low"] <= 0) & (part["high"] >= 0)).to_numpy()
    worst = part.iloc[int(share.argmax())]
    return bool(
        equal.all()
    ), f"{equal.sum()} of {len(part)} agree; largest difference {100 * share.max():.2g} % ({_named(worst)})"


def _beats(models: Sequence[str], variant: str, method: str) -> Judge:
    """Better than each rival on KPM and KNM, the paired interval on the right side of zero, on every such net."""

    def judge(rows: pd.DataFrame) -> tuple[bool, str]:
        part = select(rows, variant=variant, method=method)
        part = part[part["model"].isin(models) & part["against"].isin(RIVALS) & part["metric"].isin(("kpm", "knm"))]
        if part.empty:
            raise NotRun(f"no {' or '.join(models)} at this scale")
        better = np.where(part["better"] == "higher", part["low"] > 0, part["high"] < 0)
        words = [f"{better.sum()} of {len(part)} comparisons won"]
        words += [f"{_named(r)} against {label(r['against'])} {r['value']:+.3g} [{r['low']:.3g}, {r['high']:.3g}]"
                  for _, r in part[~better].iterrows()]  # fmt: skip
        return bool(better.all()), "; ".join(words)

    return judge


def _gradient_ram(rows: pd.DataFrame) -> tuple[bool, str]:
    part = select(rows, model="alexnet", variant="x", method="gradient", metric="ram")
    others = part[part["against"].isin(JUDGED)]
    words = ", ".join(
        f"{label(r['against'])} {r['value']:+.3g} [{r['low']:.3g}, {r['high']:.3g}]" for _, r in others.iterrows()
    )
    own = part[part["against"] == ""]["value"].iloc[0]
    return bool((others["high"] < 0).all()), f"Gradient {own:.3g} %, against {words}"


def _wrapped_is_ig(rows: pd.DataFrame) -> tuple[bool, str]:
    part = select(rows, variant="wrapped", metric="distance")
    regular = select(rows, variant="regular", metric="distance", model=part["model"].iloc[0])["value"].iloc[0]
    return bool(part["value"].max() <= EQUAL), f"relative L1 {part['value'].max():.1g} wrapped, {regular:.2g} plain"


def _wrapped_is_as_good(rows: pd.DataFrame) -> tuple[bool, str]:
    part = select(rows, variant="wrapped", method="x_gradient", against=f"regular {IG}")
    worse = np.where(part["better"] == "higher", part["high"] < 0, part["low"] > 0)
    words = ", ".join(
        f"{METRICS[r['metric']].label} {r['value']:+.2g} [{r['low']:.2g}, {r['high']:.2g}]" for _, r in part.iterrows()
    )
    return not worse.any(), f"{words} over {part['n'].max()} images"


STUDY = Study(
    name="table2",
    title="Attribution quality by mask metrics",
    question="Is X-Gradient, in one pass, as good an attribution as Integrated Gradients, and better than what else costs one pass?",
    source="X-DNN Sec. 4.2, Table 2",
    protocol=(
        "Pixels are ranked by the attribution's mean over channels. Keep shows the highest, Remove the lowest, of the positive (P), negative "
        "(N) or absolute (A) values, at 16 fractions from 0.01 to 1; the rest is a Gaussian blur of the normalised image, standard deviation "
        "57.98 px on a 51 px window at 224 px (the released code's kernel), scaled in proportion at 64 px: 16.57 px on 15 px. KPM, KNM, RPM, "
        "RNM: area under the true class's logit; KAM, RAM: under top-1 accuracy in percent. EG draws one reference and one point per image. "
        "Means over images with 95 % bootstrap intervals; differences are paired over images. Every fifth image is enough for Random, and "
        f"for IG on homogeneous nets, where it only confirms X-Gradient; later path methods see every {EXTENDED_SHARE}th, of AlexNet only. "
        "Relative L1: sum|IG - IxG| / sum|IG| per image."
    ),
    differs=(
        "Other data and nets, so no value estimates the paper's. Each image has its own EG draw; the released code shares one in a batch of "
        "two. The arrows of RPM and RNM are ours, and weak: beyond the share of positive (negative) pixels, about half of the axis, Keep and "
        "Remove show the same picture, so these two reward a method with a low KPM (a high KNM). EfficientNet-Lite0 is not in the "
        "paper: it is made homogeneous by HomogeneousWrapper, and a handful of photographs decides little."
    ),
    cells=cells,
    rows=rows,
    table=table,
    figure=figure,
    claims=(
        Claim("On X-nets X-Gradient and IG (128) agree on all six metrics, to 1 % or within the paired interval", "X-DNN Table 2",
              "7.38 / 2.21 / 21.83 / 11.68 against 7.38 / 2.21 / 21.79 / 11.68", _agree),
        Claim("On X-AlexNet X-Gradient beats Gradient, EG (1) and Random on KPM and KNM", "X-DNN Table 2",
              "KPM 7.38 against 3.87 / 5.41 / 3.81; KNM 2.21 against 4.34 / 3.19 / 3.81", _beats(("alexnet",), "x", "x_gradient")),
        Claim("So it does on the other X-nets", "X-DNN Sec. 4.2, extended", "", _beats(OTHERS, "x", "x_gradient")),
        Claim("On AlexNet IG (128) beats Gradient, EG (1) and Random on KPM and KNM", "X-DNN Table 2",
              "KPM 7.57 against 3.62 / 4.92 / 3.68; KNM 1.67 against 3.88 / 2.97 / 3.68", _beats(("alexnet",), "regular", IG)),
        Claim("So it does on the other regular nets", "X-DNN Sec. 4.2, extended", "", _beats(OTHERS, "regular", IG)),
        Claim("On X-AlexNet Gradient has the best RAM", "X-DNN Table 2", "11.25 against 11.68 of X-Gradient and IG", _gradient_ram),
        Claim("HomogeneousWrapper makes Input x Gradient equal IG (128) on a pretrained net: relative L1 at most 1 %",
              "X-DNN Prop. 3.2, extended", "", _wrapped_is_ig),
        Claim("X-Gradient of a wrapped net is not worse than IG (128) of the plain net on any of the six metrics", "ours", "",
              _wrapped_is_as_good),
    ),
)  # fmt: skip
