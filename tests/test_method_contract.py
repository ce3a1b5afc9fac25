"""What every method keeps: shapes, dtypes, nothing left behind, batch mates, chunks, passes, and errors that name the cause."""

import pytest
import torch
from conftest import generator
from torch import nn

from xdnn import METHODS, expected_gradients, gradient, input_x_gradient, integrated_gradients, x_gradient

close = torch.testing.assert_close
pytestmark = pytest.mark.usefixtures("one_thread")  # tiny nets: a second thread would only wait


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
def test_an_image_ignores_its_batch_mates(name, x_net, batch, references):
    if METHODS[name].stochastic:
        pytest.skip("an image's draws depend on its place in the batch")
    if METHODS[name].ties_batch_mates:
        pytest.skip("the released code ties the images of a batch: test_released_mfaba.py")
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


AT_BASELINE = {"wrapped_x_gradient": 1}  # forward passes of a batch beside those of its images


@pytest.mark.parametrize("name", METHODS)
def test_passes_are_counted_exactly(name, x_net, batch, references):
    inputs, targets = batch
    points = 0

    def count(module, args):
        nonlocal points
        points += len(args[0])

    run(name, x_net, inputs, targets, references)  # the one look at the net's layers is not the method's
    with x_net[0].register_forward_pre_hook(count):
        run(name, x_net, inputs, targets, references)
        together, points = points, 0
        if METHODS[name].ties_batch_mates:  # how long an image's path is depends on the others
            assert together >= len(inputs)
        elif METHODS[name].passes is None:  # a finished image leaves the batch: nothing is computed for it any more
            for i in range(len(inputs)):
                run(name, x_net, inputs[i : i + 1], targets[i : i + 1], references)
            assert together == points
        else:
            assert together == METHODS[name].passes * len(inputs) + AT_BASELINE.get(name, 0)


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
