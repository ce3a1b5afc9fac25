"""Many quadrature rules from one sweep, and how many steps are enough."""

import math

import pytest
import torch

from reproduce.quadrature import integrate, merge, steps_needed
from xdnn import integrated_gradients
from xdnn.passes import count_passes

RULES = [("gauss_legendre", 4), ("midpoint", 5), ("trapezoid", 11), ("right_riemann", 10), ("left_riemann", 2)]


def test_every_rule_comes_out_as_if_it_had_been_run_alone(net, batch):
    nodes, weights = merge(RULES)
    image, target = batch[0][:1], batch[1][:1]
    found = integrate(net, image, target, nodes, weights)
    for own, (rule, count) in zip(found, RULES, strict=True):
        alone = integrated_gradients(net, image, target, steps=count, quadrature=rule)
        torch.testing.assert_close(own[None], alone, rtol=1e-7, atol=1e-9)  # nodes are told apart to twelve digits


def test_a_node_that_rules_share_is_passed_once(net, batch):
    nodes, weights = merge(RULES)
    assert len(nodes) == 4 + 11  # the five midpoints and both left nodes are among the tenths
    assert weights.sum(1).tolist() == pytest.approx([1.0] * len(RULES))
    with count_passes(net) as passes:
        integrate(net, batch[0][:1], batch[1][:1], nodes, weights)
    assert passes.forward == passes.backward == 15


@pytest.mark.parametrize(
    "errors, needed",
    [
        ([0.2, 0.1, 0.04, 0.01], 4),
        ([0.01, 0.2, 0.04, 0.01], 4),  # met by chance at one step, and missed again
        ([0.01, 0.01, 0.01, 0.2], 16),  # missed at the end: more than was tried
        ([0.05, 0.05, 0.05, 0.05], 1),
        ([0.01, math.nan, 0.01, 0.01], math.nan),
    ],
)
def test_steps_needed_is_the_first_number_from_which_on_all_are_enough(errors, needed):
    assert steps_needed([1, 2, 4, 8], errors, 0.05) == pytest.approx(needed, nan_ok=True)
