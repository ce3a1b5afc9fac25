"""BIG against its parts and captum."""

import captum.attr
import pytest
import torch
from boundary_nets import slow_path
from torch import nn

from xdnn import big, integrated_gradients
from xdnn.attributions.big import BIG_RADII, boundary_points
from xdnn.attributions.boundary_paths import PathProtocol
from xdnn.passes import count_passes

close = torch.testing.assert_close
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def net(level_net) -> nn.Module:
    return level_net


@pytest.mark.parametrize("protocol", ["released", "described"])
def test_big_equals_its_parts(net, pixels, protocol):
    images, targets = pixels
    fast = big(net, images, targets, protocol=protocol)
    for i in range(len(images)):
        x, target = images[i], targets[i]
        end = x
        along = torch.zeros_like(x)
        for _ in range(50):  # the released loss: cross entropy of what is already a softmax
            end = end.detach().requires_grad_()
            loss = nn.functional.cross_entropy(net(end[None]).softmax(1), target[None])
            slope_here = torch.autograd.grad(loss, end)[0]
            along = along + slope_here if protocol == "released" else slope_here
            end = end + 0.001 * along.sign()
            end = (x + (end.detach() - x).clamp(-36 / 255, 36 / 255)).clamp(0, 1)
        oracle = captum.attr.IntegratedGradients(nn.Sequential(net, nn.Softmax(1))).attribute(
            x[None], end[None], target=int(target), n_steps=50, method="riemann_trapezoid"
        )
        close(fast[i : i + 1], oracle)


def test_the_seven_radii_of_big_are_one(net, pixels):
    everything = big(net, *pixels)
    assert torch.equal(everything, big(net, *pixels, repeat_equal=False))
    assert torch.equal(everything, big(net, *pixels, radii=BIG_RADII[:1]))
    with count_passes(net) as all_seven:
        big(net, *pixels)
    with count_passes(net) as one:
        big(net, *pixels, repeat_equal=False)
    assert (all_seven.forward, one.forward) == (6 * (7 * 51 + 50), 6 * (51 + 50))


def test_corrected_big_starts_where_the_path_first_crosses(net, pixels):
    images, targets = pixels
    fast = big(net, images, targets, protocol="corrected")
    for i in range(len(images)):
        points, _ = slow_path(net, images[i], targets[i], sign=True, softmaxes=1)
        expected = integrated_gradients(
            nn.Sequential(net, nn.Softmax(1)),
            images[i : i + 1],
            targets[i : i + 1],
            baseline=points[-1][None],
            steps=50,
        )
        close(fast[i : i + 1], expected)


def test_big_takes_the_nearest_of_several_boundary_points(net, pixels):
    images, targets = pixels
    options = {"protocol": PathProtocol("double_softmax", stop_at_boundary=False), "bounds": (0.0, 1.0)}
    points, found = boundary_points(net, images, targets, radii=(0.05, 0.02, 0.001), **options)
    for i in range(len(images)):
        ends = [
            boundary_points(net, images[i : i + 1], targets[i : i + 1], radii=(r,), **options)
            for r in (0.05, 0.02, 0.001)
        ]
        crossed = [e for e, hit in ends if hit]
        assert bool(found[i]) == bool(crossed)
        nearest = min(crossed, key=lambda e: (e - images[i]).norm()) if crossed else ends[0][0]
        close(points[i], nearest[0])
