"""Attribution maps side by side: on an X-net IG and X-Gradient are one picture, on a regular net they are two."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from reproduce.claims import Claim, Kind, at_least, at_most, select
from reproduce.context import Context
from reproduce.datasets.images import Images
from reproduce.experiment import Experiment
from reproduce.nets import Net, by_training, net_task, test_images
from reproduce.report import figures, style
from reproduce.report.tables import Table, wide
from reproduce.statistics import FEWEST, mean_interval
from reproduce.study import Study
from reproduce.tasks import Result, Task
from xdnn import expected_gradients, gradient, input_x_gradient, integrated_gradients
from xdnn.metrics.agreement import relative_l1

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Protocol:
    """What decides the maps.

    Attributes:
        images: test images on which IG and Input x Gradient are compared; the first to be shown among them.
        shown: how many of them are shown.
        candidates: images among which the first to be shown is looked for: one that the net and its variants classify rightly.
        ig_steps, eg_samples: zero baseline in normalised space; references from the other images.
        slide_steps: of IG, and ig_steps: what a reader may slide over, for the first picture of each net.
        slide_factors: of contrast, as in the contrast study.
    """

    images: int
    shown: int
    candidates: int = 20
    ig_steps: int = 128
    eg_samples: int = 32
    slide_steps: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    slide_factors: tuple[float, ...] = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


@dataclass(frozen=True)
class Candidates:
    """How many of the first test images are classified, to choose the first picture."""

    images: int


@dataclass(frozen=True)
class Predictions:
    """The class that the net predicts for each candidate."""

    classes: list[int]


@dataclass(frozen=True)
class Slides:
    """Of the first picture: maps (positions, H, W) over IG's steps and over contrast.

    Attributes:
        counts, factors: the positions.
        distances: relative L1 of each map over steps to the last.
        predicted, chance: the class that the net predicts at each contrast, and the true class's probability.
    """

    counts: list[int]
    steps: Tensor
    distances: list[float]
    factors: list[float]
    contrast: Tensor
    predicted: list[int]
    chance: list[float]


@dataclass(frozen=True)
class Measurement:
    """Of one net.

    Attributes:
        pixels: of the images shown, (N, 3, H, W) uint8; ``targets`` and ``predicted`` are their classes.
        maps: method -> sum over channels, divided by its largest magnitude, (N, H, W) float16: plenty for a picture.
        distance: relative L1 of Input x Gradient to IG, for each image.
        first: what is shown of the first picture only.
    """

    pixels: Tensor
    targets: list[int]
    predicted: list[int]
    maps: dict[str, Tensor]
    distance: list[float]
    first: Slides


PROTOCOLS = {
    "smoke": {
        "smoke-digits/alexnet": Protocol(images=5, shown=2, ig_steps=8, eg_samples=2, slide_steps=(1, 4)),
        "smoke-package": Protocol(images=1, shown=1, ig_steps=8, eg_samples=2, slide_steps=(1, 4)),
    },
    "embedded": {
        "digits-on-photos/alexnet": Protocol(images=16, shown=3),
        "open-photographs": Protocol(images=1, shown=1),
    },
    "subset": {
        "imagenet-sample-released/alexnet": Protocol(images=16, shown=4),
        "imagenet-sample-package": Protocol(images=8, shown=4),
    },
}
SAME = 0.01  # relative L1 below which two maps are one picture

Results = Sequence[Result[Net, Measurement]]


def tasks(context: Context, protocols: Mapping[str, Protocol]) -> list[Task[Net, Measurement]]:
    """Each net's maps need what the net and its variants predict: all of them show the same pictures."""
    numbers = {selector: Candidates(max(p.candidates, p.images)) for selector, p in protocols.items()}
    classified: dict[Net, list[Task[Net, Predictions]]] = {}
    for net, candidates in context.nets(numbers):
        task = net_task(context, "gallery candidates", net, candidates, predict, Predictions, seconds=2)
        classified.setdefault(replace(net, variant=""), []).append(task)
    return [
        net_task(
            context,
            "gallery",
            net,
            protocol,
            measure,
            Measurement,
            seconds=10,
            needs=tuple(classified[replace(net, variant="")]),
        )
        for net, protocol in context.nets(protocols)
    ]


@torch.no_grad()
def predict(
    model: nn.Module, images: Images, protocol: Candidates, experiment: Experiment[Net, Candidates]
) -> Predictions:
    """One image at a time: photographs at 224 px."""
    classes = [int(model(inputs).argmax()) for inputs, _ in images.batches(1, experiment.device)]
    return Predictions(classes)


def measure(
    model: nn.Module,
    images: Images,
    protocol: Protocol,
    experiment: Experiment[Net, Protocol],
    *classified: Predictions,
) -> Measurement:
    """One image at a time, since EG's references are its companions; where it has none, the next image."""
    device, label = experiment.device, experiment.about.label
    test, count = test_images(experiment), len(classified[0].classes)
    order = right_first(test.targets[:count].tolist(), [found.classes for found in classified])
    used = torch.tensor(order[: len(images)])
    inputs, targets = test.inputs(used).to(device), test.targets[used].to(device)
    pool = test.inputs(torch.tensor([*order, count][: max(2, len(images))])).to(device)
    shown = min(protocol.shown, len(images))
    ig = f"integrated_gradients_{protocol.ig_steps}"
    maps: dict[str, list[Tensor]] = {}
    for i in range(len(images)):
        methods: dict[str, Callable[..., Tensor]] = {
            ig: partial(integrated_gradients, steps=protocol.ig_steps),
            "input_x_gradient": input_x_gradient,
        }
        if i < shown:
            others, draws = torch.cat([pool[:i], pool[i + 1 :]]), experiment.generator("gallery", label, i)
            eg = partial(expected_gradients, references=others, generator=draws, samples=protocol.eg_samples)
            methods |= {f"expected_gradients_{protocol.eg_samples}": eg, "gradient": gradient}
        for name, method in methods.items():
            maps.setdefault(name, []).append(method(model, inputs[i : i + 1], targets[i : i + 1])[0].cpu())
        experiment.progress((i + 1) / len(images))
    full = {name: torch.stack(tensors) for name, tensors in maps.items()}
    return Measurement(
        test.pixels[used[:shown]],
        targets[:shown].tolist(),
        [prediction(model, inputs[i : i + 1]) for i in range(shown)],
        {name: drawn(tensor[:shown]) for name, tensor in full.items()},
        relative_l1(full[ig], full["input_x_gradient"]).tolist(),
        slides_of(model, inputs[:1], targets[:1], full[ig][:1], protocol),
    )


def right_first(targets: Sequence[int], classified: Sequence[Sequence[int]]) -> list[int]:
    """Images in order, but the first that every net classifies rightly before all others; as they are where there is none."""
    right = (i for i, target in enumerate(targets) if all(classes[i] == target for classes in classified))
    first = next(right, 0)
    return [first, *(i for i in range(len(targets)) if i != first)]


@torch.no_grad()
def prediction(model: nn.Module, x: Tensor) -> int:
    return int(model(x).argmax())


def drawn(maps: Tensor) -> Tensor:
    """Maps (N, C, H, W) as they are kept for the picture."""
    summed = maps.sum(1)
    return summed.half() / summed.abs().amax((1, 2), keepdim=True).half()


def slides_of(model: nn.Module, x: Tensor, target: Tensor, ig: Tensor, protocol: Protocol) -> Slides:
    """The first picture's IG maps over steps, its Input x Gradient maps and predictions over contrast factors."""
    steps = [integrated_gradients(model, x, target, steps=count).cpu() for count in protocol.slide_steps]
    with torch.no_grad():
        chances = [model(factor * x).softmax(1)[0].cpu() for factor in protocol.slide_factors]
    contrast = [input_x_gradient(model, factor * x, target).cpu() for factor in protocol.slide_factors]
    return Slides(
        [*protocol.slide_steps, protocol.ig_steps],
        torch.cat([*steps, ig]).sum(1),
        [relative_l1(ig, heat).item() for heat in steps] + [0.0],
        list(protocol.slide_factors),
        torch.cat(contrast).sum(1),
        [int(p.argmax()) for p in chances],
        [float(p[target].item()) for p in chances],
    )


# --- rows, table, figure ---


def rows(results: Results) -> pd.DataFrame:
    about = {"metric": "distance", "unit": "", "better": "lower"}
    return pd.DataFrame(
        ids | about | mean_interval([result.value.distance for result in group]).columns()
        for ids, group in by_training(results)
    )


def table(rows: pd.DataFrame) -> Table:
    heading = f"relative L1 of Input x Gradient to {IG.label}"
    return wide(rows, ["dataset", "model", "width", "weights", "variant"], {"distance": heading})


def pairs(results: Results) -> list[list[tuple[Net, Measurement]]]:
    """The nets of each architecture together, the regular one first; of several trainings the first. Large pictures come first."""
    found: dict[Net, list[tuple[Net, Measurement]]] = {}
    for _, group in by_training(results):
        net = group[0].about
        found.setdefault(replace(net, variant=""), []).append((net, group[0].value))
    return sorted(found.values(), key=lambda pair: -pair[0][1].pixels.shape[-1])


def figure(rows: pd.DataFrame, results: Results) -> Figure:
    """Pictures and their attribution maps, a column for each method; the maps of the regular net above those of its variants."""
    lines = [(net, value, i) for pair in pairs(results) for i in range(len(pair[0][1].targets)) for net, value in pair]
    methods = list(lines[0][1].maps)
    fig, axes = figures.subplots(len(lines), 1 + len(methods), height=1.45 * len(lines))
    grid = axes.reshape(len(lines), -1)
    for line, (net, value, i) in zip(grid, lines, strict=True):
        line[0].imshow(value.pixels[i].permute(1, 2, 0).numpy())
        line[0].set_ylabel(f"{style.model(net.model).label}\n{style.variant(net.variant).label}", fontsize=7)
        said = f"class {value.targets[i]}, predicted {value.predicted[i]}"
        line[0].set_xlabel(f"{style.dataset(net.dataset).label}\n{said}", fontsize=6)
        for ax, name in zip(line[1:], methods, strict=True):
            ax.imshow(figures.heatmap(value.maps[name][i].float().numpy()[None]), cmap="RdBu_r", vmin=-1, vmax=1)
        for ax in line:
            ax.set(xticks=[], yticks=[])
            ax.grid(visible=False)
    for ax, title in zip(grid[0], ("picture", *(style.method(name).label for name in methods)), strict=True):
        ax.set_title(title)
    return fig


# --- slides ---


def slides(results: Results) -> list[dict[str, Any]]:
    """Two sliders for each pair of nets: IG over steps, Input x Gradient over contrast; each map on its own scale."""
    out = []
    for pair in pairs(results):
        net, value = pair[0]
        label, counts, factors = style.model(net.model).label, value.first.counts, value.first.factors
        over_steps, over_factors = [picture(value, [1.0] * len(counts))], [picture(value, factors)]
        for other, measured in pair:
            name, made = style.variant(other.variant).label, measured.first
            distances = [f"{100 * distance:.2g} % from {counts[-1]} steps" for distance in made.distances]
            predictions = [
                f"predicts class {predicted}; the true class has {100 * chance:.0f} %"
                for predicted, chance in zip(made.predicted, made.chance, strict=True)
            ]
            over_steps.append({"name": name, "image": strip(made.steps), "captions": distances})
            over_factors.append({"name": name, "image": strip(made.contrast), "captions": predictions})
        for title, of, positions, shown in (
            (f"Integrated Gradients on {label}", "steps", counts, over_steps),
            (f"Input x Gradient on {label}", "contrast factor", factors, over_factors),
        ):
            out.append({"title": title, "label": of, "positions": [*map(str, positions)], "rows": shown})
    return out


def picture(value: Measurement, factors: Sequence[float]) -> dict[str, Any]:
    """The first picture at each contrast: drawn towards its own mean colour, for the eye only."""
    pixels = value.pixels[0].permute(1, 2, 0).float().numpy()
    mean = pixels.mean((0, 1))
    frames = np.stack([mean + factor * (pixels - mean) for factor in factors]).astype(np.uint8)
    return {
        "name": "picture",
        "image": figures.sprite(frames),
        "captions": [f"class {value.targets[0]}"] * len(factors),
    }


def strip(maps: Tensor) -> str:
    return figures.sprite(np.stack([figures.heatmap(heat[None]) for heat in maps.float().numpy()]))


# --- claims ---


def homogeneous_nets(rows: pd.DataFrame) -> pd.DataFrame:
    return select(rows[rows["variant"] != "regular"], metric="distance")


def regular_nets(rows: pd.DataFrame) -> pd.DataFrame:
    """Those that enough images were compared on for an interval."""
    return select(rows[rows["n"] >= FEWEST], variant="regular", metric="distance")


IG, EG = (
    style.method(n) for n in (f"integrated_gradients_{Protocol.ig_steps}", f"expected_gradients_{Protocol.eg_samples}")
)
STUDY = Study(
    order=1,
    title="Attribution maps side by side",
    question="Does one see that Input x Gradient is Integrated Gradients on a homogeneous net and not on a regular one?",
    source="X-DNN, qualitative figure",
    method=(
        f"{IG.label} with zero baseline, Input x Gradient (on a homogeneous net: X-Gradient), {EG.label} with the other "
        "pictures as references, and the gradient; logit of the true class, summed over channels. Each map is scaled by the "
        "99th percentile of its absolute values; red speaks for the class, blue against it. The first picture is the first "
        "test image that the net and its variant both classify rightly; the others are the first of the test images."
    ),
    differs=(
        "Other pictures and nets than the paper's. Nets that came with their weights are made homogeneous afterwards: by "
        "HomogeneousWrapper, or by removing their biases and fine-tuning the rest, as study conversion does."
    ),
    protocols=PROTOCOLS,
    tasks=tasks,
    rows=rows,
    table=table,
    figure=figure,
    slides=slides,
    claims=(
        Claim(
            id="same-picture",
            text=f"On a homogeneous net IG and Input x Gradient are the same picture: relative L1 at most {100 * SAME:g} %",
            kind=Kind.THEOREM,
            source="X-DNN, qualitative figure",
            reported="",
            metric="distance",
            criterion=at_most(SAME),
            evidence=homogeneous_nets,
            n_chosen="one image decides: the two differ by rounding",
        ),
        Claim(
            id="two-pictures",
            text=f"On a regular net IG and Input x Gradient are two pictures: relative L1 at least {1000 * SAME:g} %",
            kind=Kind.EMPIRICAL,
            source="X-DNN, qualitative figure",
            reported="",
            metric="distance",
            criterion=at_least(10 * SAME),
            evidence=regular_nets,
            n_chosen="enough for an interval; table2 measures the same on more",
        ),
    ),
)
