"""FullGrad's decomposition and its map: by hand, by differences, on many nets, and by its definition."""

import pytest
import torch
from conftest import generator
from torch import Tensor, nn

from reproduce.models import build
from xdnn import full_grad, full_gradient, to_x_variant, x_gradient
from xdnn.logits import target_logits

close = torch.testing.assert_close


class Formula(nn.Module):
    def __init__(self, formula):
        super().__init__()
        self.formula = formula

    def forward(self, x: Tensor) -> Tensor:
        return self.formula(x[:, 0], x[:, 1])[:, None]


def test_full_gradient_of_a_line_by_hand():  # ReLU(2x - 1) * 3 + 5 at x = 2: input part 12, biases -3 and 5
    first, second = nn.Linear(1, 1), nn.Linear(1, 1)
    with torch.no_grad():
        for layer, weight, bias in ((first, 2.0, -1.0), (second, 3.0, 5.0)):
            layer.weight.fill_(weight)
            layer.bias.fill_(bias)
    full = full_gradient(nn.Sequential(first, nn.ReLU(), second), torch.tensor([[2.0]]), torch.tensor([0]))
    assert full.input_part.tolist() == [[12.0]]
    assert [part.tolist() for part in full.bias_parts] == [[[-3.0]], [[5.0]]]
    assert full.total().tolist() == [14.0]


def test_constants_in_formulas_are_biases():
    x, target = torch.tensor([[0.5, 0.25]], dtype=torch.float64), torch.tensor([0])
    for formula, biases in (
        (lambda a, b: 1 - torch.relu(1 - a), 0.0),  # = a: the ones cancel
        (lambda a, b: torch.relu(torch.relu(a) + 1 - torch.relu(b)), 1.0),
        (lambda a, b: 2 * (a - 3) + (4 + b), -2.0),
        (lambda a, b: torch.add(a, torch.ones(1, dtype=torch.float64), alpha=5) + b, 5.0),
    ):
        full = full_gradient(Formula(formula), x, target)
        assert full.bias_total().item() == pytest.approx(biases)
        close(full.total(), target_logits(Formula(formula), x, target))


def test_full_gradient_equals_the_slope_along_each_bias(net, batch):
    """Slowly: the derivative of the logit when a convolution's bias grows by the factor 1 + e."""
    inputs, targets = batch
    full = full_gradient(net, inputs, targets)
    layers = [module for module in net if getattr(module, "bias", None) is not None]
    for layer, part in zip(layers, full.bias_parts, strict=True):
        original, slopes = layer.bias.detach().clone(), []
        for factor in (1 + 1e-6, 1 - 1e-6):
            with torch.no_grad():
                layer.bias.copy_(factor * original)
            slopes.append(target_logits(net, inputs, targets))
            with torch.no_grad():
                layer.bias.copy_(original)
        close(part.flatten(1).sum(1), (slopes[0] - slopes[1]) / 2e-6, rtol=1e-5, atol=1e-8)


def wake(net):
    """Untrained Fixup nets have zeros where they start: give every parameter a value."""
    with torch.no_grad():
        for i, parameter in enumerate(net.parameters()):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator(i)))
    return net.double().eval()


def with_batch_norm():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.LazyLinear(5)
        )
        net(torch.randn(8, 3, 64, 64))  # running statistics
    return net.double().eval()


@pytest.mark.parametrize("name", ["alexnet", "vgg11", "resnet18", "resnet50", "batch norm, in-place"])
def test_input_and_biases_together_are_the_logit_and_an_x_net_has_no_bias_part(name):
    inputs, targets = torch.randn(2, 3, 64, 64, generator=generator(), dtype=torch.float64), torch.tensor([1, 4])
    regular = with_batch_norm() if name[0] == "b" else wake(build(name, "regular", classes=5, width=0.125, image_px=64))
    full = full_gradient(regular, inputs, targets)
    close(full.total(), target_logits(regular, inputs, targets))
    assert full.bias_total().abs().min() > 1e-4
    x_net = to_x_variant(regular)
    full = full_gradient(x_net, inputs, targets)
    assert not full.bias_total().any()
    close(full.input_part, x_gradient(x_net, inputs, targets))


def test_full_grad_by_its_definition(net, batch):
    inputs, targets = batch
    full = full_gradient(net, inputs, targets)

    def psi(part):
        part = part.abs()
        part = part - part.min()
        return part / (part.max() + 1e-6)

    for i in range(len(inputs)):
        slow = psi(full.input_part[i]).sum(0)
        for part in full.bias_parts[:2]:  # the two convolutions
            size = {"size": (16, 16), "mode": "bilinear", "align_corners": True}
            slow = slow + nn.functional.interpolate(psi(part[i])[None], **size)[0].sum(0)
        close(full_grad(net, inputs, targets)[i].sum(0), slow)
