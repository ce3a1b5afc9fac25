"""Nets that the proof accepts, and those that it refuses by name; test_proof_rules goes through its tables."""

from collections.abc import Callable

import pytest
import torch
from conftest import generator, small_cnn
from torch import Tensor, nn
from torch.nn import functional as F

from xdnn import HomogeneousWrapper, NotHomogeneousError, check_homogeneous, is_homogeneous, to_x_variant
from xdnn.homogeneity.proof import what_breaks_homogeneity

# --- refusals name the path and the type ---


class Calls(nn.Module):
    """A net whose forward is the given function of itself and its input."""

    def __init__(self, forward: Callable[..., Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.shift = nn.Parameter(torch.ones(1))
        self._forward = forward

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self, x)


class Shifted(nn.Conv2d):
    """Calls itself a convolution, and is none."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1


def changed(layer: nn.Module) -> nn.Module:
    layer.forward = lambda x: x + 1
    return layer


REFUSED = {
    "a GELU layer": (nn.Sequential(nn.Linear(4, 4), nn.GELU()), r"1: GELU is not positively homogeneous"),
    "a nested sigmoid": (nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.Sigmoid())), r"0\.1: Sigmoid"),
    "softmax inside": (nn.Sequential(nn.Linear(4, 4), nn.Softmax(1)), r"1: Softmax"),
    "LayerNorm": (nn.Sequential(nn.LayerNorm(4)), r"0: LayerNorm .*divides by a statistic"),
    "ReLU6": (nn.Sequential(nn.ReLU6()), r"ReLU6 .*replace it by ReLU"),
    "a net that is one layer": (nn.Sigmoid(), r"the net: Sigmoid is not"),
    "a layer of its own kind": (nn.Sequential(Shifted(3, 4, 3)), r"in add, other is 1, which is not 0"),
    "a layer with another forward": (nn.Sequential(changed(nn.ReLU())), r"0: the forward of ReLU has been replaced"),
    "a pooling layer's indices": (nn.Sequential(nn.MaxPool2d(2, return_indices=True)), r"0: MaxPool2d returns indices"),
    "a functional GELU": (Calls(lambda self, x: F.gelu(self.conv(x))), r"function gelu is not known"),
    "an added number": (Calls(lambda self, x: self.conv(x) + 1), r"in add, other is 1, which is not 0"),
    "an added parameter": (Calls(lambda self, x: self.conv(x) + self.shift), r"in add, other is shift, which"),
    "a product of signals": (Calls(lambda self, x: x * x), r"in mul, other depends on the input \(x\)"),
    "a division by a signal": (Calls(lambda self, x: x / x.sum()), r"in truediv, other depends on the input"),
    "a number divided by a signal": (
        Calls(lambda self, x: 1 / x),
        r"in truediv, input is 1, which does not|reciprocal",
    ),
    "a rounded division": (Calls(lambda self, x: torch.div(x, 2, rounding_mode="floor")), r"rounding_mode is 'floor'"),
    "a conversion to integers": (Calls(lambda self, x: x.to(torch.int64)), r"forward: to rounds to torch.int64"),
    "a functional bias": (
        Calls(lambda self, x: F.conv2d(x, self.conv.weight, self.shift.expand(4))),
        r"in conv2d, bias is expand, where there must be none",
    ),
    "weights from the input": (Calls(lambda self, x: F.conv2d(x, x[:1])), r"in conv2d, weight depends on the input"),
    "a linear layer of the input": (Calls(lambda self, x: F.linear(x, x[0, 0])), r"in linear, weight depends"),
    "a constant beside a signal": (
        Calls(lambda self, x: torch.cat([x, self.shift.expand(1, 3, 4, 4)], 1)),
        r"in cat, tensors is expand, which does not scale",
    ),
    "a constant on a signal": (
        Calls(lambda self, x: torch.stack([x, self.conv.weight])),
        r"in stack, tensors is conv.weight",
    ),
    "padding with ones": (
        Calls(lambda self, x: F.pad(x, (1, 1), value=1.0)),
        r"in pad, value is 1.0, where there must be",
    ),
    "a comparison with a number": (Calls(lambda self, x: x * (x > 3)), r"in gt, other is 3, which is not 0"),
    "dropout that always draws": (Calls(lambda self, x: F.dropout(x)), r"in dropout, training is True"),
    "a constant changed in place": (
        Calls(lambda self, x: self.shift.clone().mul_(x)),
        r"mul_ changes a constant in place",
    ),
    "a result put into a constant": (
        Calls(lambda self, x: torch.add(x, x, out=self.shift)),
        r"in add, out is shift, where there must be none",
    ),
    "an attribute": (Calls(lambda self, x: x.grad), r"attribute grad is not known"),
    "a constant output": (Calls(lambda self, x: self.shift), r"the output is shift, which does not scale"),
    "a number as output": (Calls(lambda self, x: 3.0), r"the output is 3.0, which does not scale"),
    "control flow": (Calls(lambda self, x: x if x.sum() > 0 else -x), r"Calls cannot be traced"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_by_name(what):
    model, message = REFUSED[what]
    with pytest.raises(NotHomogeneousError, match=message):
        check_homogeneous(to_x_variant(model))


ACCEPTED = {
    "scaling by a parameter": lambda self, x: self.conv(x) * self.shift,
    "division by a number": lambda self, x: self.conv(x) / 3,
    "concatenation": lambda self, x: torch.cat([x, 2 * x], 1).flatten(1),
    "residual sum": lambda self, x: x + F.relu(x),
    "method calls": lambda self, x: self.conv(x).relu().mean((2, 3)).view(x.size(0), -1),
    "zero padding": lambda self, x: F.pad(x, (1, 1)),
    "a sum that begins with zero": lambda self, x: sum([x, -0.5 * x, 3 * x]),
    "a mask of the signs": lambda self, x: x * (x > 0) + torch.where(x < 0, 0.1 * x, 0),
    "dropout in training only": lambda self, x: F.dropout(x, 0.5, self.training),
    "sizes of the input": lambda self, x: x.view(x.shape[0], -1) / x.shape[1],
}


@pytest.mark.parametrize("what", ACCEPTED)
def test_accepted_functional_calls_are_homogeneous(what):
    model = to_x_variant(Calls(ACCEPTED[what]))
    assert model.training, "the proof leaves the net in its mode"
    images = torch.randn(2, 3, 8, 8, generator=generator())
    assert is_homogeneous(nn.Sequential(model, nn.Flatten()), images)


def test_the_wrapper_is_homogeneous_by_construction_whatever_is_inside():
    check_homogeneous(HomogeneousWrapper(nn.Sequential(nn.Linear(4, 3), nn.Sigmoid()), radius=1.0))
    check_homogeneous(nn.Sequential(HomogeneousWrapper(nn.Linear(4, 3), radius=1.0), nn.Linear(3, 2, bias=False)))


def test_what_was_proved_is_kept_until_a_layer_changes():
    net = to_x_variant(small_cnn())
    assert what_breaks_homogeneity(net) == ""
    net[0].bias = nn.Parameter(torch.ones(8))
    assert what_breaks_homogeneity(net) == "0: Conv2d has a bias"
    net[0].bias = None
    net[1] = nn.GELU()
    assert what_breaks_homogeneity(net).startswith("1: GELU")
