"""MFABA Table 2: images per second, at one equal batch size, as a ratio to one plain gradient of the same run."""

from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from reproduce.attributions import (
    agi,
    big,
    deeplift,
    gradient,
    in_pixels,
    integrated_gradients,
    mfaba,
    smoothgrad,
    x_gradient,
)  # fmt: skip
from reproduce.attributions.deeplift import NotSupportedError
from reproduce.cells import Cell, Tick, Value
from reproduce.datasets import Images
from reproduce.metrics.agreement import relative_l1
from reproduce.metrics.statistics import mean_interval
from reproduce.metrics.timing import clocked, counted
from reproduce.report import figures
from reproduce.report.tables import wide
from reproduce.run import Net, Run
from reproduce.studies.study import Claim, NotRun, Study, select

VERSION = 3
REPEATS = 3  # calls of a method, each beside a plain gradient
SAME = 1e-2  # relative L1 of an image's attributions alone and in its batch; float32 walks amplify rounding
LONG = 1.0  # seconds: a method that has run for as long is not called again

METHODS: dict[str, tuple[str, Callable[..., Tensor], dict[str, Any]]] = {  # name -> (label, function, in_pixels' options)
    "gradient": ("SM", gradient, {"softmax": True}),
    "mfaba_sharp": ("MFABA sharp", partial(mfaba, kind="sharp"), {}),
    "mfaba_smooth": ("MFABA smooth", partial(mfaba, kind="smooth"), {}),
    "deeplift": ("DeepLIFT", deeplift, {}),
    "agi": ("AGI", agi, {}),
    "ig": ("IG (50)", partial(integrated_gradients, steps=50, quadrature="trapezoid"), {"softmax": True}),
    "smoothgrad": ("SmoothGrad (50)", smoothgrad, {"softmax": True}),
    "big": ("BIG", big, {}),
}  # fmt: skip
X_GRADIENT: dict[str, tuple[str, Callable[..., Tensor], dict[str, Any]]] = {
    "x_gradient": ("X-Gradient", x_gradient, {})
}  # on X-variants and wrapped nets, against their own gradient
EQUAL_BATCH = 4  # of every method, or all images where there are fewer
PUBLISHED_BATCH = {  # of the authors' scripts; what each FPS of the paper was taken at
    "gradient": 64, "mfaba_sharp": 128, "mfaba_smooth": 128, "agi": 64, "ig": 4, "smoothgrad": 4, "deeplift": 4, "big": 4,
}  # fmt: skip
EQUAL, PUBLISHED = "equal", "published"
LABELS = {name: entry[0] for name, entry in (METHODS | X_GRADIENT).items()}
MFABA = ("mfaba_sharp", "mfaba_smooth")
BIG_TIMES, IG_TIMES = 100, (4, 8)  # MFABA abstract: 101.5 times; its Table 2: 3.8 to 7.6 times


def cells(run: Run) -> list[Cell]:
    return [
        run.cell(
            "mfaba-table2", VERSION, net, partial(_measure, run, net), images=count, seconds=50 if net.variant == "regular" else 1,
            methods=_methods(net), repeats=REPEATS, long=LONG, threads=run.threads, seed=run.seed, batch=EQUAL_BATCH,
        )
        for net, count in run.nets("mfaba-table2")
    ]  # fmt: skip


def _methods(net: Net) -> list[str]:
    return list(METHODS) if net.variant == "regular" else list(X_GRADIENT)


def _measure(run: Run, net: Net, tick: Tick, model: nn.Module, images: Images) -> Value:
    """One batch per method: equal ones, then the published ones where there are images enough for all of them."""
    names = _methods(net)
    sizes = {EQUAL: dict.fromkeys(names, min(EQUAL_BATCH, len(images)))}
    if set(names) <= set(PUBLISHED_BATCH) and len(images) >= max(PUBLISHED_BATCH.values()):
        sizes[PUBLISHED] = PUBLISHED_BATCH
    found: Value = {"timed": [], "refused": {}}
    for batching, batches in sizes.items():
        for name in names:
            inputs, _ = next(images.batches(batches[name], run.device))
            try:
                found["timed"].append({"method": name, "batching": batching} | _time(run, name, model, inputs, images))
            except NotSupportedError as reason:
                found["refused"][name] = str(reason)
            tick(len(found["timed"]) / (len(names) * len(sizes)))
    return found


def _time(run: Run, name: str, model: nn.Module, inputs: Tensor, images: Images) -> Value:
    """Each call is timed beside a plain gradient of the same batch, after one gradient that is not timed.

    The output is checked in the same run: finite and not zero for every image, and the same again for each image alone,
    which a method that mixes its batch would fail. What fails is not given a time.
    """
    with torch.no_grad():
        targets = model(inputs).argmax(1)
    plain = partial(gradient, model, inputs, targets)
    plain()
    _, method, options = (METHODS | X_GRADIENT)[name]
    attribute = method if name == "x_gradient" else in_pixels(method, images.mean, images.std, **options)
    plains: list[float] = []
    seconds: list[float] = []
    while len(seconds) < REPEATS and sum(seconds) < LONG:
        extra = {"generator": run.generator("mfaba-table2", name)} if name == "smoothgrad" else {}
        one, _ = clocked(plain, run.device)
        with counted(model) as passes:
            taken, attributions = clocked(partial(attribute, model, inputs, targets, **extra), run.device)
        seconds.append(taken)
        plains.append(one)
    good = bool(torch.isfinite(attributions).all() and attributions.flatten(1).any(1).all())
    # A batch of one is alone; SmoothGrad draws noise for the batch; BIG would take its 407 passes again.
    if good and len(inputs) > 1 and name not in ("smoothgrad", "big"):
        alone = attribute(model, inputs[:1], targets[:1])
        good = relative_l1(alone, attributions[:1]).item() <= SAME
    return {
        "seconds": seconds, "plain": plains, "forward": passes.forward / len(inputs), "backward": passes.backward / len(inputs),
        "good": good, "batch": len(inputs),
    }  # fmt: skip


def rows(values: list[Value]) -> pd.DataFrame:
    out = []
    for value in values:
        for found in value["timed"]:
            name = found["method"]
            same = [other for other in value["timed"] if other["batch"] == found["batch"]]
            plain = median([second for other in same for second in other["plain"]])
            ids = value["net"] | {
                "method": name,
                "label": LABELS[name],
                "batching": found["batching"],
                "batch": found["batch"],
            }
            out.append(ids | _row("forward_passes", "per image", "lower", [found["forward"]]))
            out.append(ids | _row("backward_passes", "per image", "lower", [found["backward"]]))
            if found["good"]:
                speeds = [found["batch"] / s for s in found["seconds"]]
                out.append(ids | _row("images_per_second", "1/s", "higher", speeds))
                out.append(ids | _row("ratio", "plain gradients", "lower", [s / plain for s in found["seconds"]]))
            else:
                out.append(ids | _row("refused", "its attributions failed their check, so it is not timed", "", [1.0]))
        for name, reason in value["refused"].items():
            ids = value["net"] | {"method": name, "label": LABELS[name], "batching": EQUAL, "batch": EQUAL_BATCH}
            out.append(ids | _row("refused", reason, "", [1.0]))
    return pd.DataFrame(out)


def _row(metric: str, unit: str, better: str, values: list[float]) -> dict[str, Any]:
    return {"metric": metric, "unit": unit, "better": better} | mean_interval(values).columns()


def table(rows: pd.DataFrame) -> pd.DataFrame:
    heads = {
        "images_per_second": "Images per second", "ratio": "Time in plain gradients", "forward_passes": "Forward passes",
        "backward_passes": "Backward passes",
    }  # fmt: skip
    out = wide(rows, ["dataset", "model", "variant", "label", "batching", "batch"], heads).rename(
        columns={"label": "method"}
    )
    for _, row in rows[rows["metric"] == "refused"].iterrows():
        line = (out["dataset"] == row["dataset"]) & (out["method"] == row["label"])
        line &= out["model"] == figures.MODEL_LABEL.get(row["model"], row["model"])
        out.loc[line & (out["variant"] == figures.VARIANT_LABEL[row["variant"]]), "Images per second"] = (
            f"not run: {row['unit']}"
        )
    return out


def figure(rows: pd.DataFrame, values: list[Value]) -> Figure:
    """What each method costs in plain gradients of the same net, one panel per architecture."""
    part = rows[(rows["metric"] == "ratio") & (rows["batching"] == EQUAL)]
    nets = list(dict.fromkeys(zip(part["dataset"], part["model"], strict=True)))
    fig, axes = figures.subplots(1, max(1, len(nets)), sharex=True)
    for ax, (dataset, model) in zip(axes, nets, strict=False):
        lines = part[(part["dataset"] == dataset) & (part["model"] == model)].sort_values("value", ascending=False)
        for place, (_, line) in enumerate(lines.iterrows()):
            colour = (
                figures.BLUE
                if line["method"] == "x_gradient"
                else figures.VERMILION
                if line["method"] in MFABA
                else figures.BLACK
            )
            spread = [[line["value"] - line["low"]], [line["high"] - line["value"]]]
            ax.errorbar(line["value"], place, xerr=spread, fmt="o", ms=4, color=colour, capsize=2)
        ax.set_yticks(range(len(lines)), lines["label"])
        ax.set(
            xscale="log", xlabel="time, in plain gradients", title=f"{figures.MODEL_LABEL.get(model, model)}, {dataset}"
        )
    return fig


def _times(rows: pd.DataFrame, slower: str, batching: str) -> dict[str, tuple[float, float]]:
    """Per net, how many times fewer images a second a method explains than the faster and the slower MFABA."""
    if batching not in set(rows.get("batching", ())):
        raise NotRun(f"{max(PUBLISHED_BATCH.values())} images of a net are timed at the scales subset and paper")
    part = select(rows, metric="images_per_second", variant="regular", batching=batching)
    select(part, method=slower)
    found = {}
    for (dataset, model), group in part.groupby(["dataset", "model"], sort=False):
        value = group.set_index("method")["value"]
        if slower in value and set(MFABA) <= set(value.index):
            times = [float(value[m] / value[slower]) for m in MFABA]
            found[f"{figures.MODEL_LABEL.get(model, model)} ({dataset})"] = (min(times), max(times))
    return found


def _words(found: dict[str, tuple[float, float]]) -> str:
    return "; ".join(f"{net}: {high:.1f} times ({low:.1f} for the slower kind)" for net, (low, high) in found.items())


def _faster_than_big(rows: pd.DataFrame, batching: str) -> tuple[bool, str]:
    found = _times(rows, "big", batching)
    return all(high > BIG_TIMES for _, high in found.values()), _words(found)


def _faster_than_ig(rows: pd.DataFrame, batching: str) -> tuple[bool, str]:
    found = _times(rows, "ig", batching)
    return all(IG_TIMES[0] <= high <= IG_TIMES[1] for _, high in found.values()), _words(found)


def _x_gradient_is_fastest(rows: pd.DataFrame) -> tuple[bool, str]:
    part = select(rows, metric="ratio", batching=EQUAL)
    ours = select(part, method="x_gradient")["high"].max()
    others = select(part, variant="regular")
    others = others[others["method"] != "gradient"]
    rival = others.loc[others["value"].idxmin()]
    return bool(ours < rival["low"]), f"at most {ours:.2f} plain gradients; next {rival['label']} {rival['value']:.1f}"


STUDY = Study(
    name="mfaba-table2",
    title="Images per second of boundary-based methods",
    question="How much faster than its rivals is MFABA at one equal batch size, and what does X-Gradient cost?",
    source="MFABA Table 2",
    protocol=(
        f"A batch of {EQUAL_BATCH} for every method, and, where the scale has the images, the published sizes (MFABA 128, AGI and SM 64, the "
        f"others 4). Up to {REPEATS} calls of each method, each beside a plain gradient of the same batch; a method that has "
        f"taken {LONG:g} s is not called again. Only the call is timed. Methods as published, in [0, 1] pixel space, BIG with all seven "
        "of its equal searches. X-Gradient runs on the X-variant or the wrapped net. Time in plain gradients: over the median plain "
        "gradient of that batch size. A time is shown only where the attributions are finite, not zero, and the same for the first image "
        "alone (not asked of BIG and SmoothGrad). Passes are counted as run. "
        "Intervals: 95 % bootstrap over calls; n is their number."
    ),
    differs=(
        "A CPU instead of an unnamed GPU, so the ratios count and not the images per second. ResNet-50 is torchvision's with untrained "
        "weights, at 32 px only: its walks are as long as its boundary happens to be far; trained weights, 224 px and the published batch "
        "sizes are at the larger scales. The released MFABA evaluates each point twice; here the class and the gradient come from one pass."
    ),
    cells=cells,
    rows=rows,
    table=table,
    figure=figure,
    claims=(
        Claim("MFABA's faster kind is over 100 times faster than BIG at the published batch sizes", "MFABA abstract, Table 2",
              "101 to 139 times", partial(_faster_than_big, batching=PUBLISHED)),
        Claim("So it is at an equal batch size", "MFABA abstract, Table 2", "101 to 139 times", partial(_faster_than_big, batching=EQUAL)),
        Claim("MFABA's faster kind is 4 to 8 times faster than IG (50) at the published batch sizes", "MFABA Table 2", "3.8 to 7.6 times",
              partial(_faster_than_ig, batching=PUBLISHED)),
        Claim("So it is at an equal batch size", "MFABA Table 2", "3.8 to 7.6 times", partial(_faster_than_ig, batching=EQUAL)),
        Claim("X-Gradient on an X-net is faster than all of them", "X-DNN Sec. 3: one pass", "", _x_gradient_is_fastest),
    ),
)  # fmt: skip
