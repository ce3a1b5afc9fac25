"""Attribution maps side by side: on an X-net IG and X-Gradient are one picture, on a regular net they are two."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from reproduce.attributions import expected_gradients, gradient, input_x_gradient, integrated_gradients
from reproduce.cells import Cell, Tick, Value
from reproduce.datasets import Images
from reproduce.metrics.agreement import relative_l1
from reproduce.metrics.statistics import mean_interval
from reproduce.report import figures
from reproduce.report.tables import wide
from reproduce.run import Net, Run
from reproduce.studies.study import Claim, NotRun, Study, select

VERSION = 2
IG_STEPS, EG_SAMPLES = 128, 32
METHODS = {"ig": f"IG ({IG_STEPS})", "ixg": "Input x Gradient", "eg": f"EG ({EG_SAMPLES})", "gradient": "Gradient"}
SLIDE_STEPS = (1, 2, 4, 8, 16, 32, 64)  # and IG_STEPS: what a reader may slide over, for the first picture of each net
SLIDE_FACTORS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)  # of contrast, as in the contrast study
SAME = 0.01  # relative L1 below which two maps are one picture


def cells(run: Run) -> list[Cell]:
    return [
        run.cell("gallery", VERSION, net, partial(_measure, run, net), images=count, seconds=10,
                 ig_steps=IG_STEPS, eg_samples=EG_SAMPLES, methods=list(METHODS), seed=run.seed,
                 slides=[SLIDE_STEPS, SLIDE_FACTORS])
        for net, count in run.nets("gallery")
    ]  # fmt: skip


def _measure(run: Run, net: Net, tick: Tick, model: nn.Module, images: Images) -> Value:
    maps: dict[str, list[Tensor]] = {name: [] for name in METHODS}
    inputs, targets = next(images.batches(len(images), run.device))
    pool = run.images_for(net, min(max(2, len(images)), len(run.images(net.dataset)))).inputs().to(run.device)
    for i in range(len(images)):  # one image at a time: photographs at 224 px, and the references are its companions
        x, target = inputs[i : i + 1], targets[i : i + 1]
        others = torch.cat([pool[:i], pool[i + 1 :]])
        eg = partial(
            expected_gradients, references=others, generator=run.generator("gallery", net.label, i), samples=EG_SAMPLES
        )
        methods: dict[str, Callable[..., Tensor]] = {
            "ig": partial(integrated_gradients, steps=IG_STEPS),
            "ixg": input_x_gradient,
            "eg": eg,
            "gradient": gradient,
        }
        for name, method in methods.items():
            maps[name].append(method(model, x, target)[0].cpu())
        tick((i + 1) / len(images))
    stacked = {name: torch.stack(tensors) for name, tensors in maps.items()}
    distance = relative_l1(stacked["ig"], stacked["ixg"]).tolist()
    # half precision is plenty for a picture
    return {
        "pixels": images.pixels[:],
        "targets": images.targets,
        "distance": distance,
        "slides": _slides(model, inputs[:1], targets[:1], stacked["ig"][:1]),
        "maps": {
            name: t.sum(1).half() / t.sum(1).abs().amax((1, 2), keepdim=True).half() for name, t in stacked.items()
        },
    }


def _slides(model: nn.Module, x: Tensor, target: Tensor, ig: Tensor) -> Value:
    """The first picture's IG maps over steps, its Input x Gradient maps and predictions over contrast factors."""
    steps = [integrated_gradients(model, x, target, steps=count).cpu() for count in SLIDE_STEPS]
    with torch.no_grad():
        chances = [model(factor * x).softmax(1)[0].cpu() for factor in SLIDE_FACTORS]
    contrast = [input_x_gradient(model, factor * x, target).cpu() for factor in SLIDE_FACTORS]
    return {
        "steps": torch.cat([*steps, ig]).sum(1),
        "distances": [relative_l1(ig, heat).item() for heat in steps] + [0.0],
        "contrast": torch.cat(contrast).sum(1),
        "predicted": [int(p.argmax()) for p in chances],
        "chance": [float(p[target].item()) for p in chances],
    }


def slides(values: list[Value]) -> list[dict[str, Any]]:
    """Two sliders per pair of nets: IG over steps, Input x Gradient over contrast; each map on its own scale."""
    out = []
    for pair in _pairs(values):
        model = figures.MODEL_LABEL.get(pair[0]["net"]["model"], pair[0]["net"]["model"])
        over_steps, over_factors = [], [_pale(pair[0])]
        for value in pair:
            name, shown = figures.VARIANT_LABEL[value["net"]["variant"]], value["slides"]
            over_steps.append(
                {"name": name, "image": _strip(shown["steps"]),
                 "captions": [f"{100 * d:.2g} % from {IG_STEPS} steps" for d in shown["distances"]]}
            )  # fmt: skip
            over_factors.append(
                {"name": name, "image": _strip(shown["contrast"]),
                 "captions": [f"predicts class {c}; the true class has {100 * p:.0f} %"
                              for c, p in zip(shown["predicted"], shown["chance"], strict=True)]}
            )  # fmt: skip
        picture = {"name": "picture", "image": figures.sprite(_pixels(pair[0], [1.0] * (1 + len(SLIDE_STEPS)))),
                   "captions": [f"class {int(pair[0]['targets'][0])}"] * (1 + len(SLIDE_STEPS))}  # fmt: skip
        out.append({"title": f"Integrated Gradients on {model}", "label": "steps",
                    "positions": [*map(str, SLIDE_STEPS), str(IG_STEPS)], "rows": [picture, *over_steps]})  # fmt: skip
        out.append({"title": f"Input x Gradient on {model}", "label": "contrast factor",
                    "positions": [*map(str, SLIDE_FACTORS)], "rows": over_factors})  # fmt: skip
    return out


def _pale(value: Value) -> dict[str, Any]:
    captions = [f"class {int(value['targets'][0])}" for _ in SLIDE_FACTORS]
    return {"name": "picture", "image": figures.sprite(_pixels(value, SLIDE_FACTORS)), "captions": captions}


def _pixels(value: Value, factors: Sequence[float]) -> np.ndarray:
    """The first picture at each contrast, (N, H, W, 3) uint8: drawn towards its own mean colour, for the eye only."""
    pixels = value["pixels"][0].permute(1, 2, 0).float().numpy()
    mean = pixels.mean((0, 1))
    return np.stack([mean + factor * (pixels - mean) for factor in factors]).astype(np.uint8)


def _strip(maps: Tensor) -> str:
    return figures.sprite(np.stack([figures.heatmap(heat[None]) for heat in maps.float().numpy()]))


def rows(values: list[Value]) -> pd.DataFrame:
    return pd.DataFrame(
        value["net"]
        | {"metric": "distance", "unit": "", "better": "lower"}
        | mean_interval(value["distance"]).columns()
        for value in values
    )


def table(rows: pd.DataFrame) -> pd.DataFrame:
    return wide(rows, ["dataset", "model", "variant"], {"distance": "relative L1 of Input x Gradient to IG (128)"})


def figure(rows: pd.DataFrame, values: list[Value]) -> Figure:
    """Two lines for each picture, the regular net above its variant; one column per method."""
    lines = [(value, i) for pair in _pairs(values) for i in range(len(pair[0]["targets"])) for value in pair]
    fig, axes = figures.subplots(len(lines), 1 + len(METHODS), height=1.32 * len(lines))
    grid = axes.reshape(len(lines), -1)
    for line, (value, i) in zip(grid, lines, strict=True):
        variant = value["net"]["variant"]
        line[0].imshow(value["pixels"][i].permute(1, 2, 0).numpy())
        line[0].set_ylabel(f"{figures.MODEL_LABEL.get(value['net']['model'])}\n{figures.VARIANT_LABEL[variant]}")
        for ax, name in zip(line[1:], METHODS, strict=True):
            ax.imshow(figures.heatmap(value["maps"][name][i].float().numpy()[None]), cmap="RdBu_r", vmin=-1, vmax=1)
        for ax in line:
            ax.set(xticks=[], yticks=[])
            ax.grid(visible=False)
    for ax, title in zip(grid[0], ("picture", *METHODS.values()), strict=True):
        ax.set_title(title)
    return fig


def _pairs(values: list[Value]) -> list[list[Value]]:
    """The values of each architecture together, the regular net first."""
    pairs: dict[tuple[str, str], list[Value]] = {}
    for value in values:
        pairs.setdefault((value["net"]["dataset"], value["net"]["model"]), []).append(value)
    return list(pairs.values())


def _coincide(rows: pd.DataFrame) -> tuple[bool, str]:
    part = rows[rows["variant"] != "regular"]
    if part.empty:
        raise NotRun("no X-variants at this scale")
    return bool((part["value"] <= SAME).all()), f"relative L1 at most {part['value'].max():.1g}"


def _differ(rows: pd.DataFrame) -> tuple[bool, str]:
    part = select(rows, variant="regular")
    return bool((part["value"] > 10 * SAME).all()), f"relative L1 at least {part['value'].min():.2g}"


STUDY = Study(
    name="gallery",
    title="Attribution maps side by side",
    question="Does one see that Input x Gradient is Integrated Gradients on a homogeneous net and not on a regular one?",
    source="X-DNN, qualitative figure",
    protocol=(
        f"IG with {IG_STEPS} steps and zero baseline, Input x Gradient (on a homogeneous net: X-Gradient), EG with {EG_SAMPLES} draws from the "
        "other pictures shown, and the gradient; logit of the true class, summed over channels. Each map is scaled by the 99th percentile of "
        "its absolute values; red speaks for the class, blue against it."
    ),
    differs="Other pictures and nets than the paper's. EfficientNet-Lite0 is made homogeneous by HomogeneousWrapper, without retraining.",
    cells=cells,
    rows=rows,
    table=table,
    figure=figure,
    slides=slides,
    claims=(
        Claim("On a homogeneous net IG and Input x Gradient are the same picture", "X-DNN, qualitative figure", "", _coincide),
        Claim("On a regular net they are not", "X-DNN, qualitative figure", "", _differ),
    ),
)  # fmt: skip
