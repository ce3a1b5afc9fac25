"""Decoy-MNIST: what the shortcut is, what the prior trains, and that it unlearns the shortcut."""

import pytest
import torch
from torch import nn

from reproduce.datasets import decoy
from reproduce.studies.decoy import share_inside
from reproduce.training import right_reasons
from reproduce.xdnn import is_homogeneous


def shown(split="train", honest=False, seed=0):
    return decoy.decoy_digits(split, honest=honest, generator=torch.Generator().manual_seed(seed))


def test_the_square_gives_the_class_away_in_training_only():
    training, test = shown(), shown("test", honest=True)
    assert training.inputs.shape == (2_000, 1, 28, 28) and test.targets.bincount().tolist() == [100] * 10
    for digits, told in ((training, 1.0), (test, 0.1)):
        grey = digits.inputs[digits.squares].view(len(digits), 16)
        assert (grey == grey[:, :1]).all()
        right = (grey[:, 0] * 255 - (255 - 25 * digits.targets)).abs() < 0.01
        assert right.float().mean().item() == pytest.approx(told, abs=0.04)
    corners = training.squares.flatten(1).float().argmax(1).unique().tolist()
    assert corners == [0, 24, 24 * 28, 24 * 28 + 24]


def test_splits_share_no_digit_and_the_generator_decides_the_squares():
    pictures = {}
    for split in decoy.PER_CLASS:
        digits = shown(split)
        pictures[split] = {p.numpy().tobytes() for p in digits.inputs.masked_fill(digits.squares, 0)[:, :, 4:24]}
    assert not pictures["train"] & pictures["test"] and not pictures["validation"] & pictures["test"]
    assert shown().fingerprint() == shown().fingerprint() != shown(seed=1).fingerprint()


def test_the_penalty_and_the_share_by_hand():
    attributions = torch.tensor([[[[1.0, -2.0], [3.0, 4.0]]], [[[0.0, 0.0], [0.0, 0.0]]]])
    squares = torch.tensor([[[[True, True], [False, False]]], [[[True, True], [False, False]]]])
    assert right_reasons.penalty(attributions, squares).item() == pytest.approx((1 + 4) / 2)
    assert share_inside(attributions, squares) == pytest.approx(100 * (3 / 10 + 0) / 2)


@pytest.mark.parametrize("name", right_reasons.ATTRIBUTIONS)
def test_every_attribution_can_be_trained_through(name):
    digits = shown("validation")
    net = right_reasons.build("x" if name == "x_gradient" else "regular")
    pool, targets = digits.inputs[:20], digits.targets[:20]
    attributions = right_reasons.ATTRIBUTIONS[name](net, pool, targets, pool, torch.Generator().manual_seed(0))
    right_reasons.penalty(attributions, digits.squares[:20]).backward()
    weights = [p.grad for p in net.parameters() if p.ndim > 1]
    assert attributions.shape == pool.shape and all(g is not None and g.abs().sum() > 0 for g in weights)


def test_rrr_is_the_gradient_of_the_summed_log_probabilities():
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).double()
    x = torch.rand(3, 1, 28, 28, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours = right_reasons._rrr(net, x, torch.zeros(3).long(), x, torch.Generator())
    weight = net[1].weight  # sum_k (z_k - logsumexp z): gradient sum_k w_k - 10 sum_k p_k w_k
    expected = (weight.sum(0) - 10 * net(x).softmax(1) @ weight).view_as(x)
    torch.testing.assert_close(ours, expected)


def test_a_plain_net_takes_the_shortcut_and_the_prior_unlearns_it():
    training, test = shown(), shown("test", honest=True, seed=1)
    accuracy = {}
    for attribution, strength in (("", 0.0), ("x_gradient", 100.0)):
        net, seconds = right_reasons.train(
            "x", training, attribution, strength, torch.Generator().manual_seed(3), epochs=6
        )
        assert is_homogeneous(net, test.inputs[:4]) and len(seconds) == 6
        accuracy[attribution] = (net(test.inputs).argmax(1) == test.targets).float().mean().item()
    assert accuracy["x_gradient"] > accuracy[""] + 0.05
