"""DeepLIFT: equal to captum's, and refused where captum's is wrong."""

import sys

import captum.attr
import pytest
import torch
from torch import nn

from xdnn import NotSupportedError, deeplift
from xdnn.logits import target_logits

close = torch.testing.assert_close


def test_deeplift_agrees_with_captum(net, batch):
    inputs, targets = batch
    ours = deeplift(net, inputs, targets, baseline=0.2)
    with pytest.warns(UserWarning, match="hooks"):
        close(
            ours,
            captum.attr.DeepLift(net).attribute(inputs.requires_grad_(), torch.full_like(inputs, 0.2), target=targets),
        )


def test_deeplift_without_max_pooling_sums_to_the_change(batch):
    inputs, targets = batch
    smooth = nn.Sequential(nn.Flatten(), nn.Linear(768, 8), nn.ReLU(), nn.Linear(8, 5)).double()
    change = target_logits(smooth, inputs, targets) - target_logits(smooth, torch.zeros_like(inputs), targets)
    close(deeplift(smooth, inputs, targets).flatten(1).sum(1), change)


class Twice(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.a, self.b, self.act = nn.Linear(768, 8).double(), nn.Linear(8, 5).double(), act

    def forward(self, x):
        return self.b(self.act(self.act(self.a(x.flatten(1))) - 0.1))


class Functional(nn.Module):
    """Calls a function of its first five numbers."""

    def __init__(self, function):
        super().__init__()
        self.function, self.scale = function, nn.Parameter(torch.full((5,), 2.0, dtype=torch.float64))

    def forward(self, x):
        return self.function(x.flatten(1)[:, :5], self.scale)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (Twice(nn.ReLU(inplace=True)), "act: ReLU works in place"),
        (Twice(nn.ReLU()), "act: ReLU runs 2 times in a pass"),
        (Twice(nn.ReLU6()), "act: captum's DeepLIFT has no rule for ReLU6"),
        (Functional(lambda x, _: torch.relu(x)), "forward calls relu: captum's DeepLIFT sees modules only"),
        (Functional(lambda x, _: x * x), r"forward multiplies two signals \(mul\)"),
        (Functional(lambda x, _: x.mul(2 * x)), r"forward multiplies two signals \(mul\)"),
        (Functional(lambda x, _: x / (x + 9)), r"forward divides by a signal \(truediv\)"),
        (Functional(lambda x, scale: scale / x), r"forward divides by a signal \(truediv\)"),
    ],
)
def test_deeplift_refuses_what_captum_gets_wrong(batch, bad, why):
    with pytest.raises(NotSupportedError, match=why):
        deeplift(bad, *batch)


@pytest.mark.parametrize(
    "function", [lambda x, scale: x * scale, lambda x, scale: 3 * x / scale, lambda x, _: x / x.size(1)]
)
def test_products_with_what_does_not_depend_on_the_input_are_affine(batch, function):
    inputs, targets = batch
    net = Functional(function)
    change = target_logits(net, inputs, targets) - target_logits(net, torch.zeros_like(inputs), targets)
    close(deeplift(net, inputs, targets).flatten(1).sum(1), change)


def test_without_captum_the_error_says_what_to_install(net, batch, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(
        ImportError, match="deeplift runs captum's implementation, which is not installed: pip install captum"
    ):
        deeplift(net, *batch)
