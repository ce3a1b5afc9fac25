"""Boundary paths and MFABA against slow paths of one image and numbers written by hand; what is left undefined by the released code."""

import pytest
import torch
from boundary_nets import Linear, slope, slow_path
from torch import nn

from xdnn import METHODS, agi, big, mfaba, mfaba_paths
from xdnn.attributions.boundary_paths import PathProtocol, boundary_path, explained_output
from xdnn.passes import count_passes

close = torch.testing.assert_close
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def net(level_net) -> nn.Module:
    return level_net


def slow_mfaba(net, x, target, kind, rule, softmaxes):
    points, grads = slow_path(net, x, target, sign=kind == "smooth", softmaxes=softmaxes)
    steps = range(len(points) - 1)
    if kind in ("sharp", "smooth"):
        values = [grads[t] if rule == "left" else (grads[t] + grads[t + 1]) / 2 for t in steps]
        return -sum((points[t + 1] - points[t]) * values[t] for t in steps)
    chord = points[-1] - points[0]
    places = [
        (p - points[0]).norm() if kind == "norm" else ((p - points[0]) * chord).sum() / chord.norm() ** 2
        for p in points
    ]
    places = [p / max(places) for p in places]
    return -chord * sum((places[t + 1] - places[t]) * (grads[t] + grads[t + 1]) / 2 for t in steps)


@pytest.mark.parametrize(
    ("kind", "protocol", "rule", "softmaxes"),
    [
        ("sharp", "described", "left", 2),
        ("smooth", "described", "left", 2),
        ("sharp", "corrected", "trapezoid", 1),
        ("smooth", "corrected", "trapezoid", 1),
        ("norm", "described", "trapezoid", 1),
        ("cosine", "described", "trapezoid", 1),
        ("norm", "corrected", "trapezoid", 1),
        ("cosine", "corrected", "trapezoid", 1),
    ],
)
def test_mfaba_equals_a_path_of_one_image_at_a_time(net, pixels, kind, protocol, rule, softmaxes):
    images, targets = pixels
    fast = mfaba_paths(net, images, targets, kind=kind, protocol=protocol, chunk=4)
    assert len(set(fast.steps.tolist())) > 1, "images must leave the batch at different times, or this tests nothing"
    for i in range(len(images)):
        close(fast.attributions[i], slow_mfaba(net, images[i], targets[i], kind, rule, softmaxes))
        points, _ = slow_path(net, images[i], targets[i], sign=kind == "smooth", softmaxes=softmaxes)
        assert fast.steps[i] == len(points) - 1
        close(fast.end[i], points[-1])
        assert fast.crossed[i] == (net(points[-1][None]).argmax() != targets[i])


@pytest.mark.parametrize("kind", ["sharp", "smooth"])
def test_released_mfaba_equals_a_batch_that_sums_its_gradients(net, pixels, kind):
    """The sum of an image's gradients begins anew whenever an image leaves; test_released_mfaba.py has the authors' arrays."""
    images, targets = (values[[2, 4]] for values in pixels)  # paths of 3 and 2 sharp steps
    x, sums, maps = images.clone(), torch.zeros_like(images), torch.zeros_like(images)
    on_the_way = [0, 1]
    for _ in range(50):
        for i in on_the_way:
            sums[i] += slope(net, x[i], targets[i], 2)
            step = 0.001 * sums[i].sign() if kind == "smooth" else 0.1 * sums[i] / sums[i].norm()
            after = (x[i] - step).clamp(0, 1)
            maps[i] -= (after - x[i]) * sums[i]
            x[i] = after
        left = [i for i in on_the_way if net(x[i : i + 1]).argmax() == targets[i]]
        if len(left) < len(on_the_way):
            sums.zero_()
        on_the_way = left
    assert not torch.allclose(maps, mfaba(net, images, targets, kind=kind, protocol="described"))
    close(mfaba(net, images, targets, kind=kind), maps)


def test_the_defaults_are_the_released_protocol(net, pixels):
    for method in (mfaba, big, agi):
        assert torch.equal(method(net, *pixels), method(net, *pixels, protocol="released"))


def test_mfaba_by_hand():
    """z = (2x + 0y, 0) from x = 0.15: two sharp steps of 0.1 cross x = 0; only x is moved."""
    net, x = Linear(2.0, 0.0), torch.tensor([[0.15, 0.3]], dtype=torch.float64)

    def p(at):
        return torch.sigmoid(torch.tensor(2 * at, dtype=torch.float64))

    g = [2 * p(at) * (1 - p(at)) for at in (0.15, 0.05, -0.05)]
    found = {}
    for protocol in (PathProtocol("softmax", "left"), PathProtocol("softmax", "left", accumulate=True)):
        paths = mfaba_paths(net, x, torch.tensor([0]), protocol=protocol, bounds=None)
        assert paths.steps.tolist() == [2] and paths.crossed.tolist() == [True] and paths.attributions[0, 1] == 0
        found[protocol.accumulate] = paths.attributions[0, 0]
    close(found[False], 0.1 * g[0] + 0.1 * g[1])
    close(found[True], 0.1 * g[0] + 0.1 * (g[0] + g[1]))
    corrected = mfaba(net, x, torch.tensor([0]), protocol="corrected", bounds=None)
    close(corrected[0, 0], 0.05 * (g[0] + 2 * g[1] + g[2]))


def test_the_trapezoid_rule_is_closer_to_completeness_than_the_left_one(net, pixels):
    images, targets = pixels
    gaps = {}
    for rule in ("left", "trapezoid"):
        paths = mfaba_paths(net, images, targets, protocol=PathProtocol("probability", rule))
        start, end = (explained_output(net(x), targets, "probability") for x in (images, paths.end))
        gaps[rule] = ((paths.attributions.flatten(1).sum(1) - (start - end)).abs() / (start - end).abs()).mean()
    assert gaps["trapezoid"] < gaps["left"] / 2


def test_a_misclassified_image_takes_one_step_as_released_and_none_corrected(net, pixels):
    images, targets = pixels
    wrong = (targets + 1) % 5
    released = mfaba_paths(net, images, wrong)
    assert released.steps.tolist() == [1] * 6 and released.attributions.flatten(1).any(1).all()
    corrected = mfaba_paths(net, images, wrong, protocol="corrected")
    assert (
        corrected.steps.tolist() == [0] * 6 and not corrected.attributions.any() and torch.equal(corrected.end, images)
    )
    assert not big(net, images, wrong, protocol="corrected").any()


def test_a_zero_gradient_ends_the_path_instead_of_dividing_by_zero(pixels):
    class Flat(nn.Module):  # a ReLU that is off: logits (1, 0) wherever one looks
        def forward(self, x):
            off = torch.relu(x.flatten(1).sum(1, keepdim=True) - 1e6)
            return torch.cat([1 + off, off], 1)

    images, targets = pixels[0], torch.zeros(6, dtype=torch.int64)
    for kind in ("sharp", "smooth", "norm", "cosine"):
        paths = mfaba_paths(Flat(), images, targets, kind=kind)
        assert not paths.attributions.any() and not paths.steps.any() and not paths.crossed.any()
    for method in (big, agi):
        assert not method(Flat(), images, targets).any()
    assert not big(Flat(), images, targets, protocol="corrected").any()


def test_a_boundary_out_of_reach_ends_after_the_last_step(pixels):
    images = pixels[0].flatten(1)
    far = Linear(*[0.01] * images.shape[1])
    far.forward = lambda x: Linear.forward(far, x) + torch.tensor([100.0, 0.0])
    paths = mfaba_paths(far, images, torch.zeros(6, dtype=torch.int64), protocol="corrected", steps=7)
    assert paths.steps.tolist() == [7] * 6 and not paths.crossed.any() and torch.isfinite(paths.attributions).all()


def test_a_confident_net_stalls_as_released_and_not_when_corrected():
    """In float32 the double softmax of a margin of 200 has the gradient 0; the log-odds still know the way."""
    net = Linear(2000.0, 0.0)
    net.weights = net.weights.float()
    x, target = torch.tensor([[0.1, 0.0]]), torch.tensor([0])
    assert mfaba_paths(net, x, target, bounds=None).steps.tolist() == [0]
    corrected = mfaba_paths(net, x, target, bounds=None, protocol="corrected")
    assert corrected.steps.tolist() == [1] or corrected.crossed.tolist() == [True]


def test_images_outside_the_bounds_are_refused(net, batch, pixels):
    for method in (mfaba, big, agi):
        with pytest.raises(
            ValueError, match=r"image 0 of the batch spans -.*outside 0..1: wrap the method in in_pixels"
        ):
            method(net, *batch)
        assert torch.isfinite(method(net, *batch, bounds=None)).all()


def test_bad_arguments_are_named(net, pixels):
    images, targets = pixels
    for method in (mfaba, big, agi):
        with pytest.raises(ValueError, match=r"targets must be in 0..4, got 5..5"):
            method(net, images, torch.full_like(targets, 5))
    with pytest.raises(ValueError, match="unknown kind 'round'; there are: sharp, smooth, norm, cosine"):
        mfaba(net, images, targets, kind="round")
    with pytest.raises(ValueError, match="unknown output 'tanh'; there are: double_softmax"):
        mfaba(net, images, targets, protocol=PathProtocol("tanh"))
    with pytest.raises(ValueError, match="unknown rule 'right'; there are: left, trapezoid"):
        mfaba(net, images, targets, protocol=PathProtocol("softmax", "right"))
    with pytest.raises(ValueError, match="steps must be >= 1, got 0"):
        mfaba(net, images, targets, steps=0)
    with pytest.raises(ValueError, match="at least one radius"):
        big(net, images, targets, radii=())
    with pytest.raises(ValueError, match="steps and classes must be >= 1, got 0 and 1"):
        agi(net, images, targets, steps=0)


@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if n.startswith(("mfaba", "big", "agi"))])
def test_the_same_answer_for_every_chunk(name, net, batch):
    inputs = batch[0]
    targets = net(inputs).argmax(1)
    close(
        METHODS[name].attribute(net, inputs, targets, chunk=1),
        METHODS[name].attribute(net, inputs, targets),
        rtol=1e-6,
        atol=1e-12,
    )


def test_a_path_costs_one_pass_more_than_its_steps(net, pixels):
    images, targets = pixels
    steps = mfaba_paths(net, images, targets).steps
    with count_passes(net) as passes:
        mfaba(net, images, targets)
    assert passes.forward == passes.backward == int(steps.sum()) + len(images)


def test_paths_are_kept_inside_their_bounds(net, pixels):
    for sign in (True, False):
        for step in boundary_path(net, *pixels, sign=sign, protocol=PathProtocol("softmax"), bounds=(0.0, 1.0)):
            assert step.stop.min() >= 0 and step.stop.max() <= 1
