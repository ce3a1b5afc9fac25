import captum.attr
import numpy as np
import pytest
import torch
from conftest import generator
from torch import Tensor, nn

from reproduce.attributions import (
    METHODS,
    QUADRATURES,
    expected_gradients,
    gradient,
    input_x_gradient,
    integrated_gradients,
    x_gradient,
)
from reproduce.xdnn import NotHomogeneousError

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


# --- X-DNN Prop. 3.2 ---


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


# --- slow twins ---


@pytest.mark.parametrize("quadrature", QUADRATURES)
def test_ig_equals_a_loop_over_its_points(net, batch, quadrature):
    inputs, targets = batch
    baseline = 0.3
    nodes, weights = QUADRATURES[quadrature](5)
    twin = torch.zeros_like(inputs)
    for a, w in zip(nodes, weights, strict=True):
        point = (baseline + a * (inputs - baseline)).requires_grad_()
        logits = net(point)
        twin += w * torch.autograd.grad(sum(logits[i, t] for i, t in enumerate(targets)), point)[0]
    close(
        integrated_gradients(net, inputs, targets, baseline=baseline, steps=5, quadrature=quadrature),
        (inputs - baseline) * twin,
    )


def test_eg_equals_a_loop_over_its_draws(net, batch, references):
    inputs, targets = batch
    chosen = torch.randint(6, (3, 4), generator=(g := generator()))
    alphas = torch.rand(3, 4, generator=g, dtype=torch.float64)
    twin = torch.zeros_like(inputs)
    for k in range(3):
        for b in range(4):
            reference = references[chosen[k, b]]
            point = (reference + alphas[k, b] * (inputs[b] - reference)).requires_grad_()
            twin[b] += (inputs[b] - reference) * torch.autograd.grad(net(point[None])[0, targets[b]], point)[0] / 3
    close(expected_gradients(net, inputs, targets, references=references, generator=generator(), samples=3), twin)


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


# --- the contract of every method ---


def run(name, net, inputs, targets, references, seed=0):
    return METHODS[name](net, inputs, targets, references=references, generator=generator(seed))


@pytest.mark.parametrize("name", METHODS)
def test_shape_dtype_and_nothing_left_behind(name, x_net, batch, references):
    inputs, targets = batch
    before = [p.clone() for p in x_net.parameters()]
    result = run(name, x_net, inputs, targets, references)
    assert result.shape == inputs.shape and result.dtype == inputs.dtype and not result.requires_grad
    assert torch.isfinite(result).all()
    assert not inputs.requires_grad and inputs.grad is None
    for parameter, old in zip(x_net.parameters(), before, strict=True):
        assert parameter.requires_grad and parameter.grad is None and torch.equal(parameter, old)


@pytest.mark.parametrize("name", METHODS)
def test_inputs_that_ask_for_gradients_change_nothing(name, x_net, batch, references):  # captum leaves them so
    inputs, targets = batch
    expected = run(name, x_net, inputs, targets, references)
    result = run(name, x_net, inputs.clone().requires_grad_(), targets, references)
    assert torch.equal(result, expected) and not result.requires_grad


@pytest.mark.parametrize("name", METHODS)
def test_an_image_ignores_its_batch_mates(name, x_net, batch, references):  # AGI's released code fails this
    if METHODS[name].stochastic:
        pytest.skip("an image's draws depend on its place in the batch")
    inputs, targets = batch
    close(run(name, x_net, inputs, targets, references)[:1], run(name, x_net, inputs[:1], targets[:1], references))


@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if m.stochastic])
def test_the_generator_decides_a_stochastic_method(name, x_net, batch, references):
    first, again, other = (run(name, x_net, *batch, references, seed=s) for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    state = torch.get_rng_state()
    run(name, x_net, *batch, references)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", METHODS)
def test_no_images_have_no_attributions(name, x_net, batch, references):
    inputs, targets = batch
    assert run(name, x_net, inputs[:0], targets[:0], references).shape == inputs[:0].shape


@pytest.mark.parametrize("name", METHODS)
def test_passes_are_counted_exactly(name, x_net, batch, references):
    inputs, targets = batch
    points = 0

    def count(module, args):
        nonlocal points
        points += len(args[0])

    run(name, x_net, inputs, targets, references)  # the engine's one look at the net's layers is not the method's
    with x_net[0].register_forward_pre_hook(count):
        run(name, x_net, inputs, targets, references)
        together, points = points, 0
        if METHODS[name].passes is None:  # a finished image leaves the batch: nothing is computed for it any more
            for i in range(len(inputs)):
                run(name, x_net, inputs[i : i + 1], targets[i : i + 1], references)
            assert together == points
        else:
            assert together == METHODS[name].passes * len(inputs)


@pytest.mark.parametrize("chunk", [1, 3, 4, 7, 1000])
def test_chunks_change_nothing(net, batch, references, chunk):
    inputs, targets = batch
    close(
        integrated_gradients(net, inputs, targets, steps=9, chunk=chunk),
        integrated_gradients(net, inputs, targets, steps=9),
    )
    options = {"references": references, "samples": 5}
    expected = expected_gradients(net, inputs, targets, generator=generator(), **options)
    close(expected_gradients(net, inputs, targets, generator=generator(), chunk=chunk, **options), expected)


def test_no_more_than_chunk_points_are_alive(net, batch):
    sizes = []
    with net[0].register_forward_pre_hook(lambda module, args: sizes.append(len(args[0]))):
        integrated_gradients(net, *batch, steps=10, chunk=6)
    assert max(sizes) <= 6


def test_an_empty_batch_gives_an_empty_attribution(x_net, batch):
    inputs, targets = batch
    assert integrated_gradients(x_net, inputs[:0], targets[:0]).shape == inputs[:0].shape


@pytest.mark.parametrize("method", [gradient, input_x_gradient, x_gradient, integrated_gradients, expected_gradients])
def test_a_prior_on_attributions_can_be_trained(x_net, batch, references, method):
    options = {"references": references, "generator": generator()} if method is expected_gradients else {}
    loss = method(x_net, *batch, create_graph=True, **options).abs().sum()
    loss.backward()
    first = x_net[0].weight
    direction = torch.randn(first.shape, generator=generator(5), dtype=torch.float64)
    values = []
    for step in (1e-6, -1e-6):  # the derivative of the prior with respect to a weight, by differences
        with torch.no_grad():
            first += step * direction
        if method is expected_gradients:
            options["generator"] = generator()
        values.append(method(x_net, *batch, **options).abs().sum().item())
        with torch.no_grad():
            first -= step * direction
    assert (first.grad * direction).sum().item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4)


# --- bad input ---


def test_bad_input_is_named(net, batch):
    inputs, targets = batch
    broken = inputs.clone()
    broken[2, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="image 2 of the batch contains NaN"):
        gradient(net, broken, targets)
    with pytest.raises(ValueError, match=r"targets must be in 0..4, got 0..5"):
        gradient(net, inputs, torch.tensor([0, 1, 2, 5]))
    with pytest.raises(ValueError, match=r"targets must be \(4,\)"):
        integrated_gradients(net, inputs, targets[:3])
    with pytest.raises(ValueError, match="expected \\(B, classes\\)"):
        gradient(nn.Sequential(net, nn.Flatten(0)), inputs, targets)
    with pytest.raises(ValueError, match="steps must be >= 1, got 0"):
        integrated_gradients(net, inputs, targets, steps=0)
    with pytest.raises(ValueError, match="chunk must be >= 1, got 0"):
        integrated_gradients(net, inputs, targets, chunk=0)
    with pytest.raises(ValueError, match="unknown quadrature 'simpson'; there are: gauss_legendre"):
        integrated_gradients(net, inputs, targets, quadrature="simpson")
    with pytest.raises(ValueError, match="trapezoid rule needs at least 2 steps"):
        integrated_gradients(net, inputs, targets, steps=1, quadrature="trapezoid")
    with pytest.raises(ValueError, match=r"references must be \(R, 3, 16, 16\), got \(2, 3, 8, 8\)"):
        expected_gradients(net, inputs, targets, references=torch.zeros(2, 3, 8, 8), generator=generator())
    with pytest.raises(ValueError, match="normalised floats, got torch.uint8"):
        gradient(net, inputs.to(torch.uint8), targets)
