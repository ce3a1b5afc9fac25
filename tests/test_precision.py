"""Attributions in bf16: close to float32's, and not equal."""

import pytest
import torch
from torch import nn

from xdnn import expected_gradients, integrated_gradients
from xdnn.metrics.agreement import relative_l1


def test_bf16_is_close_and_not_equal_and_another_precision_is_named():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 5, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4)
    ).eval()
    x, targets = torch.randn(3, 3, 33, 37), torch.tensor([0, 1, 2])
    exact, rounded = (integrated_gradients(net, x, targets, steps=4, precision=p) for p in ("float32", "bf16"))
    assert rounded.dtype == torch.float32 and not torch.equal(exact, rounded)
    assert relative_l1(exact, rounded).max() < 0.1
    draws = [
        expected_gradients(
            net, x, targets, references=x.flip(0), generator=torch.Generator().manual_seed(1), precision=p
        )
        for p in ("float32", "bf16")
    ]
    assert 0 < relative_l1(*draws).max() < 0.1
    with pytest.raises(ValueError, match="unknown precision 'fp8'; there are: float32, bf16"):
        integrated_gradients(net, x, targets, precision="fp8")
