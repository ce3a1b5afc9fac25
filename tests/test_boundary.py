"""MFABA, BIG, AGI, SmoothGrad and DeepLIFT against slow twins, hand-written numbers and captum."""

import captum.attr
import pytest
import torch
from conftest import generator
from torch import Tensor, nn

from reproduce.attributions import (
    METHODS,
    agi,
    big,
    deeplift,
    gradient,
    in_pixels,
    integrated_gradients,
    mfaba,
    mfaba_walks,
    smoothgrad,
)
from reproduce.attributions.boundary import BIG_RADII, MFABA_CORRECTED, explained_output, walk
from reproduce.attributions.deeplift import NotSupportedError
from reproduce.attributions.pixels import PixelNet
from reproduce.metrics.timing import counted

close = torch.testing.assert_close


@pytest.fixture
def net(net) -> nn.Module:
    """The small net with logits that are level over random pixels, so that boundaries are near and classes differ."""
    with torch.no_grad():
        logits = net(torch.rand(64, 3, 16, 16, generator=generator(9), dtype=torch.float64))
        net[-1].weight *= 2 / logits.std(0)[:, None]
        net[-1].bias.copy_((net[-1].bias - logits.mean(0)) * 2 / logits.std(0))
    return net


@pytest.fixture
def pixels(net) -> tuple[Tensor, Tensor]:
    """Six float64 images in [0, 1] and the class that ``net`` sees in each; their walks differ in length."""
    images = torch.rand(6, 3, 16, 16, generator=generator(3), dtype=torch.float64)
    return images, net(images).argmax(1)


class Linear(nn.Module):
    """Two classes with logits (w x, 0): the boundary is the line w x = 0."""

    def __init__(self, *weights: float):
        super().__init__()
        self.weights = torch.tensor(weights, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        score = x @ self.weights
        return torch.stack([score, 0 * score], 1)


# --- slow twins: one image at a time, every point kept ---


def probability(net, x, target, softmaxes):
    out = net(x[None])
    for _ in range(softmaxes):
        out = out.softmax(1)
    return out[0, target]


def slope(net, x, target, softmaxes):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(probability(net, x, target, softmaxes), x)[0]


def slow_walk(net, x, target, *, sign, softmaxes, steps=50):
    """Points and gradients of the released walk, from its description: step, clamp, look, stop."""
    points, grads = [x], []
    for _ in range(steps):
        g = slope(net, points[-1], target, softmaxes)
        grads.append(g)
        step = 0.001 * g.sign() if sign else 0.1 * g / g.norm()
        moved = points[-1] - step
        if sign:
            moved = x + (moved - x).clamp(-0.3, 0.3)
        points.append(moved.clamp(0, 1))
        if net(points[-1][None]).argmax() != target:
            break
    grads.append(slope(net, points[-1], target, softmaxes))
    return points, grads


def slow_mfaba(net, x, target, kind, rule, softmaxes):
    points, grads = slow_walk(net, x, target, sign=kind == "smooth", softmaxes=softmaxes)
    legs = range(len(points) - 1)
    if kind in ("sharp", "smooth"):
        values = [grads[t] if rule == "left" else (grads[t] + grads[t + 1]) / 2 for t in legs]
        return -sum((points[t + 1] - points[t]) * values[t] for t in legs)
    chord = points[-1] - points[0]
    places = [
        (p - points[0]).norm() if kind == "norm" else ((p - points[0]) * chord).sum() / chord.norm() ** 2
        for p in points
    ]
    places = [p / max(places) for p in places]
    return -chord * sum((places[t + 1] - places[t]) * (grads[t] + grads[t + 1]) / 2 for t in legs)


@pytest.mark.parametrize(
    ("kind", "rule", "output", "softmaxes"),
    [
        ("sharp", "left", "double_softmax", 2),
        ("smooth", "left", "double_softmax", 2),
        ("sharp", "trapezoid", "probability", 1),
        ("smooth", "trapezoid", "probability", 1),
        ("norm", "left", "softmax", 1),
        ("cosine", "left", "softmax", 1),
    ],
)
def test_mfaba_equals_a_walk_of_one_image_at_a_time(net, pixels, kind, rule, output, softmaxes):
    images, targets = pixels
    fast = mfaba_walks(net, images, targets, kind=kind, rule=rule, output=output, chunk=4)
    assert len(set(fast.legs.tolist())) > 1, "images must leave the batch at different times, or this tests nothing"
    for i in range(len(images)):
        close(fast.attributions[i], slow_mfaba(net, images[i], targets[i], kind, rule, softmaxes))
        points, _ = slow_walk(net, images[i], targets[i], sign=kind == "smooth", softmaxes=softmaxes)
        assert fast.legs[i] == len(points) - 1
        close(fast.end[i], points[-1])
        assert fast.crossed[i] == (net(points[-1][None]).argmax() != targets[i])


def test_the_defaults_are_the_published_protocol(net, pixels):
    for kind in ("sharp", "smooth"):
        close(mfaba(net, *pixels, kind=kind), mfaba(net, *pixels, kind=kind, output="double_softmax", rule="left"))
    for kind in ("norm", "cosine"):
        close(mfaba(net, *pixels, kind=kind), mfaba(net, *pixels, kind=kind, output="softmax"))


def test_mfaba_by_hand():
    """z = (2x + 0y, 0) from x = 0.15: two sharp steps of 0.1 cross x = 0; only x is moved."""
    net, x = Linear(2.0, 0.0), torch.tensor([[0.15, 0.3]], dtype=torch.float64)

    def p(at):
        return torch.sigmoid(torch.tensor(2 * at, dtype=torch.float64))

    g = [2 * p(at) * (1 - p(at)) for at in (0.15, 0.05, -0.05)]
    walks = mfaba_walks(net, x, torch.tensor([0]), output="probability", bounds=None)
    assert walks.legs.tolist() == [2] and walks.crossed.tolist() == [True]
    close(walks.attributions[0], torch.stack([0.1 * g[0] + 0.1 * g[1], torch.zeros_like(g[0])]))
    second = mfaba(net, x, torch.tensor([0]), output="probability", rule="trapezoid", bounds=None)
    close(second[0, 0], 0.05 * (g[0] + 2 * g[1] + g[2]))


def test_the_trapezoid_rule_is_closer_to_completeness_than_the_left_one(net, pixels):
    images, targets = pixels
    gaps = {}
    for rule in ("left", "trapezoid"):
        walks = mfaba_walks(net, images, targets, output="probability", rule=rule)
        start, end = (explained_output(net(x), targets, "probability") for x in (images, walks.end))
        gaps[rule] = ((walks.attributions.flatten(1).sum(1) - (start - end)).abs() / (start - end).abs()).mean()
    assert gaps["trapezoid"] < gaps["left"] / 2


def test_big_equals_its_parts(net, pixels):
    images, targets = pixels
    fast = big(net, images, targets)
    for i in range(len(images)):
        x, target = images[i], targets[i]
        end = x
        for _ in range(50):  # the released loss: cross entropy of what is already a softmax
            end = end.detach().requires_grad_()
            loss = nn.functional.cross_entropy(net(end[None]).softmax(1), target[None])
            end = end + 0.001 * torch.autograd.grad(loss, end)[0].sign()
            end = (x + (end.detach() - x).clamp(-36 / 255, 36 / 255)).clamp(0, 1)
        oracle = captum.attr.IntegratedGradients(nn.Sequential(net, nn.Softmax(1))).attribute(
            x[None], end[None], target=int(target), n_steps=50, method="riemann_trapezoid"
        )
        close(fast[i : i + 1], oracle, rtol=1e-5, atol=1e-9)  # captum builds its nodes in float32


def test_the_seven_radii_of_big_are_one(net, pixels):
    everything = big(net, *pixels)
    assert torch.equal(everything, big(net, *pixels, repeat_equal=False))
    assert torch.equal(everything, big(net, *pixels, radii=BIG_RADII[:1]))
    with counted(net) as all_seven:
        big(net, *pixels)
    with counted(net) as one:
        big(net, *pixels, repeat_equal=False)
    assert (all_seven.forward, one.forward) == (6 * (7 * 51 + 50), 6 * (51 + 50))


def test_corrected_big_starts_where_the_walk_first_crosses(net, pixels):
    images, targets = pixels
    fast = big(net, images, targets, corrected=True)
    for i in range(len(images)):
        points, _ = slow_walk(net, images[i], targets[i], sign=True, softmaxes=1)
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
    points, found = None, None
    from reproduce.attributions.boundary import boundary_points

    options = {"output": "double_softmax", "bounds": (0.0, 1.0), "stop_at_boundary": False}
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


@pytest.mark.parametrize("accumulate", [False, True])
def test_agi_equals_a_loop(net, pixels, accumulate):
    images, targets = pixels
    fast = agi(net, images, targets, accumulate=accumulate, step=0.004, chunk=4)
    lengths = []
    for i in range(len(images)):
        goal = 0  # the draw of seed 3407 from 0..3, held by the next test
        goal += int(targets[i] == goal)
        x, total = images[i], torch.zeros_like(images[i])
        moves = 0
        for _ in range(20):
            if net(x[None]).argmax() == goal:
                break
            base = x if accumulate else images[i]
            after = (base + 0.004 * slope(net, x, goal, 1).sign()).clamp(0, 1)
            total -= slope(net, x, targets[i], 1) * (after - base)
            x, moves = after, moves + 1
        lengths.append(moves)
        close(fast[i], total)
    assert len(set(lengths)) > 1 or not accumulate


def test_the_adversarial_class_is_the_published_draw():
    from reproduce.attributions.agi import _adversary

    drawn = int(_adversary(1000, 1, 0, torch.tensor([0])))
    import random

    random.seed(3407)
    assert drawn == random.sample(list(range(999)), 1)[0]
    assert _adversary(1000, 1, 0, torch.tensor([drawn, 5])).tolist() == [drawn + 1, drawn]
    assert _adversary(5, 1, 0, torch.tensor([4])).tolist() == [0]
    assert _adversary(2, 1, 0, torch.tensor([0, 1])).tolist() == [1, 0]
    with pytest.raises(ValueError, match="classes must be at most 4"):
        _adversary(5, 5, 0, torch.tensor([0]))


def test_agi_sums_over_its_classes(net, pixels):
    images, targets = pixels
    both = agi(net, images, targets, classes=2)
    assert torch.isfinite(both).all() and not torch.allclose(both, agi(net, images, targets))


# --- noise and DeepLIFT ---


def test_smoothgrad_without_noise_is_the_gradient(net, batch):
    close(smoothgrad(net, *batch, generator=generator(), samples=1, sigma=0.0), gradient(net, *batch))


@pytest.mark.parametrize("chunk", [1, 3, 4, 9, 1000])
def test_smoothgrad_equals_a_loop_for_every_chunk(net, batch, chunk):
    inputs, targets = batch
    g, twin = generator(), torch.zeros_like(inputs)
    for _ in range(5):
        twin += gradient(net, inputs + 0.3 * torch.randn(inputs.shape, generator=g, dtype=torch.float64), targets) / 5
    close(smoothgrad(net, inputs, targets, generator=generator(), samples=5, sigma=0.3, chunk=chunk), twin)


def test_deeplift_agrees_with_captum(net, batch):
    inputs, targets = batch
    ours = deeplift(net, inputs, targets, baseline=0.2)
    with pytest.warns(UserWarning, match="hooks"):
        close(
            ours,
            captum.attr.DeepLift(net).attribute(inputs.requires_grad_(), torch.full_like(inputs, 0.2), target=targets),
        )


def test_deeplift_without_max_pooling_sums_to_the_change(batch):
    inputs, targets = batch
    smooth = nn.Sequential(nn.Flatten(), nn.Linear(768, 8), nn.ReLU(), nn.Linear(8, 5)).double()
    change = (smooth(inputs) - smooth(torch.zeros_like(inputs))).gather(1, targets[:, None])[:, 0]
    close(deeplift(smooth, inputs, targets).flatten(1).sum(1), change)


class Twice(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.a, self.b, self.act = nn.Linear(768, 8).double(), nn.Linear(8, 5).double(), act

    def forward(self, x):
        return self.b(self.act(self.act(self.a(x.flatten(1))) - 0.1))


class Functional(nn.Module):
    def forward(self, x):
        return torch.relu(x.flatten(1)[:, :5])


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (Twice(nn.ReLU(inplace=True)), "act: ReLU works in place"),
        (Twice(nn.ReLU()), "act: ReLU runs 2 times in a pass"),
        (Twice(nn.ReLU6()), "act: captum's DeepLIFT has no rule for ReLU6"),
        (Functional(), "forward calls relu: captum's DeepLIFT sees modules only"),
    ],
)
def test_deeplift_refuses_what_captum_gets_wrong(batch, bad, why):
    with pytest.raises(NotSupportedError, match=why):
        deeplift(bad, *batch)


# --- edges that the released code leaves undefined ---


def test_a_misclassified_image_walks_one_leg_as_published_and_none_corrected(net, pixels):
    images, targets = pixels
    wrong = (targets + 1) % 5
    published = mfaba_walks(net, images, wrong)
    assert published.legs.tolist() == [1] * 6 and published.attributions.flatten(1).any(1).all()
    corrected = mfaba_walks(net, images, wrong, **MFABA_CORRECTED)
    assert (
        corrected.legs.tolist() == [0] * 6 and not corrected.attributions.any() and torch.equal(corrected.end, images)
    )
    assert not big(net, images, wrong, corrected=True).any()


def test_a_zero_gradient_ends_the_walk_instead_of_dividing_by_zero(pixels):
    class Flat(nn.Module):  # a ReLU that is off: logits (1, 0) wherever one looks
        def forward(self, x):
            off = torch.relu(x.flatten(1).sum(1, keepdim=True) - 1e6)
            return torch.cat([1 + off, off], 1)

    images, targets = pixels[0], torch.zeros(6, dtype=torch.int64)
    for kind in ("sharp", "smooth", "norm", "cosine"):
        walks = mfaba_walks(Flat(), images, targets, kind=kind)
        assert not walks.attributions.any() and not walks.legs.any() and not walks.crossed.any()
    for method in (big, agi):
        assert not method(Flat(), images, targets).any()
    assert not big(Flat(), images, targets, corrected=True).any()


def test_a_boundary_out_of_reach_ends_after_the_last_step(pixels):
    images = pixels[0].flatten(1)
    far = Linear(*[0.01] * images.shape[1])
    far.forward = lambda x: Linear.forward(far, x) + torch.tensor([100.0, 0.0])
    walks = mfaba_walks(far, images, torch.zeros(6, dtype=torch.int64), output="probability", steps=7)
    assert walks.legs.tolist() == [7] * 6 and not walks.crossed.any() and torch.isfinite(walks.attributions).all()


def test_a_confident_net_stalls_as_published_and_not_when_corrected():
    """In float32 the double softmax of a margin of 200 has the gradient 0; the log-odds still know the way."""
    net = Linear(2000.0, 0.0)
    net.weights = net.weights.float()
    x, target = torch.tensor([[0.1, 0.0]]), torch.tensor([0])
    assert mfaba_walks(net, x, target, bounds=None).legs.tolist() == [0]
    corrected = mfaba_walks(net, x, target, bounds=None, **MFABA_CORRECTED)
    assert corrected.legs.tolist() == [1] or corrected.crossed.tolist() == [True]


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
    with pytest.raises(ValueError, match="kind='round'"):
        mfaba(net, images, targets, kind="round")
    with pytest.raises(ValueError, match="unknown output 'tanh'; there are: double_softmax"):
        mfaba(net, images, targets, output="tanh")
    with pytest.raises(ValueError, match="at least one radius"):
        big(net, images, targets, radii=())
    with pytest.raises(ValueError, match="steps and classes must be >= 1, got 0 and 1"):
        agi(net, images, targets, steps=0)
    with pytest.raises(ValueError, match="samples must be >= 1"):
        smoothgrad(net, images, targets, samples=0, generator=generator())


# --- costs ---


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


def test_a_walk_costs_one_pass_more_than_its_legs(net, pixels):
    images, targets = pixels
    legs = mfaba_walks(net, images, targets).legs
    with counted(net) as passes:
        mfaba(net, images, targets)
    assert passes.forward == passes.backward == int(legs.sum()) + len(images)


def test_agi_looks_once_and_goes_back_twice(net, pixels):
    with counted(net) as passes:
        agi(net, *pixels)
    assert passes.backward == 2 * passes.forward


def test_walks_are_kept_inside_their_bounds(net, pixels):
    for sign in (True, False):
        for leg in walk(net, *pixels, sign=sign, output="softmax", bounds=(0.0, 1.0)):
            assert leg.stop.min() >= 0 and leg.stop.max() <= 1


# --- pixels ---


@pytest.mark.parametrize("method", [mfaba, big, agi, deeplift, gradient])
def test_the_net_stays_in_its_mode(net, pixels, method):  # a net turned to training would drop units from then on
    net.insert(7, nn.Dropout(0.5).eval())
    in_pixels(method, (0.0,) * 3, (1.0,) * 3)(net, *pixels)
    assert not any(module.training for module in net.modules())


def test_in_pixels_is_the_released_space(net, pixels):
    images, targets = pixels
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    module = PixelNet(net, mean, std)
    targets = module(images).argmax(1)
    inputs = (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    close(in_pixels(mfaba, mean, std)(net, inputs, targets), mfaba(module, images, targets), rtol=1e-4, atol=1e-9)
    explained = in_pixels(gradient, mean, std, softmax=True)(net, inputs, targets)
    close(explained[0], slope(module, images[0], targets[0], 1), rtol=1e-4, atol=1e-9)
    with pytest.raises(ValueError, match="outside"):
        in_pixels(mfaba, mean, std)(net, 9 * inputs, targets)
