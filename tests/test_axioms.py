"""The papers' examples by hand, twins that are twins, and the axioms' measures on methods that are known to keep or break them."""

import warnings
from functools import partial

import captum.attr
import pytest
import torch
from conftest import generator, small_cnn
from torch import Tensor

from reproduce.attributions import METHODS, gradient, input_x_gradient, integrated_gradients, x_gradient
from reproduce.metrics.axioms import AXIOMS, Subject, violations
from reproduce.models import build
from reproduce.models.toys import PaperFunctions, random_cnn
from reproduce.models.twins import REWRITES, Combination, DeadFeatures, Mirrored, twin
from reproduce.studies import axioms, steps
from reproduce.xdnn import to_x_variant

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
    net = PaperFunctions(twin=other)
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
        PaperFunctions(twin=other), number(*point), torch.tensor([function]), steps=1000, quadrature="midpoint"
    )
    close(found, number(*expected))


def test_deep_lift_tells_the_pair_apart():  # Fig. 7: (1.5, -0.5) on f, (2, -1) on g
    x, target = number(3.0, 1.0), torch.tensor([PAIR])
    close(deep_lift(PaperFunctions(), x, target), number(1.5, -0.5))
    close(deep_lift(PaperFunctions(twin=True), x, target), number(2.0, -1.0))


def test_the_gradient_of_a_saturated_feature_is_zero():
    assert not gradient(PaperFunctions(), number(2.0, 0.0), torch.tensor([SATURATION])).any()


def test_a_negative_c_is_refused():
    with pytest.raises(ValueError, match="c must be >= 0"):
        PaperFunctions(c=-1.0)


# --- twins and nets with a property ---


@pytest.mark.parametrize("variant", ["regular", "x"])
def test_a_twin_is_the_same_function_by_other_layers(variant, batch):
    net = small_cnn() if variant == "regular" else to_x_variant(small_cnn())
    other = twin(net, generator())
    close(other(batch[0]), net(batch[0]))
    kinds = {type(module) for module in other.modules()}
    assert set(REWRITES) <= kinds
    first, second = (next(m for n, m in model.named_parameters() if n.endswith("weight")) for model in (net, other))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("name", ["alexnet", "resnet18"])
def test_twins_of_the_testbeds_nets(name):
    net = build(name, "regular", classes=4, width=0.125, image_px=64).double().eval()
    with torch.no_grad():
        for i, parameter in enumerate(net.parameters()):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator(i)))
    x = torch.randn(2, 3, 64, 64, generator=generator(), dtype=torch.float64)
    close(twin(net, generator())(x), net(x))


def test_nets_with_a_property(net, batch):
    x, _ = batch
    alive = (torch.rand(x.shape[1:], generator=generator()) > 0.5).double()
    dead = DeadFeatures(net, alive)
    close(dead(x + 5 * (1 - alive)), dead(x))
    close(Mirrored(net)(x.flip(-1)), Mirrored(net)(x))
    logits = net(x)
    close(Combination(net, 2.0, -3.0)(x)[:, 4], 2 * logits[:, 4] - 3 * logits[:, 0])


# --- the measures ---


@pytest.fixture
def subject() -> Subject:
    return axioms._random_net("regular", generator())[0]


@pytest.fixture
def x_subject() -> Subject:
    return axioms._random_net("x", generator())[0]


def zero_output(subject):
    def output(net):
        with torch.no_grad():
            return net(0 * subject.inputs).gather(1, subject.targets[:, None])[:, 0]

    return output


def test_x_gradient_keeps_every_axiom_on_an_x_net(x_subject):
    found = violations(x_gradient, x_subject, zero_output(x_subject))
    assert set(AXIOMS) < set(found)
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


def test_one_by_one_changes_nothing_for_a_method_without_draws(subject):
    together, apart = (violations(input_x_gradient, subject, None, one_by_one=flag) for flag in (False, True))
    assert set(together) == set(apart) == set(AXIOMS) - {"completeness"}
    for axiom, values in together.items():
        close(values, apart[axiom])


def test_captums_short_weights_are_found_and_ours_are_not(subject):
    shares = {}
    for name in ("ig_captum_trapezoid_50", "ig_trapezoid_50"):
        found = violations(axioms.BESIDE[name].attribute, subject, zero_output(subject))
        shares[name] = found["accounted"].mean().item()
    assert shares["ig_captum_trapezoid_50"] / shares["ig_trapezoid_50"] == pytest.approx(49 / 50, abs=1e-6)


def test_every_method_is_measured_or_says_why_not(monkeypatch):
    monkeypatch.setattr(axioms, "NET_DRAWS", 2)
    found = axioms._measure(lambda share: None, *axioms._random_net("x", generator()), METHODS)
    assert [entry["method"] for entry in found[1:]] == list(METHODS)
    assert all(entry["values"] or entry["reason"] for entry in found)


def test_baselines_named_in_the_registry_are_known():
    assert {m.baseline for m in METHODS.values()} - {None} <= set(axioms.BASELINES)


# --- study steps ---


def test_one_sweep_gives_every_rule(net, batch):
    rules = [("gauss_legendre", 4), ("midpoint", 5), ("trapezoid", 10), ("right_riemann", 10), ("left_riemann", 2)]
    nodes, weights = steps._together(rules)
    assert len(nodes) == 4 + 11  # the five midpoints are among the tenths
    assert weights.sum(1).tolist() == pytest.approx([1.0] * 5)
    x, target = batch[0][:1], batch[1][:1]
    found = x * steps._all_rules(net, x, target, nodes, weights)
    for own, (rule, n) in zip(found, rules, strict=True):
        fixed = integrated_gradients(net, x, target, steps=n + (rule == "trapezoid"), quadrature=rule)
        close(own[None], fixed, rtol=1e-7, atol=1e-9)  # nodes are told apart to twelve digits


def test_steps_needed_is_the_first_number_after_which_all_are_enough():
    gaps = {1: [0.01, 0.2], 2: [0.2, 0.2], 4: [0.04, 0.2], 8: [0.01, 0.2]}
    value = {"curves": [{"rule": "midpoint", "steps": n, "gap": g} for n, g in gaps.items()]}
    assert steps._needed(value, "midpoint", 0.05) == [4.0, 16.0]


def test_equal_error_is_read_off_the_curve():
    value = {"curves": [{"rule": "gauss_legendre", "steps": n, "distance": [1 / n]} for n in (1, 4, 16, 64)]}
    assert steps._equal_error(value, [1 / 8]) == pytest.approx(8)
    assert steps._equal_error(value, [1e-9]) == pytest.approx(64)


def test_random_nets_are_as_they_are_called():
    x = torch.randn(2, 3, 8, 8, generator=generator(), dtype=torch.float64)
    net, x_net = (random_cnn(variant, generator()) for variant in ("regular", "x"))
    close(x_net(3 * x), 3 * x_net(x))
    assert not torch.allclose(net(3 * x), 3 * net(x), rtol=0.01)
