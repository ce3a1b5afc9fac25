"""Infidelity and max-sensitivity: equal to captum's, the reference implementation, and exact cases by hand."""

import captum.metrics
import pytest
import torch
from conftest import generator
from torch import Tensor, nn

from xdnn.attributions import gradient, input_x_gradient, random
from xdnn.metrics.faithfulness import RADIUS, SAMPLES, infidelity, max_sensitivity

close = torch.testing.assert_close
WEIGHTS = torch.randn(3, 12, 10, generator=generator(4), dtype=torch.float64)


class LinearNet(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        total = (x * WEIGHTS).flatten(1).sum(1)
        return torch.stack([total, -total], 1)


def images(count: int = 3) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 3, 12, 10, generator=generator(), dtype=torch.float64), torch.tensor([0, 1, 0][:count])


# --- the reference implementation ---


def captum_infidelity(net: nn.Module, inputs: Tensor, targets: Tensor, attributions: Tensor, seed: int) -> Tensor:
    """captum's, with each image's square set in a loop."""
    draws = generator(seed)

    def remove(points: Tensor) -> tuple[Tensor, Tensor]:
        height, width = points.shape[2:]
        side = round(0.25 * min(height, width))
        square = torch.zeros_like(points)
        for one, down, right in zip(square, *torch.rand(2, len(points), generator=draws).tolist(), strict=True):
            top, left = int(down * (height - side + 1)), int(right * (width - side + 1))
            one[:, top : top + side, left : left + side] = 1
        return square, points * (1 - square)

    return captum.metrics.infidelity(
        net, remove, inputs, attributions, target=targets, n_perturb_samples=SAMPLES, normalize=True
    )


def captum_sensitivity(explain, inputs: Tensor, targets: Tensor, seed: int) -> Tensor:
    draws = generator(seed)

    def shake(points: Tensor) -> Tensor:
        return points + RADIUS * (2 * torch.rand(points.shape, generator=draws, dtype=points.dtype) - 1)

    def explanation(points: Tensor | tuple[Tensor, ...], target: Tensor) -> tuple[Tensor]:
        x = points[0] if isinstance(points, tuple) else points  # captum calls it with either
        repeated = target if len(target) > 1 else target.expand(len(x))  # it does not repeat a single image's target
        return (explain(x, repeated).contiguous(),)

    return captum.metrics.sensitivity_max(explanation, inputs, shake, n_perturb_samples=SAMPLES, target=targets)


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("chunk", [None, 1, 7])
@pytest.mark.parametrize("channels_last", [False, True])
def test_infidelity_is_captums(net, batch, count, chunk, channels_last):
    inputs, targets = (part[:count] for part in batch)
    if channels_last:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    for attributions in (gradient(net, inputs, targets), torch.randn(inputs.shape, generator=generator(5)).double()):
        ours = infidelity(net, inputs, targets, attributions, generator=generator(6), chunk=chunk)
        close(ours, captum_infidelity(net, inputs, targets, attributions, 6))
        assert (ours > 0).all()


def test_an_attribution_of_zero_predicts_no_change_as_captum_has_it(net, batch):
    zero = torch.zeros_like(batch[0])
    ours = infidelity(net, *batch, zero, generator=generator(6))
    close(ours, captum_infidelity(net, *batch, zero, 6))
    assert (ours > 0).all()


@pytest.mark.parametrize("count", [1, 4])
def test_max_sensitivity_is_captums(net, batch, count):
    inputs, targets = (part[:count] for part in batch)

    def explain(x: Tensor, y: Tensor) -> Tensor:
        return input_x_gradient(net, x, y)

    ours = max_sensitivity(explain, inputs, targets, generator=generator(7))
    close(ours, captum_sensitivity(explain, inputs, targets, 7))
    assert (ours > 0).all()


def test_max_sensitivity_where_the_attribution_is_zero_is_captums(batch):
    inputs, targets = batch

    def explain(x: Tensor, y: Tensor) -> Tensor:
        return x - inputs if len(x) == len(inputs) else x

    close(max_sensitivity(explain, *batch, generator=generator(7)), captum_sensitivity(explain, *batch, 7))


# --- by hand ---


def test_input_x_gradient_of_a_linear_net_predicts_every_removal_exactly():
    inputs, targets = images()
    exact = input_x_gradient(LinearNet(), inputs, targets)
    close(infidelity(LinearNet(), inputs, targets, exact, generator=generator()), torch.zeros(3, dtype=torch.float64))
    scaled = infidelity(LinearNet(), inputs, targets, -7 * exact, generator=generator())
    close(scaled, torch.zeros(3, dtype=torch.float64))  # one factor per image is fitted
    noise = random(LinearNet(), inputs, targets, generator=generator(1))
    assert (infidelity(LinearNet(), inputs, targets, noise, generator=generator()) > 0.1).all()


def test_infidelity_sees_only_the_sum_over_channels():
    inputs, targets = images()
    noise = random(LinearNet(), inputs, targets, generator=generator(1))
    whole, mean = (infidelity(LinearNet(), inputs, targets, a, generator=generator()) for a in (noise, noise.mean(1)))
    close(whole, mean)


def test_max_sensitivity_by_hand():
    inputs, targets = images()
    net = LinearNet()
    constant = max_sensitivity(lambda x, y: gradient(net, x, y), inputs, targets, generator=generator())
    close(constant, torch.zeros(3, dtype=torch.float64))
    draws = torch.rand(30, 3, 12, 10, generator=generator(), dtype=torch.float64)  # ten for each image in turn
    noise = 2 * draws - 1
    norm = (RADIUS * noise).flatten(1).norm(dim=1).view(3, 10).amax(1) / inputs.flatten(1).norm(dim=1)
    close(max_sensitivity(lambda x, y: x, inputs, targets, generator=generator()), norm)
    alone = max_sensitivity(lambda x, y: gradient(net, x, y), inputs[:1], targets[:1], generator=generator())
    close(alone, torch.zeros(1, dtype=torch.float64))
    one = input_x_gradient(net, inputs[:1], targets[:1])
    close(infidelity(net, inputs[:1], targets[:1], one, generator=generator()), torch.zeros(1, dtype=torch.float64))
