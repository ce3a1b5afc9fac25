"""Benchmark cases: what is timed against what. Each names its reference in the same run, counts its passes and checks its result."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import captum.attr
import torch
from torch import Tensor, nn

from reproduce.datasets import digits_on_photos
from reproduce.models import build
from xdnn import expected_gradients, gradient, integrated_gradients, to_x_variant, x_gradient
from xdnn.metrics.agreement import relative_l1
from xdnn.metrics.masks import mask_curves

SIZE = {"classes": 10, "width": 0.25, "image_px": 64}  # the embedded AlexNet
BATCH, STEPS = 8, 16
EQUAL = 1e-3  # relative L1 within which two float32 results are the same


@dataclass(frozen=True)
class BenchmarkCase:
    """One ratio of the regression check.

    Attributes:
        run: what is timed.
        reference: what its time is divided by: the bare passes, a slow reference implementation, or another library.
        check: raises AssertionError where run's result is wrong; a time of a wrong result is not reported.
        model: whose passes are counted, or None.
    """

    name: str
    run: Callable[[], object]
    reference: Callable[[], object]
    check: Callable[[], None]
    model: nn.Module | None = None


def same(ours: Callable[[], Tensor], theirs: Callable[[], Tensor]) -> None:
    """Raises AssertionError where two results differ by more than EQUAL for any image."""
    distance = relative_l1(theirs().flatten(1), ours().flatten(1)).max().item()
    assert distance <= EQUAL, f"relative L1 {distance:.2g}"


def benchmark_cases() -> list[BenchmarkCase]:
    """All cases on one small net, its X-variant and eight images."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build("alexnet", "regular", **SIZE).eval().to(memory_format=torch.channels_last)
        x_net = build("alexnet", "x", **SIZE).eval().to(memory_format=torch.channels_last)
        inputs = torch.randn(BATCH, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    targets = torch.arange(BATCH) % 10
    return [*_attributions(net, x_net, inputs, targets), *_forward_passes(net, inputs, targets)]


def _attributions(net: nn.Module, x_net: nn.Module, inputs: Tensor, targets: Tensor) -> list[BenchmarkCase]:
    def bare_gradients() -> None:
        for _ in range(STEPS):
            gradient(net, inputs, targets)

    def eg(chunk: int | None = None) -> Tensor:
        draws = torch.Generator().manual_seed(0)
        return expected_gradients(
            net, inputs, targets, references=inputs.flip(0), generator=draws, samples=STEPS, chunk=chunk
        )

    ig = partial(integrated_gradients, net, inputs, targets, steps=STEPS)
    peer = captum.attr.IntegratedGradients(net).attribute
    captums = partial(peer, inputs, torch.zeros_like(inputs), target=targets, n_steps=STEPS, method="gausslegendre")
    one_pass = partial(x_gradient, x_net, inputs, targets)
    three_steps = partial(integrated_gradients, x_net, inputs, targets, steps=3)
    return [
        BenchmarkCase(
            "x_gradient / gradient",
            one_pass,
            partial(gradient, x_net, inputs, targets),
            partial(same, one_pass, three_steps),
            x_net,
        ),
        BenchmarkCase(f"integrated_gradients / {STEPS} gradients", ig, bare_gradients, partial(same, ig, captums), net),
        BenchmarkCase("integrated_gradients / captum", ig, captums, partial(same, ig, captums), net),
        BenchmarkCase(
            f"expected_gradients / {STEPS} gradients", eg, bare_gradients, partial(same, eg, partial(eg, chunk=5)), net
        ),
    ]


def _forward_passes(net: nn.Module, inputs: Tensor, targets: Tensor) -> list[BenchmarkCase]:
    """What is held against 96 forward passes: as many as the mask metrics take an image."""

    def forward_passes() -> None:
        with torch.no_grad():
            for _ in range(96):
                net(inputs)

    def compose() -> digits_on_photos.Composed:
        return digits_on_photos.compose("test", 1_000, torch.Generator().manual_seed(0))

    def is_composed() -> None:
        made = compose()
        assert made.images.shape == (1_000, 3, 64, 64)
        assert made.masks.any()

    def is_converted() -> None:
        assert not any("bias" in name for name in to_x_variant(net).state_dict())

    attributions = integrated_gradients(net, inputs, targets, steps=STEPS)
    curves = partial(mask_curves, net, inputs, targets, attributions)
    return [
        BenchmarkCase(
            "mask_curves / 96 forward passes",
            curves,
            forward_passes,
            partial(same, curves, partial(curves, chunk=7)),
            net,
        ),
        BenchmarkCase("compose 1,000 images / 96 forward passes", compose, forward_passes, is_composed),
        BenchmarkCase("to_x_variant / 96 forward passes", partial(to_x_variant, net), forward_passes, is_converted),
    ]
