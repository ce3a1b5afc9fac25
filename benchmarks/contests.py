"""What is timed against what. Each contest names its rival in the same run, counts its passes and checks its result."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import captum.attr
import torch
from torch import Tensor, nn

from reproduce.attributions import expected_gradients, gradient, integrated_gradients, x_gradient
from reproduce.datasets import digits_on_photos
from reproduce.metrics.agreement import relative_l1
from reproduce.metrics.masks import mask_curves
from reproduce.models import build
from reproduce.xdnn import to_x_variant

SIZE = {"classes": 10, "width": 0.25, "image_px": 64}  # the embedded AlexNet
BATCH, STEPS = 8, 16
EQUAL = 1e-3  # relative L1 within which two float32 results are the same


@dataclass(frozen=True)
class Contest:
    """One ratio of the gate.

    run:     what is judged.
    rival:   what its time is divided by: the bound, a slow twin, or another library.
    check:   raises AssertionError where run's result is wrong; a time of a wrong result is not reported.
    model:   whose passes are counted, or None.
    """

    name: str
    run: Callable[[], object]
    rival: Callable[[], object]
    check: Callable[[], None]
    model: nn.Module | None = None


def contests() -> list[Contest]:
    """All contests on one small net, its X-variant and 16 images."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build("alexnet", "regular", **SIZE).eval().to(memory_format=torch.channels_last)
        x_net = build("alexnet", "x", **SIZE).eval().to(memory_format=torch.channels_last)
        inputs = torch.randn(BATCH, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    targets = torch.arange(BATCH) % 10

    def bare(passes: int) -> None:
        """``passes`` gradients of ready batches: the bound."""
        for _ in range(passes):
            gradient(net, inputs, targets)

    def draws() -> dict[str, object]:
        return {"references": inputs.flip(0), "generator": torch.Generator().manual_seed(0), "samples": STEPS}

    ig = partial(integrated_gradients, net, inputs, targets, steps=STEPS)
    peer = captum.attr.IntegratedGradients(net)
    captums = partial(
        peer.attribute, inputs, torch.zeros_like(inputs), target=targets, n_steps=STEPS, method="gausslegendre"
    )
    attributions = ig()
    with torch.no_grad():
        curves = partial(mask_curves, net, inputs, targets, attributions)

    def same(ours: Callable[[], Tensor], theirs: Callable[[], Tensor]) -> None:
        distance = relative_l1(theirs(), ours()).max().item()
        assert distance <= EQUAL, f"relative L1 {distance:.2g}"

    def converted() -> None:
        assert not any("bias" in name for name in to_x_variant(net).state_dict())

    def composed() -> None:
        made = compose()
        assert made["images"].shape == (1_000, 3, 64, 64)
        assert made["masks"].any()

    def compose() -> dict[str, Tensor]:
        return digits_on_photos.compose("test", 1_000, torch.Generator().manual_seed(0))

    def forwards() -> None:
        with torch.no_grad():
            for _ in range(96):
                net(inputs)

    return [
        Contest("x_gradient / gradient", partial(x_gradient, x_net, inputs, targets), partial(gradient, x_net, inputs, targets),
                lambda: same(partial(x_gradient, x_net, inputs, targets), partial(integrated_gradients, x_net, inputs, targets, steps=3)),
                x_net),
        Contest(f"integrated_gradients / {STEPS} gradients", ig, partial(bare, STEPS), lambda: same(ig, captums), net),
        Contest("integrated_gradients / captum", ig, captums, lambda: same(ig, captums), net),
        Contest(f"expected_gradients / {STEPS} gradients",
                lambda: expected_gradients(net, inputs, targets, **draws()), partial(bare, STEPS),
                lambda: same(lambda: expected_gradients(net, inputs, targets, **draws()),
                             lambda: expected_gradients(net, inputs, targets, chunk=5, **draws())), net),
        Contest("mask_curves / 96 forward passes", curves, forwards,
                lambda: same(lambda: curves().flatten(1), lambda: mask_curves(net, inputs, targets, attributions, chunk=7).flatten(1)), net),
        Contest("compose 1,000 images / 96 forward passes", compose, forwards, composed),
        Contest("to_x_variant / 96 forward passes", partial(to_x_variant, net), forwards, converted),
    ]  # fmt: skip
