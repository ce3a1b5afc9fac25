"""Make the pictures of README and these pages from a real net and a real photograph: python -m docs.make_pictures

SqueezeNet 1.1 with ImageNet weights explains the first photograph of data/open-photographs, as it was trained and with
its biases removed. Takes about a minute on one core. Each function below is a picture; its name is the file's.
"""

from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from reproduce.datasets.open_photographs import open_photographs
from reproduce.models import PREPROCESSING, build
from reproduce.report import figures, style
from xdnn import gradient, input_x_gradient, integrated_gradients, wrapped_x_gradient, x_gradient
from xdnn.logits import target_logits
from xdnn.metrics.agreement import relative_l1

FOLDER = Path(__file__).parent / "images"
STEPS = 128
POOLED = 3  # pixels along each side of the squares whose attributions are added up and drawn as one
DPI = 200
VARIANTS = ("regular", "converted")

Nets = dict[str, nn.Module]


def maps(pixels: Tensor, inputs: Tensor, targets: Tensor, nets: Nets) -> Figure:
    """Above: on the net as it was trained, 128 passes and one give two maps. Below: without biases they give the same."""
    fig, _ = figures.subplots(1, 1, height=3.7)
    fig.clear()
    axes = fig.subplot_mosaic(
        [["photograph", "0 many", "0 one", "0 apart"], ["photograph", "1 many", "1 one", "1 apart"]]
    )
    draw(axes["photograph"], pixels, "photograph")
    nets_and_methods = (("regular", "Input x Gradient", input_x_gradient), ("converted", "X-Gradient", x_gradient))
    for line, (variant, name, method) in enumerate(nets_and_methods):
        many, one = (
            integrated_gradients(nets[variant], inputs, targets, steps=STEPS),
            method(nets[variant], inputs, targets),
        )
        unit = scale(many)
        draw_map(axes[f"{line} many"], many, unit, f"Integrated Gradients\n{STEPS} passes")
        draw_map(axes[f"{line} one"], one, unit, f"{name}\none pass")
        draw_map(axes[f"{line} apart"], many - one, unit, f"their difference\n{percent(relative_l1(many, one))}")
        axes[f"{line} many"].set_ylabel({"regular": "the net as trained", "converted": "its biases removed"}[variant])
    return fig


def line(pixels: Tensor, inputs: Tensor, targets: Tensor, nets: Nets) -> Figure:
    """What Integrated Gradients adds up on its way from the mean colour to the photograph: without biases, a constant."""
    shares = torch.linspace(0.01, 1, 100)
    fig, axes = figures.subplots(1, 2, height=2.3)
    for variant in VARIANTS:
        points = shares.view(-1, 1, 1, 1) * inputs
        found = [along(nets[variant], part, inputs, targets) for part in points.split(20)]
        logits, slopes = (torch.cat(parts) for parts in zip(*found, strict=True))
        look = figures.variant_line(variant) | {"label": style.variant(variant).label}
        axes[0].plot(shares, logits, **look)
        axes[1].plot(shares, slopes, **look)
    axes[0].set(title="F(a x), the logit", xlabel="a: from 0, the mean colour, to 1, the photograph", ylim=(0, None))
    axes[1].set(title="its slope: x times gradient at a x, summed", xlabel="a", ylim=(0, None))
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def along(net: nn.Module, points: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Logit, and sum_i x_i dF/dx_i, at each of the points a x."""
    classes = targets.expand(len(points))
    with torch.no_grad():
        logits = target_logits(net, points, classes)
    return logits, (inputs * gradient(net, points, classes)).flatten(1).sum(1)


def cost(pixels: Tensor, inputs: Tensor, targets: Tensor, nets: Nets) -> Figure:
    """Maps of the net as it was trained, from one pass to 128, and how far each is from the last."""
    net = nets["regular"]
    reference = integrated_gradients(net, inputs, targets, steps=STEPS)
    found = {
        "Input x Gradient\n1 pass": input_x_gradient(net, inputs, targets),
        "X-Gradient, own radius\n1 pass": wrapped_x_gradient(net, inputs, targets),
        "IG (4)\n4 passes": integrated_gradients(net, inputs, targets, steps=4),
        "IG (16)\n16 passes": integrated_gradients(net, inputs, targets, steps=16),
        f"IG ({STEPS})\n{STEPS} passes": reference,
    }
    fig, axes = figures.subplots(1, len(found), height=1.9)
    for ax, (title, attribution) in zip(axes, found.items(), strict=True):
        draw_map(ax, attribution, scale(reference), title)
        ax.set_xlabel(f"differs by {percent(relative_l1(reference, attribution))}")
    axes[-1].set_xlabel("")
    return fig


# --- drawing ---


def pooled(attribution: Tensor) -> Tensor:
    """Attributions (1, 3, H, W) added up over colours and squares of POOLED pixels."""
    return nn.functional.avg_pool2d(attribution.sum(1), POOLED)[0] * POOLED**2


def scale(attribution: Tensor) -> float:
    """The largest absolute value that is drawn, but for the top hundredth."""
    return float(pooled(attribution).abs().quantile(0.99))


def percent(share: Tensor) -> str:
    return f"{100 * float(share):.2g} %"


def draw(ax: Axes, picture: Tensor, title: str, **look: Any) -> None:
    ax.imshow(picture.numpy(), **look)
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=8)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)


def draw_map(ax: Axes, attribution: Tensor, unit: float, title: str) -> None:
    """Red speaks for the class, blue against it; ``unit`` is full colour."""
    draw(ax, pooled(attribution), title, cmap="RdBu_r", vmin=-unit, vmax=unit)


def main(folder: Path = FOLDER) -> None:
    images = open_photographs().preprocessed(**PREPROCESSING["squeezenet"]).first(1)
    pixels = images.pixels[slice(0, 1)][0].permute(1, 2, 0)
    nets = {variant: build("squeezenet", variant, image_px=227).eval() for variant in VARIANTS}
    folder.mkdir(exist_ok=True)
    for picture in (maps, line, cost):
        fig = picture(pixels, images.inputs(), images.targets, nets)
        fig.savefig(folder / f"{picture.__name__}.png", dpi=DPI, metadata={"Software": None})


if __name__ == "__main__":
    main()
