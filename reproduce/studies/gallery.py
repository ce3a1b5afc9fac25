"""Attribution maps side by side: on an X-net IG and X-Gradient are one picture, on a regular net they are two."""

from collections.abc import Callable
from functools import partial

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

VERSION = 1
IG_STEPS, EG_SAMPLES = 128, 32
METHODS = {"ig": f"IG ({IG_STEPS})", "ixg": "Input x Gradient", "eg": f"EG ({EG_SAMPLES})", "gradient": "Gradient"}
SAME = 0.01  # relative L1 below which two maps are one picture


def cells(run: Run) -> list[Cell]:
    return [
        run.cell("gallery", VERSION, net, partial(_measure, run, net), images=count, seconds=10,
                 ig_steps=IG_STEPS, eg_samples=EG_SAMPLES, methods=list(METHODS), seed=run.seed)
        for net, count in run.nets("gallery")
    ]  # fmt: skip


def _measure(run: Run, net: Net, tick: Tick, model: nn.Module, images: Images) -> Value:
    maps: dict[str, list[Tensor]] = {name: [] for name in METHODS}
    inputs, targets = next(images.batches(len(images), run.device))
    for i in range(len(images)):  # one image at a time: photographs at 224 px, and the references are its companions
        x, target = inputs[i : i + 1], targets[i : i + 1]
        others = torch.cat([inputs[:i], inputs[i + 1 :]])
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
        "maps": {
            name: t.sum(1).half() / t.sum(1).abs().amax((1, 2), keepdim=True).half() for name, t in stacked.items()
        },
    }


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
    claims=(
        Claim("On a homogeneous net IG and Input x Gradient are the same picture", "X-DNN, qualitative figure", "", _coincide),
        Claim("On a regular net they are not", "X-DNN, qualitative figure", "", _differ),
    ),
)  # fmt: skip
