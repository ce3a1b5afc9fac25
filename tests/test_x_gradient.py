"""X-DNN Prop. 3.2: on a homogeneous net one backward pass is Integrated Gradients; and what X-Gradient checks of that."""

import pytest
import torch
from torch import Tensor, nn

from xdnn import (
    QUADRATURES,
    HomogeneousWrapper,
    NotHomogeneousError,
    check_homogeneous,
    input_x_gradient,
    integrated_gradients,
    is_homogeneous,
    x_gradient,
)
from xdnn.attributions.gradients import SCALES
from xdnn.homogeneity import gradient_change
from xdnn.passes import count_passes

close = torch.testing.assert_close


@pytest.mark.parametrize("quadrature", QUADRATURES)
@pytest.mark.parametrize("steps", [2, 17])
def test_on_an_x_net_ig_with_any_rule_is_x_gradient(x_net, batch, quadrature, steps):
    if quadrature in ("left_riemann", "trapezoid"):
        pytest.skip("the node at the zero baseline itself, where a ReLU net has no gradient, belongs to these rules")
    inputs, targets = batch
    close(
        integrated_gradients(x_net, inputs, targets, steps=steps, quadrature=quadrature),
        x_gradient(x_net, inputs, targets),
    )


def test_x_gradient_sums_to_the_logit(x_net, batch):
    inputs, targets = batch
    close(x_gradient(x_net, inputs, targets).flatten(1).sum(1), x_net(inputs).gather(1, targets[:, None])[:, 0])


def test_x_gradient_refuses_a_regular_net_and_says_by_how_much(net, batch):
    with pytest.raises(NotHomogeneousError, match=r"image \d .* sum to .* and the logit is .*HomogeneousWrapper"):
        x_gradient(net, *batch)


def test_x_gradient_of_a_black_image_is_zero(x_net, batch):
    inputs, targets = batch
    assert not x_gradient(x_net, 0 * inputs, targets).any()


# --- one identity at one point is not enough ---


class Formula(nn.Module):
    """A function of a row of numbers as a net with one logit."""

    def __init__(self, formula):
        super().__init__()
        self.formula = formula

    def forward(self, x: Tensor) -> Tensor:
        return self.formula(x)[:, None]


ONES, TARGET = torch.ones(1, 2, dtype=torch.float64), torch.tensor([0])


def accident(x: Tensor) -> Tensor:
    """At (1, 1) the slopes sum to the value, 6 - 2 = 4, by an accident of the biases; they do so nowhere else on the ray."""
    return torch.relu(6 * x[:, 0] - 1) - torch.relu(2 * x[:, 1] - 1)


def untraceable(x: Tensor) -> Tensor:
    """The same, behind a decision on values: it has no graph to look at."""
    if x.sum() < -9:
        return -accident(x)
    return accident(x)


@pytest.mark.parametrize("formula", [accident, untraceable])
def test_a_net_that_keeps_eulers_identity_by_accident_is_refused(formula):
    net = Formula(formula).eval()
    close(input_x_gradient(net, ONES, TARGET), torch.tensor([[6.0, -2.0]]).double())
    close(net(ONES), torch.tensor([[4.0]]).double())
    ig = integrated_gradients(net, ONES, TARGET, steps=3000, quadrature="midpoint")
    close(ig, torch.tensor([[5.0, -1.0]]).double())
    with pytest.raises(NotHomogeneousError, match=r"image 0 of the batch F\(0.01 x\) / 0.01 is 0 and the logit is 4"):
        x_gradient(net, ONES, TARGET)


def test_the_refusal_says_what_the_graph_shows(net, batch):
    with pytest.raises(NotHomogeneousError, match=r"; 0: Conv2d has a bias\)"):
        x_gradient(net, *batch)


def test_a_proved_net_costs_one_pass_and_another_two_forward_passes_more(x_net, batch):
    images, targets = batch
    proved, measured = x_net, Formula(lambda x: x.flatten(1).norm(dim=1)).eval()
    for net, target, forward in ((proved, targets, 1), (measured, 0 * targets, 1 + len(SCALES))):
        with count_passes(net) as passes:
            x_gradient(net, images, target)
        assert (passes.forward, passes.backward) == (forward * len(images), len(images))


def test_the_wrapper_is_proved_and_dropout_in_training_is_no_reason_to_refuse(net, x_net, batch):
    images, targets = batch
    with count_passes(wrapped := HomogeneousWrapper(net, 20.0)) as passes:
        x_gradient(wrapped, images, targets)
    assert passes.forward == len(images)
    dropping = nn.Sequential(nn.Dropout(0.5), *x_net).train()
    assert x_gradient(dropping, images, targets).any()


# --- ties: docs/theory.md, "Where the gradient is a choice" ---


class Tie(nn.Module):
    """The larger of 0.1 x + 0.2 y and 0.3 z: of a (1, 1, 1) the same number, but for rounding, which depends on a."""

    def forward(self, x: Tensor) -> Tensor:
        pair = torch.stack([0.1 * x[:, 0] + 0.2 * x[:, 1], 0.3 * x[:, 2]], 1)
        return nn.functional.max_pool1d(pair[:, None], 2).flatten(1)


def test_on_a_tie_ig_and_input_x_gradient_differ_although_the_net_is_homogeneous():
    net, flat = Tie().eval(), torch.ones(1, 3, dtype=torch.float64)
    check_homogeneous(net)
    assert is_homogeneous(net, flat)
    for x, differ in ((flat, True), (flat + torch.tensor([0, 0, 1e-6]), False)):
        ours, ig = x_gradient(net, x, TARGET), integrated_gradients(net, x, TARGET, steps=500, quadrature="midpoint")
        close(ours.sum(1), net(x)[:, 0])
        close(ig.sum(1), net(x)[:, 0])  # both are complete: what is a choice is who gets it
        distance = ((ours - ig).abs().sum() / ig.abs().sum()).item()
        assert distance > 0.05 if differ else distance < 1e-12


def test_flat_backgrounds_are_ties_for_max_pooling():
    """A homogeneous CNN on a small figure before a flat background; noise of a millionth of it makes the gradient unique."""
    layers = [nn.Conv2d(3, 8, 5, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(800, 5, bias=False)]
    torch.manual_seed(0)
    net = nn.Sequential(*layers).double().eval()
    images = torch.full((4, 3, 24, 24), 0.7, dtype=torch.float64)
    images[:, :, 9:13, 9:13] = torch.randn(4, 3, 4, 4, dtype=torch.float64)
    noisy = images + 1e-6 * torch.randn(images.shape, dtype=torch.float64)
    targets = torch.arange(4)
    assert is_homogeneous(net, images) and is_homogeneous(net, noisy)

    def distances(x: Tensor) -> Tensor:
        ours, ig = x_gradient(net, x, targets), integrated_gradients(net, x, targets, steps=64)
        close(ig.flatten(1).sum(1), ours.flatten(1).sum(1))
        return (ours - ig).flatten(1).abs().sum(1) / ig.flatten(1).abs().sum(1)

    assert (distances(images) > 1e-3).all() and (gradient_change(net, images, targets) > 1e-3).all()
    assert (distances(noisy) < 1e-9).all() and (gradient_change(net, noisy, targets) < 1e-9).all()


def test_the_change_of_the_gradient_is_of_each_image_and_its_factor_positive(net, x_net, batch):
    assert (gradient_change(x_net, *batch) < 1e-12).all() and (gradient_change(net, *batch) > 1e-3).all()
    for factor in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="factor must be a positive number"):
            gradient_change(x_net, *batch, factor=factor)
