"""IDGI, Guided IG, Blur IG, IG-U and adaptive IG against slow versions and numbers written by hand."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import generator
from scipy import ndimage
from torch import Tensor, nn

from xdnn import (
    adaptive_integrated_gradients,
    blur_integrated_gradients,
    guided_integrated_gradients,
    idgi,
    input_x_gradient,
    integrated_gradients,
    integrated_gradients_noise,
    x_gradient,
)
from xdnn.attributions.blur_ig import MAX_SIGMA, blurred
from xdnn.logits import target_logits
from xdnn.passes import count_passes

close = torch.testing.assert_close
pytestmark = pytest.mark.usefixtures("one_thread")  # tiny nets: a second thread would only wait


class Formula(nn.Module):
    def __init__(self, formula):
        super().__init__()
        self.formula = formula

    def forward(self, x: Tensor) -> Tensor:
        return self.formula(x[:, 0], x[:, 1])[:, None]


def point_gradient(net, x, target):
    """Logit and gradient at one point, (*F)."""
    x = x.detach().requires_grad_()
    logit = net(x[None])[0, target]
    return logit.item(), torch.autograd.grad(logit, x)[0]


def total(attributions):
    return attributions.flatten(1).sum(1)


# --- IDGI ---


def test_idgi_of_a_plane_goes_by_squared_slopes():  # F = 3x + 4y at (1, 1): 7 shared 9 : 16
    x, target = torch.ones(1, 2, dtype=torch.float64), torch.tensor([0])
    expected = torch.tensor([[7 * 9 / 25, 7 * 16 / 25]], dtype=torch.float64)
    close(idgi(Formula(lambda a, b: 3 * a + 4 * b), x, target, steps=5), expected)


@pytest.mark.parametrize("chunk", [None, 1, 3, 7])
def test_idgi_equals_a_loop_over_its_points(net, batch, chunk):
    inputs, targets = batch
    baseline, steps = -0.3, 6
    slow = torch.zeros_like(inputs)
    for i, target in enumerate(targets):
        path = [baseline + j / (steps - 1) * (inputs[i] - baseline) for j in range(steps)]
        for here, there in pairwise(path):
            (before, slope), (after, _) = point_gradient(net, here, target), point_gradient(net, there, target)
            slow[i] += slope**2 / (slope**2).sum() * (after - before)
    close(idgi(net, inputs, targets, baseline=baseline, steps=steps, chunk=chunk), slow)


def test_idgi_sums_to_the_change_of_the_logit(net, batch):
    inputs, targets = batch
    change = target_logits(net, inputs, targets) - target_logits(net, inputs * 0 + 0.1, targets)
    close(total(idgi(net, inputs, targets, baseline=0.1, steps=4)), change)


def test_idgi_loses_its_first_step_where_the_zero_baseline_has_no_gradient(x_net, batch):
    inputs, targets = batch
    close(total(idgi(x_net, inputs, targets, steps=11)), 0.9 * target_logits(x_net, inputs, targets))


# --- Guided IG ---


def slow_guided_ig(net, x_in, start, target, steps, fraction, max_distance):
    """One image, one feature at a time, in NumPy: sort by |gradient|, move groups, until the step's L1 share is covered."""
    shape, end, start = x_in.shape, x_in.numpy().ravel(), start.numpy().ravel()
    x, attribution, count = start.copy(), np.zeros(end.size), end.size
    whole = np.abs(end - start).sum()
    for step in range(steps):
        slope = point_gradient(net, torch.from_numpy(x).view(shape), target)[1].numpy().ravel()
        alpha = (step + 1) / steps
        low, high = max(alpha - max_distance, 0), min(alpha + max_distance, 1)
        old = x.copy()
        for i in range(count):
            if end[i] != start[i] and (x[i] - start[i]) / (end[i] - start[i]) < low:
                x[i] = start[i] + low * (end[i] - start[i])
        limit = start + high * (end - start)
        reached = x == limit
        missing = np.abs(end - x).sum() - whole * (1 - alpha)
        while missing > 1e-12 * whole:
            sizes = sorted(np.inf if reached[i] else abs(slope[i]) for i in range(count))
            threshold = sizes[int(fraction * (count - 1))]
            group = [i for i in range(count) if not reached[i] and abs(slope[i]) <= threshold]
            space = sum(abs(limit[i] - x[i]) for i in group)
            share = min(1.0, missing / space)
            for i in group:
                x[i], reached[i] = (limit[i], True) if share == 1 else (x[i] + share * (limit[i] - x[i]), reached[i])
            missing -= share * space
        attribution += (x - old) * slope
    return torch.from_numpy(attribution).view(shape)


@pytest.mark.parametrize(("fraction", "max_distance"), [(0.25, 0.02), (0.1, 0.3), (0.5, 1.0), (1.0, 0.1)])
def test_guided_ig_equals_its_definition_feature_by_feature(net, batch, fraction, max_distance):
    inputs, targets = batch[0][:2, :, :12, :12], batch[1][:2]
    inputs[0, 0, 0, :4] = 0.2  # features that do not differ from the baseline
    start = torch.full_like(inputs, 0.2)
    options = {"steps": 7, "fraction": fraction, "max_distance": max_distance}
    slow = [slow_guided_ig(net, x, s, t, **options) for x, s, t in zip(inputs, start, targets, strict=True)]
    close(guided_integrated_gradients(net, inputs, targets, baseline=0.2, chunk=1, **options), torch.stack(slow))


def test_guided_ig_on_a_corridor_of_no_width_is_ig_with_left_nodes(net, batch):
    left = integrated_gradients(net, *batch, steps=9, quadrature="left_riemann", baseline=0.1)
    close(guided_integrated_gradients(net, *batch, steps=9, max_distance=0.0, baseline=0.1), left)


def test_guided_ig_moves_the_feature_of_smaller_slope_first():
    """F = x y + y / 10 at (1, 1), path free: dF/dx = 0 < dF/dy = 0.1 at the start, so x goes first and y earns all of F."""
    x, target = torch.ones(1, 2, dtype=torch.float64), torch.tensor([0])
    options = {"steps": 2, "fraction": 0.25, "max_distance": 1.0}
    found = guided_integrated_gradients(Formula(lambda a, b: a * b + b / 10), x, target, **options)
    close(found, torch.tensor([[0.0, 1.1]], dtype=torch.float64))


def smoothed(net):
    """The same net without kinks."""
    smooth = {nn.ReLU: nn.Softplus(), nn.MaxPool2d: nn.AvgPool2d(2)}
    return nn.Sequential(*(smooth.get(type(module), module) for module in net))


def test_guided_ig_becomes_complete_on_a_smooth_net_and_not_on_a_relu_net(net, batch):
    """Along a kink the path crosses it in every step, and the left gradient is always that of one side."""
    inputs, targets = batch
    for model, factor in ((smoothed(net), 0.1), (net, None)):
        change = target_logits(model, inputs, targets) - target_logits(model, 0 * inputs, targets)
        gaps = [
            (total(guided_integrated_gradients(model, *batch, steps=s)) - change).abs().mean() / change.abs().mean()
            for s in (20, 400)
        ]
        if factor:
            assert gaps[1] < factor * gaps[0] < factor * 0.1
        else:
            assert gaps[1] > 0.02 and gaps[1] > 0.5 * gaps[0]


# --- Blur IG ---


def test_the_blur_is_scipys(batch):
    sigmas = [0.0, 0.4, 1.7, 6.0]
    for sigma, found in zip(sigmas, blurred(batch[0], torch.tensor(sigmas)), strict=True):
        oracle = ndimage.gaussian_filter(batch[0].numpy(), [0, 0, sigma, sigma], mode="constant", truncate=12)
        close(found, torch.from_numpy(oracle))


def scipy_blur(inputs, sigma):
    oracle = ndimage.gaussian_filter(inputs.numpy(), [0, 0, sigma, sigma], mode="constant", truncate=12)
    return torch.from_numpy(oracle)


def test_blur_ig_equals_a_loop_over_its_blurs(net, batch):
    inputs, targets = batch
    steps, widest = 5, 3.0
    slow = torch.zeros_like(inputs)
    for k in range(steps):
        wide, narrow = (scipy_blur(inputs, widest * (1 - edge / steps) ** 2) for edge in (k, k + 1))
        for i, target in enumerate(targets):
            slow[i] += (narrow - wide)[i] * point_gradient(net, (wide + narrow)[i] / 2, target)[1]
    for chunk in (None, 1, 6):
        close(blur_integrated_gradients(net, inputs, targets, max_sigma=widest, steps=steps, chunk=chunk), slow)


def released_blur_ig(net, inputs, targets, widest, steps):
    """PAIR saliency's blur_ig.py: widths k / steps of the widest, gradients there, difference quotients of 0.01 px."""
    attributions = torch.zeros_like(inputs)
    for k in range(steps):
        sigma = widest * k / steps
        picture = scipy_blur(inputs, sigma)
        fading = (scipy_blur(inputs, sigma + 0.01) - picture) / 0.01
        for i, target in enumerate(targets):
            attributions[i] -= widest / steps * fading[i] * point_gradient(net, picture[i], target)[1]
    return attributions


def test_blur_ig_is_nearer_to_completeness_than_the_released_code(net):
    """What matters is the end, where few of the released widths see detail come back."""
    inputs, targets = torch.randn(4, 3, 64, 64, generator=generator(5), dtype=torch.float64), torch.arange(4)
    widest, steps = 64 * MAX_SIGMA, 20
    with torch.no_grad():
        change = target_logits(net, inputs, targets) - target_logits(net, scipy_blur(inputs, widest), targets)
    ours = blur_integrated_gradients(net, inputs, targets, steps=steps)
    released = released_blur_ig(net, inputs, targets, widest, steps)
    gaps = [((total(found) - change).abs().mean() / change.abs().mean()).item() for found in (ours, released)]
    assert gaps[0] < gaps[1] / 3 and gaps[0] < 0.1


def test_blur_ig_sums_to_the_change_from_the_blurred_picture(net, batch):
    inputs, targets = batch
    widest = blurred(inputs, torch.tensor([16 * MAX_SIGMA]))[0]
    change = target_logits(net, inputs, targets) - target_logits(net, widest, targets)
    close(total(blur_integrated_gradients(net, inputs, targets, steps=1000)), change, rtol=0.01, atol=1e-3)


# --- IG with noise baselines ---


def test_ig_u_is_ig_averaged_over_its_noise(net, batch):
    inputs, targets = batch
    noise = torch.rand(3, *inputs.shape, generator=generator(), dtype=torch.float64) * 0.5 - 0.2
    slow = sum(integrated_gradients(net, inputs, targets, baseline=b, steps=4) for b in noise) / 3
    found = integrated_gradients_noise(
        net, inputs, targets, generator=generator(), low=-0.2, high=0.3, draws=3, steps=4
    )
    close(found, slow)


# --- as many steps as an image needs ---


def test_adaptive_ig_takes_one_step_on_an_x_net(x_net, batch):
    attributions, steps = adaptive_integrated_gradients(x_net, *batch)
    assert steps.tolist() == [1, 1, 1, 1]
    close(attributions, x_gradient(x_net, *batch))


@pytest.mark.parametrize("chunk", [None, 1, 5])
def test_adaptive_ig_is_ig_with_the_first_steps_that_are_enough(net, batch, chunk):
    inputs, targets = batch
    tolerance = 0.02
    attributions, steps = adaptive_integrated_gradients(
        net, inputs, targets, baseline=0.2, tolerance=tolerance, chunk=chunk
    )
    assert steps.unique().numel() > 1, "the test wants images that need different numbers"
    change = target_logits(net, inputs, targets) - target_logits(net, torch.full_like(inputs, 0.2), targets)
    for i, n in enumerate(steps.tolist()):
        x, t = inputs[i : i + 1], targets[i : i + 1]
        levels = [3**k for k in range(7) if 3**k <= n]
        fixed = [integrated_gradients(net, x, t, baseline=0.2, steps=k, quadrature="midpoint") for k in levels]
        close(attributions[i : i + 1], fixed[-1])
        gaps = [abs(total(a) - change[i]).item() / abs(change[i].item()) for a in fixed]
        moved = [(b - a).abs().sum().item() / b.abs().sum().item() for a, b in pairwise(fixed)]
        enough = [gaps[0] <= 0.01 * tolerance]
        enough += [g <= tolerance and m <= 10 * tolerance for g, m in zip(gaps[1:], moved, strict=True)]
        assert enough[-1] and not any(enough[:-1])


def test_adaptive_ig_pays_only_for_the_images_that_are_left(net, batch):
    with count_passes(net) as passes:
        _, steps = adaptive_integrated_gradients(net, *batch, baseline=0.2, tolerance=0.02)
    assert passes.forward == steps.sum() + 2 * len(steps)


def test_adaptive_ig_stops_at_max_steps_and_says_so(net, batch):
    attributions, steps = adaptive_integrated_gradients(net, *batch, tolerance=1e-12, max_steps=30)
    assert steps.tolist() == [27] * 4
    close(attributions, integrated_gradients(net, *batch, steps=27, quadrature="midpoint"))


# --- bad input ---


def test_bad_input_is_named(net, batch):
    for call, message in (
        (lambda: idgi(net, *batch, steps=1), "steps must be >= 2, got 1"),
        (lambda: guided_integrated_gradients(net, *batch, steps=0), "steps must be >= 1, got 0"),
        (lambda: guided_integrated_gradients(net, *batch, fraction=0), "fraction must be in"),
        (lambda: blur_integrated_gradients(net, batch[0][0], batch[1][:3]), "a blur needs pictures"),
        (lambda: blur_integrated_gradients(net, *batch, max_sigma=0.0), "max_sigma above 0"),
        (lambda: integrated_gradients_noise(net, *batch, generator=generator(), low=1, high=1), "low below high"),
        (lambda: adaptive_integrated_gradients(net, *batch, tolerance=0), "tolerance must be above 0"),
        (lambda: input_x_gradient(net, batch[0], batch[1][:2]), "targets must be"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
