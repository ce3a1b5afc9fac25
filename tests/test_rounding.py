"""Rounding to fewer bits: values by hand and by numpy, products in both directions, and the study that uses it."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from reproduce.claims import Outcome, judge
from reproduce.nets import Net
from reproduce.rounding import round_mantissa, rounded_convolutions
from reproduce.studies import mantissa
from reproduce.studies.mantissa import Measurement
from reproduce.tasks import Result


def slowly(value: float, bits: int) -> float:
    """To nearest, halves to even, from the definition: a whole number of units of the last bit."""
    if value == 0:
        return 0.0
    unit = 2.0 ** (math.floor(math.log2(abs(value))) - bits)
    return round(value / unit) * unit


@pytest.mark.parametrize("bits", [1, 7, 10, 16, 22])
def test_values_are_the_nearest_with_so_many_bits(bits):
    draws = np.random.default_rng(bits)
    values = (draws.normal(size=500) * 10.0 ** draws.integers(-20, 20, 500)).astype(np.float32)
    expected = np.array([slowly(float(value), bits) for value in values])
    np.testing.assert_array_equal(round_mantissa(torch.from_numpy(values), bits).numpy(), expected.astype(np.float32))


def test_halves_go_to_even_and_carries_raise_the_exponent():
    values = torch.tensor([1.25, 1.75, -1.25, 3.9, 0.0, math.inf, -math.inf])
    assert round_mantissa(values, 1).tolist() == [1.0, 2.0, -1.0, 4.0, 0.0, math.inf, -math.inf]
    assert round_mantissa(torch.tensor([math.nan]), 7).isnan().all()
    assert torch.equal(round_mantissa(values, 23), values)


@pytest.mark.parametrize(
    ("values", "bits", "error"),
    [(torch.zeros(2).double(), 7, TypeError), (torch.zeros(2), 0, ValueError), (torch.zeros(2), 24, ValueError)],
)
def test_what_cannot_be_rounded_is_refused(values, bits, error):
    with pytest.raises(error):
        round_mantissa(values, bits)


def test_a_convolution_multiplies_rounded_operands_in_both_directions():
    """Against products of operands that were rounded by hand; an in-place ReLU follows, as in the nets."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, bias=False)
    net, weight = nn.Sequential(conv, nn.ReLU(inplace=True)), conv.weight.detach().clone()
    inputs = torch.randn(2, 3, 8, 8, requires_grad=True)
    with rounded_convolutions(net, 4):
        output = net(inputs)
        upstream = torch.randn_like(output)
        (found,) = torch.autograd.grad(output, inputs, upstream)
    rounded = round_mantissa(weight, 4)
    expected = nn.functional.conv2d(round_mantissa(inputs.detach(), 4), rounded)
    torch.testing.assert_close(output, expected.relu())
    gradient = round_mantissa(upstream * (expected > 0), 4)
    torch.testing.assert_close(found, torch.nn.grad.conv2d_input(inputs.shape, rounded, gradient))
    assert not torch.equal(output, nn.functional.conv2d(inputs, weight).relu())


def test_afterwards_the_model_is_as_before():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    inputs = torch.randn(1, 3, 6, 6)
    before = net(inputs)
    with pytest.raises(RuntimeError, match="halfway"), rounded_convolutions(net, 3):
        assert not torch.equal(net(inputs), before)
        raise RuntimeError("halfway")
    assert torch.equal(net(inputs), before) and not net[0]._forward_hooks and not net[0]._forward_pre_hooks
    with pytest.raises(ValueError, match="no Conv2d"), rounded_convolutions(nn.Linear(2, 2), 3):
        pass


# --- the study ---


def results(**mard: float) -> list[Result]:
    """Model -> its MARD in percent at 10 bits; at 16 bits it is the 64th part, give or take over images."""
    spread = np.linspace(0.9, 1.1, 16)
    return [
        Result(
            Net(model, "x", "digits-on-photos", 1.0, "trained", 0),
            Measurement({10: (value / 100 * spread).tolist(), 16: (value / 6400 * spread).tolist()}),
            1.0,
            {},
        )
        for model, value in mard.items()
    ]


def outcomes(found: list[Result]) -> dict[str, Outcome]:
    return {finding.claim.id: finding.outcome for finding in judge(mantissa.STUDY.claims, mantissa.rows(found))}


def test_the_papers_numbers_confirm_the_guess_and_others_refute_it():
    assert set(outcomes(results(alexnet=1.2, vgg16=0.4, resnet50=0.01)).values()) == {Outcome.REPRODUCED}
    other = outcomes(results(alexnet=1.14, vgg16=4.6, resnet50=1.0))
    assert other["tf32-alexnet"] is Outcome.REPRODUCED
    assert other["tf32-vgg16"] is other["tf32-resnet50"] is Outcome.NOT_REPRODUCED
    assert outcomes(results(alexnet=0.3))["tf32-alexnet"] is Outcome.NOT_REPRODUCED
    assert outcomes(results(alexnet=0.3))["tf32-vgg16"] is Outcome.NOT_RUN


def test_a_difference_that_rounding_does_not_make_refutes_it():
    found = results(alexnet=1.2)
    found[0].value.mard[16] = found[0].value.mard[10]
    assert outcomes(found)["finer-is-nearer"] is Outcome.NOT_REPRODUCED


def test_table_and_figure_are_drawn():
    found = results(alexnet=1.2, vgg16=0.4)
    rows = mantissa.rows(found)
    assert len(mantissa.table(rows)) == 4 and mantissa.figure(rows, found).axes
