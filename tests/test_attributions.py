"""Gradient, Input x Gradient, IG and EG: the papers' examples by hand, slow versions, and captum as the reference."""

import captum.attr
import numpy as np
import pytest
import torch
from conftest import generator
from torch import Tensor, nn

from xdnn import QUADRATURES, expected_gradients, gradient, input_x_gradient, integrated_gradients

close = torch.testing.assert_close


class Formula(nn.Module):
    """A function of two numbers as a net with one logit."""

    def __init__(self, formula):
        super().__init__()
        self.formula = formula

    def forward(self, x: Tensor) -> Tensor:
        return self.formula(x[:, 0], x[:, 1])[:, None]


def explain(formula, point, **options):
    x = torch.tensor([point], dtype=torch.float64)
    return integrated_gradients(Formula(formula), x, torch.tensor([0]), **options)[0]


# --- the papers' own examples, numbers written by hand ---


def test_ig_sees_a_saturated_feature_where_the_gradient_does_not():  # IG paper Sec. 2.1
    def f(x, _):
        return 1 - torch.relu(1 - x)

    x, target = torch.tensor([[2.0, 0.0]], dtype=torch.float64), torch.tensor([0])
    close(gradient(Formula(f), x, target), torch.zeros(1, 2, dtype=torch.float64))
    close(explain(f, (2.0, 0.0), steps=1000, quadrature="midpoint"), torch.tensor([1.0, 0.0], dtype=torch.float64))


@pytest.mark.parametrize(
    "f",
    [
        lambda a, b: torch.relu(torch.relu(a) - 1 - torch.relu(b)),
        lambda a, b: torch.relu(torch.relu(a - 1) - torch.relu(b)),
    ],
)
def test_ig_of_two_equal_functions_is_equal(f):  # IG paper Fig. 7
    expected = torch.tensor([1.5, -0.5], dtype=torch.float64)
    close(explain(f, (3.0, 1.0), steps=2000, quadrature="midpoint"), expected)


def test_ig_of_a_minimum_goes_to_the_smaller_argument():  # IG paper Sec. 4
    close(explain(torch.minimum, (1.0, 3.0)), torch.tensor([1.0, 0.0], dtype=torch.float64))


def test_ig_of_a_polynomial_is_its_integral():  # 5x + y^2: IG (5x, y^2)
    close(explain(lambda a, b: 5 * a + b**2, (2.0, 3.0), steps=2), torch.tensor([10.0, 9.0], dtype=torch.float64))


# --- slow versions ---


@pytest.mark.parametrize("quadrature", QUADRATURES)
def test_ig_equals_a_loop_over_its_points(net, batch, quadrature):
    inputs, targets = batch
    baseline = 0.3
    nodes, weights = QUADRATURES[quadrature](5)
    slow = torch.zeros_like(inputs)
    for a, w in zip(nodes, weights, strict=True):
        point = (baseline + a * (inputs - baseline)).requires_grad_()
        logits = net(point)
        slow += w * torch.autograd.grad(sum(logits[i, t] for i, t in enumerate(targets)), point)[0]
    close(
        integrated_gradients(net, inputs, targets, baseline=baseline, steps=5, quadrature=quadrature),
        (inputs - baseline) * slow,
    )


def test_eg_equals_a_loop_over_its_draws(net, batch, references):
    inputs, targets = batch
    chosen = torch.randint(6, (3, 4), generator=(g := generator()))
    alphas = torch.rand(3, 4, generator=g, dtype=torch.float64)
    slow = torch.zeros_like(inputs)
    for k in range(3):
        for b in range(4):
            reference = references[chosen[k, b]]
            point = (reference + alphas[k, b] * (inputs[b] - reference)).requires_grad_()
            slow[b] += (inputs[b] - reference) * torch.autograd.grad(net(point[None])[0, targets[b]], point)[0] / 3
    close(expected_gradients(net, inputs, targets, references=references, generator=generator(), samples=3), slow)


def test_shared_reference_draws_one_reference_and_one_alpha_for_the_batch(net, batch, references):
    inputs, targets = batch
    twice = torch.cat([inputs[:1], inputs[:1]])
    options = {"references": references, "generator": generator()}
    first, second = expected_gradients(net, twice, targets[[0, 0]], shared=True, **options)
    close(first, second)
    first, second = expected_gradients(net, twice, targets[[0, 0]], **options)
    assert not torch.allclose(first, second)


# --- captum as oracle ---

CAPTUM = {
    "gauss_legendre": "gausslegendre",
    "right_riemann": "riemann_right",
    "left_riemann": "riemann_left",
    "midpoint": "riemann_middle",
}


@pytest.mark.parametrize("quadrature", CAPTUM)
@pytest.mark.parametrize("steps", [2, 20])
def test_ig_agrees_with_captum(net, batch, quadrature, steps):
    inputs, targets = batch
    reference = captum.attr.IntegratedGradients(net).attribute(
        inputs, torch.full_like(inputs, -0.2), target=targets, n_steps=steps, method=CAPTUM[quadrature]
    )
    ours = integrated_gradients(net, inputs, targets, baseline=-0.2, steps=steps, quadrature=quadrature)
    close(ours, reference, rtol=1e-6, atol=1e-9)  # captum builds its nodes in float32


def test_input_x_gradient_agrees_with_captum(net, batch):
    close(
        input_x_gradient(net, *batch),
        captum.attr.InputXGradient(net).attribute(batch[0].requires_grad_(), target=batch[1]),
    )


def test_eg_converges_to_captums_gradient_shap(net, batch, references):
    inputs, targets = batch
    np.random.seed(0)  # noqa: NPY002 - captum draws from NumPy's global generator
    oracle = captum.attr.GradientShap(net).attribute(inputs, references, target=targets, n_samples=4000, stdevs=0.0)
    ours = expected_gradients(net, inputs, targets, references=references, generator=generator(), samples=4000)
    assert (ours - oracle).abs().mean() / oracle.abs().mean() < 0.05


def test_trapezoid_weights_sum_to_one_where_captums_do_not():
    for steps in (2, 50):
        assert QUADRATURES["trapezoid"](steps)[1].sum() == pytest.approx(1)
