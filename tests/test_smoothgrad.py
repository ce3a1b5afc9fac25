"""SmoothGrad against a loop, and its noise in pixels and in normalised units."""

import pytest
import torch
from conftest import generator

from xdnn import METHODS, gradient, in_pixels, smoothgrad
from xdnn.attributions.smoothgrad import SIGMA

close = torch.testing.assert_close


def test_smoothgrad_without_noise_is_the_gradient(net, batch):
    close(smoothgrad(net, *batch, generator=generator(), samples=1, sigma=0.0), gradient(net, *batch))


@pytest.mark.parametrize("chunk", [1, 3, 4, 9, 1000])
def test_smoothgrad_equals_a_loop_for_every_chunk(net, batch, chunk):
    inputs, targets = batch
    g, slow = generator(), torch.zeros_like(inputs)
    for _ in range(5):
        slow += gradient(net, inputs + 0.3 * torch.randn(inputs.shape, generator=g, dtype=torch.float64), targets) / 5
    close(smoothgrad(net, inputs, targets, generator=generator(), samples=5, sigma=0.3, chunk=chunk), slow)


def test_the_released_noise_is_in_pixels_and_can_be_had_in_either_unit(net, batch):
    """0.15 of normalised units would be std times less in pixels."""
    pixels = torch.rand(batch[0].shape, generator=generator(7), dtype=torch.float64)
    mean, std = (0.4, 0.5, 0.6), torch.tensor([0.2, 0.25, 0.3], dtype=torch.float64).view(3, 1, 1)
    inputs = (pixels - torch.tensor(mean, dtype=torch.float64).view(3, 1, 1)) / std
    options = {"generator": generator(), "samples": 4}
    released = in_pixels(smoothgrad, mean, std.flatten().tolist())(net, inputs, batch[1], **options)
    slow, draws = torch.zeros_like(inputs), generator()
    for _ in range(4):
        noise = torch.randn(inputs.shape, generator=draws, dtype=torch.float64)
        slow += gradient(net, inputs + 0.15 * noise / std, batch[1]) / 4
    close(released, slow / std)  # per pixel unit
    assert SIGMA == 0.15
    close(smoothgrad(net, inputs, batch[1], generator=generator(), samples=4, sigma=SIGMA / std), slow)


def test_the_noise_of_methods_is_the_released_one_in_pixels(net, batch):
    """METHODS sees normalised inputs: at ImageNet's mean deviation its noise is 0.15 of the pixels' range."""
    inputs, targets = batch
    found = METHODS["smoothgrad"](net, inputs, targets, generator=generator())
    released = in_pixels(smoothgrad, (0.0,) * 3, (0.226,) * 3)
    pixels = torch.rand(inputs.shape, generator=generator(7), dtype=torch.float64)
    ours = METHODS["smoothgrad"](net, pixels / 0.226, targets, generator=generator())
    close(ours / 0.226, released(net, pixels / 0.226, targets, generator=generator()))  # per pixel unit
    assert not torch.equal(found, smoothgrad(net, inputs, targets, generator=generator()))


def test_bad_arguments_are_named(net, batch):
    for options in ({"samples": 0}, {"sigma": -0.1}, {"sigma": torch.tensor([0.1, -0.1, 0.1]).view(3, 1, 1)}):
        with pytest.raises(ValueError, match="samples must be >= 1 and sigma >= 0"):
            smoothgrad(net, *batch, generator=generator(), **options)
