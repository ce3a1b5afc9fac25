"""The net wrapped about any baseline, and its Integrated Gradients in one pass."""

import copy

import pytest
import torch
from torch import nn

from xdnn import (
    HomogeneousWrapper,
    NotHomogeneousError,
    check_homogeneous,
    fit_radius,
    gradient,
    input_x_gradient,
    integrated_gradients,
    is_homogeneous,
    wrapped_x_gradient,
    x_gradient,
)
from xdnn.logits import target_logits
from xdnn.passes import count_passes

close = torch.testing.assert_close
RADIUS = 20.0


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


BASELINES = {"number": -0.3, "colour": drawn(3, 1, 1), "picture": drawn(1, 3, 16, 16)}


def norms(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


# --- the wrapper ---


@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("c", BASELINES.values(), ids=BASELINES)
def test_the_wrapper_is_its_formula(net, batch, c, offset):
    x, _ = batch
    wrapped = HomogeneousWrapper(net, RADIUS, c, offset=offset)
    rho = norms(x - c)
    onto, start = net(c + RADIUS * (x - c) / rho), net((0 * x + c)[:1])
    share = rho.view(-1, 1) / RADIUS
    close(wrapped(x), start + share * (onto - start) if offset else share * onto)


def test_without_a_word_the_offset_is_kept_where_there_is_a_baseline(net):
    assert not HomogeneousWrapper(net, RADIUS).offset
    assert HomogeneousWrapper(net, RADIUS, 0.5).offset
    assert HomogeneousWrapper(net, RADIUS, torch.zeros(3, 1, 1)).offset


@pytest.mark.parametrize("c", BASELINES.values(), ids=BASELINES)
def test_on_its_sphere_it_is_the_net_and_at_the_baseline_it_is_the_net_too(net, batch, c):
    x, _ = batch
    wrapped = HomogeneousWrapper(net, RADIUS, c)
    on_sphere = c + RADIUS * (x - c) / norms(x - c)
    close(wrapped(on_sphere), net(on_sphere))
    at_c = (0 * x + c).requires_grad_()
    close(wrapped(at_c), net(at_c))
    assert torch.isfinite(torch.autograd.grad(wrapped(at_c).sum(), at_c)[0]).all()


@pytest.mark.parametrize("c", [0.0, *BASELINES.values()], ids=["zero", *BASELINES])
def test_its_logits_grow_in_proportion_to_the_distance(net, batch, c):
    x, _ = batch
    wrapped = HomogeneousWrapper(net, RADIUS, c, offset=True)
    start = net((0 * x + c)[:1])
    for a in (0.01, 0.3, 7.0):
        close(wrapped(c + a * (x - c)) - start, a * (wrapped(x) - start))


def test_only_about_zero_and_without_offset_is_it_homogeneous(net, batch):
    x, targets = batch
    for wrapped, homogeneous in (
        (HomogeneousWrapper(net, RADIUS), True),
        (HomogeneousWrapper(net, RADIUS, offset=True), False),
        (HomogeneousWrapper(net, RADIUS, 0.5, offset=False), False),
    ):
        assert bool(is_homogeneous(wrapped, x)) is homogeneous
        if homogeneous:
            check_homogeneous(wrapped)
            check_homogeneous(nn.Sequential(nn.ReLU(), wrapped))
        else:
            with pytest.raises(NotHomogeneousError, match="1: HomogeneousWrapper is homogeneous about its baseline"):
                check_homogeneous(nn.Sequential(nn.ReLU(), wrapped))
            with pytest.raises(NotHomogeneousError, match="wrapped_x_gradient"):
                x_gradient(wrapped, x, targets)


def test_a_tensor_as_baseline_follows_the_net_and_is_not_saved(net, batch):
    wrapped = HomogeneousWrapper(net, RADIUS, BASELINES["colour"]).float()
    assert wrapped.baseline.dtype == torch.float32
    assert set(wrapped.state_dict()) == {f"model.{name}" for name in net.state_dict()}
    assert wrapped(batch[0].float()).dtype == torch.float32


def test_the_fitted_radius_is_the_median_distance(batch):
    x, _ = batch
    x = x * torch.tensor([1.0, 2.0, 3.0, 50.0]).view(-1, 1, 1, 1)
    for c in (0.0, BASELINES["picture"]):
        assert fit_radius(x, c) == pytest.approx(sorted(norms(x - c).flatten().tolist())[1])  # torch's, the lower one
    with pytest.raises(ValueError, match="no radius fits 0 inputs"):
        fit_radius(x[:0])
    with pytest.raises(ValueError, match="no radius fits 4 inputs .* is 0"):
        fit_radius(0 * x)


# --- its Integrated Gradients ---


@pytest.mark.parametrize("radius", [5.0, 60.0])
@pytest.mark.parametrize("c", [0.0, *BASELINES.values()], ids=["zero", *BASELINES])
def test_one_pass_is_300_steps_of_ig_on_the_wrapped_net(net, batch, c, radius):
    x, targets = batch
    wrapped = HomogeneousWrapper(net, radius, c, offset=True)
    found = wrapped_x_gradient(net, x, targets, baseline=c, radius=radius)
    close(found, integrated_gradients(wrapped, x, targets, baseline=c, steps=300))
    close(found, (x - c) * gradient(wrapped, x, targets))
    close(found.flatten(1).sum(1), target_logits(wrapped, x, targets) - target_logits(wrapped, 0 * x + c, targets))


def test_each_images_own_radius_is_the_sphere_that_it_lies_on(net, batch):
    x, targets = batch
    for c in (0.0, *BASELINES.values()):
        found = wrapped_x_gradient(net, x, targets, baseline=c)
        for i in range(len(x)):
            own = slice(i, i + 1)
            wrapped = HomogeneousWrapper(net, float(norms(x - c)[i]), c, offset=True)
            close(wrapped(x[own]), net(x[own]))
            close(found[own], integrated_gradients(wrapped, x[own], targets[own], baseline=c, steps=300))


def test_about_zero_and_with_the_offset_input_x_gradient_of_the_wrapped_net_is_the_same(net, batch):
    wrapped = HomogeneousWrapper(net, RADIUS, offset=True)
    close(wrapped_x_gradient(net, *batch, radius=RADIUS), input_x_gradient(wrapped, *batch))


@pytest.mark.parametrize("c", [0.0, *BASELINES.values(), 0.5 * drawn(4, 3, 16, 16)], ids=["zero", *BASELINES, "own"])
def test_with_the_own_radius_the_sum_is_the_difference_of_logits(net, batch, c):
    x, targets = batch
    change = target_logits(net, x, targets) - target_logits(net, 0 * x + c, targets)
    close(wrapped_x_gradient(net, x, targets, baseline=c).flatten(1).sum(1), change)


def test_on_an_x_net_it_is_x_gradient_at_every_radius(x_net, batch):
    for radius in (None, 3.0, (1.0, 50.0)):
        close(wrapped_x_gradient(x_net, *batch, radius=radius), x_gradient(x_net, *batch))


def test_of_a_linear_function_it_is_the_difference_times_the_slope(batch):
    """And so does not touch an entry of slope 0."""
    linear = nn.Sequential(nn.Flatten(), nn.Linear(768, 5)).double()
    linear[1].weight.data[:, 700:] = 0
    x, targets = batch
    slope = linear[1].weight[targets].view_as(x)
    for radius in (None, 4.0):
        close(wrapped_x_gradient(linear, x, targets, baseline=0.2, radius=radius), (x - 0.2) * slope)


def test_the_price_is_that_an_entry_nobody_looks_at_gets_a_share(batch):
    """F(x) = x_0^2 about 0: what x dF = (2 x_0^2, 0) has too much, x_0^2, is taken off by the squares."""

    class First(nn.Module):
        def forward(self, x):
            return x[:, :1] ** 2

    x = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    found = wrapped_x_gradient(First(), x, torch.tensor([0]))
    close(found, torch.tensor([[18 - 9 * 9 / 25, -9 * 16 / 25]], dtype=torch.float64))


def test_several_radii_are_the_mean(net, batch):
    radii = (5.0, 20.0, 70.0)
    each = [wrapped_x_gradient(net, *batch, baseline=0.1, radius=r) for r in radii]
    close(wrapped_x_gradient(net, *batch, baseline=0.1, radius=radii), torch.stack(each).mean(0))


def test_a_difference_of_zero_is_explained_by_zeros(net, batch):
    x, targets = batch
    x = x.clone()
    x[1] = 0.4
    for radius in (None, 3.0):
        found = wrapped_x_gradient(net, x, targets, baseline=0.4, radius=radius)
        assert not found[1].any() and torch.isfinite(found).all()


@pytest.mark.parametrize("radius", [None, RADIUS])
def test_an_image_ignores_its_batch_mates_also_with_a_baseline_of_its_own(net, batch, radius):
    x, targets = batch
    for c in (0.3, 0.5 * drawn(4, 3, 16, 16)):
        together = wrapped_x_gradient(net, x, targets, baseline=c, radius=radius)
        for i in range(len(x)):
            own = slice(i, i + 1)
            alone = c if isinstance(c, float) else c[own]
            close(together[own], wrapped_x_gradient(net, x[own], targets[own], baseline=alone, radius=radius))


@pytest.mark.parametrize(
    "c, radius, forward, backward",
    [(0.0, None, 5, 4), (0.0, (1.0, 2.0), 9, 8), (0.5 * drawn(4, 3, 16, 16), None, 8, 4)],
)
def test_it_takes_a_pass_for_each_radius_and_one_at_the_baseline(net, batch, c, radius, forward, backward):
    with count_passes(net) as passes:
        wrapped_x_gradient(net, *batch, baseline=c, radius=radius)
    assert (passes.forward, passes.backward) == (forward, backward)


def test_nothing_of_the_net_changes(net, batch):
    before = copy.deepcopy(net.state_dict())
    wrapped_x_gradient(net, *batch)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


@pytest.mark.parametrize("radius", [0.0, -1.0, float("nan"), (), (1.0, 0.0)])
def test_a_radius_that_is_none_is_named(net, batch, radius):
    with pytest.raises(ValueError, match="radius must be a positive number, several, or None, got"):
        wrapped_x_gradient(net, *batch, radius=radius)
