"""The papers' examples by hand, equivalent networks, and the axioms' measures on methods that keep or break them."""

import warnings
from functools import partial

import captum.attr
import pytest
import torch
from conftest import generator, small_cnn
from torch import Tensor

from reproduce.models import build
from reproduce.models.toys import RANDOM_CNN_CLASSES, RANDOM_CNN_SHAPE, PaperFunctions, random_cnn
from xdnn import gradient, input_x_gradient, integrated_gradients, to_x_variant, x_gradient
from xdnn.equivalent_networks import REWRITES, Combination, DeadFeatures, Mirrored, equivalent_network
from xdnn.metrics.axioms import AXIOMS, METRICS, Subject, violations

close = torch.testing.assert_close
SATURATION, PAIR, MINIMUM = 0, 1, 2


def number(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def deep_lift(net, x, target):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return captum.attr.DeepLift(net).attribute(x, target=target).detach()


@pytest.fixture(autouse=True)
def one_thread():
    """Nets this small spend their time handing work to a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- the IG paper's examples, numbers written by hand ---


@pytest.mark.parametrize("other", [False, True])
def test_the_papers_functions_have_the_papers_values(other):
    net = PaperFunctions(rewritten=other)
    assert net(number(2, 0))[0, SATURATION] == 1 and net(number(0, 0))[0, SATURATION] == 0
    assert net(number(3, 1))[0, PAIR] == 1
    assert net(number(1, 3))[0, MINIMUM] == 1


@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize(
    ("function", "point", "expected"),
    [
        (SATURATION, (2.0, 0.0), (1.0, 0.0)),  # Sec. 2.1: the gradient there is 0
        (PAIR, (3.0, 1.0), (1.5, -0.5)),  # Fig. 7: IG of f and of g
        (MINIMUM, (1.0, 3.0), (1.0, 0.0)),  # Sec. 4: all to the smaller one
    ],
)
def test_ig_of_the_papers_functions(other, function, point, expected):
    found = integrated_gradients(
        PaperFunctions(rewritten=other), number(*point), torch.tensor([function]), steps=1000, quadrature="midpoint"
    )
    close(found, number(*expected))


def test_deep_lift_tells_the_pair_apart():  # Fig. 7: (1.5, -0.5) on f, (2, -1) on g
    x, target = number(3.0, 1.0), torch.tensor([PAIR])
    close(deep_lift(PaperFunctions(), x, target), number(1.5, -0.5))
    close(deep_lift(PaperFunctions(rewritten=True), x, target), number(2.0, -1.0))


def test_the_gradient_of_a_saturated_feature_is_zero():
    assert not gradient(PaperFunctions(), number(2.0, 0.0), torch.tensor([SATURATION])).any()


def test_a_negative_c_is_refused():
    with pytest.raises(ValueError, match="c must be >= 0"):
        PaperFunctions(c=-1.0)


# --- equivalent networks and networks with a property ---


@pytest.mark.parametrize("variant", ["regular", "x"])
def test_an_equivalent_network_is_the_same_function_by_other_layers(variant, batch):
    net = small_cnn() if variant == "regular" else to_x_variant(small_cnn())
    other = equivalent_network(net, generator())
    close(other(batch[0]), net(batch[0]))
    kinds = {type(module) for module in other.modules()}
    assert set(REWRITES) <= kinds
    first, second = (next(m for n, m in model.named_parameters() if n.endswith("weight")) for model in (net, other))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("name", ["alexnet", "resnet18"])
def test_equivalent_networks_of_the_suites_nets(name):
    net = build(name, "regular", classes=4, width=0.125, image_px=64).double().eval()
    with torch.no_grad():
        for i, parameter in enumerate(net.parameters()):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator(i)))
    x = torch.randn(2, 3, 64, 64, generator=generator(), dtype=torch.float64)
    close(equivalent_network(net, generator())(x), net(x))


def test_nets_with_a_property(net, batch):
    x, _ = batch
    alive = (torch.rand(x.shape[1:], generator=generator()) > 0.5).double()
    dead = DeadFeatures(net, alive)
    close(dead(x + 5 * (1 - alive)), dead(x))
    close(Mirrored(net)(x.flip(-1)), Mirrored(net)(x))
    logits = net(x)
    close(Combination(net, 2.0, -3.0)(x)[:, 4], 2 * logits[:, 4] - 3 * logits[:, 0])


# --- the measures ---


def random_subject(variant: str, count: int = 16) -> Subject:
    """A random net, of whose features a tenth is dead, its equivalent network, and inputs."""
    draws = generator()
    net = random_cnn(variant, draws)
    inputs = torch.randn(count, *RANDOM_CNN_SHAPE, generator=draws, dtype=torch.float64)
    alive = (torch.rand(inputs[0].numel(), generator=draws) > 0.1).double()
    single = torch.zeros_like(inputs).flatten(1)
    single[torch.arange(count), torch.multinomial(alive, count, replacement=True, generator=draws)] = 3.0
    return Subject(
        net,
        equivalent_network(net, draws),
        inputs,
        torch.arange(count) % RANDOM_CNN_CLASSES,
        alive.view(RANDOM_CNN_SHAPE),
        single.view(inputs.shape),
        factor=0.3,
        weights=(0.7, -1.3),
    )


@pytest.fixture
def subject() -> Subject:
    return random_subject("regular")


@pytest.fixture
def x_subject() -> Subject:
    return random_subject("x")


def zero_output(subject):
    def output(net):
        with torch.no_grad():
            return net(0 * subject.inputs).gather(1, subject.targets[:, None])[:, 0]

    return output


def test_x_gradient_keeps_every_axiom_on_an_x_net(x_subject):
    found = violations(x_gradient, x_subject, zero_output(x_subject))
    assert set(METRICS) == set(AXIOMS) < set(found)
    for axiom in AXIOMS:
        assert found[axiom].max() < 1e-9, axiom
    close(found["accounted"].mean(), torch.tensor(1.0, dtype=torch.float64))


def shifted(net, inputs, targets):  # a method that adds a constant: breaks dummy, linearity, homogeneity, completeness
    return input_x_gradient(net, inputs, targets) + 0.1


def squared(net, inputs, targets):  # of degree two in the net and in the input
    return input_x_gradient(net, inputs, targets) ** 2


def lopsided(net, inputs, targets):  # prefers the left
    return input_x_gradient(net, inputs, targets) * torch.linspace(2, 0.5, inputs.shape[-1]).to(inputs)


def of_the_graph(net, inputs, targets):  # looks into the layers
    return input_x_gradient(net, inputs, targets) * (1 + sum(p.abs().sum() for p in net.parameters()).detach())


def silent(net, inputs, targets):
    return torch.zeros_like(inputs)


@pytest.mark.parametrize(
    ("method", "broken"),
    [
        (shifted, {"dummy", "linearity", "homogeneity", "completeness"}),
        (squared, {"linearity", "homogeneity", "completeness"}),
        (lopsided, {"symmetry", "completeness"}),
        (of_the_graph, {"implementation", "completeness"}),
        (silent, {"completeness", "sensitivity_a"}),
        (gradient, {"homogeneity", "completeness"}),
    ],
)
def test_a_method_that_breaks_an_axiom_is_found_and_only_there(x_subject, method, broken):
    found = violations(method, x_subject, zero_output(x_subject))
    assert {axiom for axiom in AXIOMS if found[axiom].mean() > 1e-3} == broken


def test_violations_are_measured_in_size(x_subject):
    found = violations(partial(_scaled, 0.9), x_subject, zero_output(x_subject))
    close(found["accounted"].mean().item(), 0.9)
    close(found["completeness"].mean().item(), 0.1)


def _scaled(factor, net, inputs, targets):
    return factor * x_gradient(net, inputs, targets)


def test_all_calls_are_of_one_batch_size_so_that_all_round_alike(subject):
    sizes = []

    def method(net, inputs, targets):
        sizes.append(len(inputs))
        return input_x_gradient(net, inputs, targets)

    violations(method, subject, None)
    assert sizes == 7 * [len(subject.inputs)]


def test_random_nets_are_as_they_are_called():
    x = torch.randn(2, 3, 8, 8, generator=generator(), dtype=torch.float64)
    net, x_net = (random_cnn(variant, generator()) for variant in ("regular", "x"))
    close(x_net(3 * x), 3 * x_net(x))
    assert not torch.allclose(net(3 * x), 3 * net(x), rtol=0.01)
