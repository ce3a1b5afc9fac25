"""At 224 px, on the papers' architectures at full width: IG (128) of one image against captum's, X-Gradient of 16 against its bound.

python -m benchmarks.peers [NET ...]      alexnet vgg16 resnet50 torchvision_resnet50; a quarter of an hour
"""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Annotated

import captum.attr
import torch
import typer
from torch import Tensor, nn

from benchmarks.contests import EQUAL
from reproduce.attributions import integrated_gradients, x_gradient
from reproduce.attributions.engine import keep_freed_memory
from reproduce.metrics.agreement import relative_l1
from reproduce.metrics.timing import clocked
from reproduce.models import build
from reproduce.studies.cost import bare_passes

STEPS, BATCH = 128, 16
# captum's internal_batch_size. Its default, all points at once, needs more than 16 GB for the others.
PEER_BATCH = {"alexnet": None, "vgg16": 32, "resnet50": 32, "torchvision_resnet50": 32}
LAYOUTS = {"as installed": torch.contiguous_format, "channels last": torch.channels_last}


def _net(name: str, variant: str = "regular") -> nn.Module:
    """The net with every parameter off its initial value: a Fixup net starts with a gradient of zero."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        net = build(name, variant).eval()
        for parameter in net.parameters():
            parameter += 0.01 * torch.randn(parameter.shape)
    return net


def contest(name: str, rounds: int) -> dict[str, tuple[float, float]]:
    """Layout of captum's net -> median over rounds of captum's seconds over ours, and the relative L1 between the two."""
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    target = torch.tensor([7])
    laid_out = {
        layout: (_net(name).to(memory_format=order), image.contiguous(memory_format=order))
        for layout, order in LAYOUTS.items()
    }
    sides: dict[str, Callable[[], Tensor]] = {
        "ours": partial(integrated_gradients, *laid_out["channels last"], target, steps=STEPS)
    } | {layout: _captums(*given, target, PEER_BATCH[name]) for layout, given in laid_out.items()}
    times: dict[str, list[float]] = {side: [] for side in sides}
    results: dict[str, Tensor] = {}
    for _ in range(rounds):
        for side, call in sides.items():
            seconds, results[side] = clocked(call)
            times[side].append(seconds)
    return {
        layout: (
            statistics.median(b / a for a, b in zip(times["ours"], times[layout], strict=True)),
            relative_l1(results[layout], results["ours"]).item(),
        )
        for layout in LAYOUTS
    }


def _captums(net: nn.Module, image: Tensor, target: Tensor, batch: int | None) -> Callable[[], Tensor]:
    method = captum.attr.IntegratedGradients(net)
    return lambda: method.attribute(
        image, torch.zeros_like(image), target=target, n_steps=STEPS, method="gausslegendre", internal_batch_size=batch
    )  # fmt: skip


def over_bound(name: str, rounds: int) -> float:
    """Median over rounds of X-Gradient's seconds on one batch over those of as many rows in the batches that suit the net best."""
    net = _net(name, "x").to(memory_format=torch.channels_last)
    images = torch.randn(BATCH, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    images, targets = images.contiguous(memory_format=torch.channels_last), torch.arange(BATCH)
    row_seconds = bare_passes(net, images, targets)
    return statistics.median(
        clocked(lambda: x_gradient(net, images, targets))[0] / (BATCH * row_seconds()) for _ in range(rounds)
    )


def main(
    nets: Annotated[list[str] | None, typer.Argument()] = None,
    rounds: Annotated[int, typer.Option(min=1, help="interleaved; the median of their ratios is printed")] = 3,
) -> None:
    """Times as fast as captum, per net and layout, then times the bound; exit 1 where a result differs."""
    wrong = False
    if unknown := set(nets or ()) - set(PEER_BATCH):
        raise typer.BadParameter(f"unknown net {unknown.pop()!r}; there are: {', '.join(PEER_BATCH)}")
    for name in nets or PEER_BATCH:
        for layout, (ratio, distance) in contest(name, rounds).items():
            wrong |= not distance <= EQUAL
            print(f"{name}, captum {layout}: {ratio:.2f} times as fast, results differ by {distance:.2g}", flush=True)
    keep_freed_memory()  # as the command line does; a batch of 16 cannot be cut into chunks that do without
    for name in nets or PEER_BATCH:
        print(f"{name}, X-Gradient of {BATCH} images: {over_bound(name, rounds):.2f} times its bound", flush=True)
    raise typer.Exit(int(wrong))


if __name__ == "__main__":
    typer.run(main)
