"""Strided convolutions with a faster input gradient: the same output and gradient, and nothing left behind."""

import pytest
import torch
from torch import nn

from xdnn import gradient
from xdnn.frozen import first_order
from xdnn.strided_convolution import fast_strided_convolutions


def images(count=2, px=33, channels=3, dtype=torch.float64):
    return torch.randn(count, channels, px, px + 4, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(11, 4, 2), (7, 2, 3), (3, 2, 1), (5, 3, 0), ((3, 6), 2, (0, 2)), (2, 5, 0)]
)
def test_a_fast_convolution_has_the_same_output_and_gradient(kernel, stride, padding, channels):
    torch.manual_seed(0)
    layer = nn.Conv2d(channels, 6, kernel, stride, padding).double()
    results = []
    for fast in (False, True):
        x = images(channels=channels).requires_grad_()
        with fast_strided_convolutions(layer if fast else nn.Identity(), x):
            out = layer(x)
            results.append((out, torch.autograd.grad((out * out.detach().cos()).sum(), x)[0]))
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-12)


def test_only_strided_image_convolutions_are_replaced_and_only_within_the_block():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 8, 3, 2), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3, 2, padding_mode="reflect")
    )
    with pytest.raises(ZeroDivisionError), fast_strided_convolutions(net, torch.zeros(1)):
        assert ["forward" in vars(layer) for layer in net] == [True, False, False, False]
        raise ZeroDivisionError
    assert not any("forward" in vars(layer) for layer in net)


def test_parameters_are_frozen_within_the_block_and_trainable_after_it():
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.Flatten(), nn.Linear(4 * 16 * 18, 3))
    net[0].bias.requires_grad_(False)
    with first_order(net, torch.zeros(1)):
        assert not any(p.requires_grad for p in net.parameters())
    assert [p.requires_grad for p in net.parameters()] == [True, False, True, True]


def test_an_image_of_another_dtype_or_layout_is_fine():
    net = nn.Sequential(nn.Conv2d(3, 4, 7, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    x, target = images(dtype=torch.float32), torch.zeros(2, dtype=torch.long)
    plain = gradient(net, x, target)
    again = gradient(net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last), target)
    torch.testing.assert_close(plain, again, rtol=1e-4, atol=1e-6)
