"""Decoy-MNIST: what the shortcut is, what the prior trains, and that it unlearns the shortcut."""

import pytest
import torch
from torch import nn

from reproduce.claims import Outcome, judge
from reproduce.datasets import decoy
from reproduce.experiment import Experiment
from reproduce.studies import decoy as study
from reproduce.studies.decoy import share_inside
from reproduce.tasks import Result, no_progress
from reproduce.training import right_reasons
from xdnn import is_homogeneous


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


def test_a_share_of_nan_is_refused():
    attributions = torch.full((1, 1, 2, 2), torch.nan)
    with pytest.raises(ValueError, match="NaN or infinite"):
        share_inside(attributions, torch.ones(1, 1, 2, 2, dtype=torch.bool))


# --- the study ---


class Here:
    device, seed = torch.device("cpu"), 0


def experiment(method, protocol, seeds=(0,)):
    return Experiment(Here(), study.Configuration(method, seeds), protocol, no_progress)


def test_the_strength_is_the_smallest_of_the_best_and_says_where_it_lies_on_the_grid(monkeypatch):
    scores = {1.0: 70.0, 10.0: 90.0, 100.0: 90.0, 1000.0: 95.0}
    monkeypatch.setattr(study, "train", lambda experiment, name, seed, strength, *rest: (strength, []))
    monkeypatch.setattr(study, "accuracy", lambda net, shown, device: scores[net])
    inside = study.choose(experiment("rrr", study.Protocol(strengths=(1.0, 10.0, 100.0))))
    assert (inside.strength, inside.at_edge, inside.scores) == (10.0, False, [70.0, 90.0, 90.0])
    assert study.choose(experiment("rrr", study.Protocol(strengths=(1.0, 10.0, 1000.0)))).at_edge
    assert study.choose(experiment("rrr", study.Protocol(strengths=(10.0, 1.0)))).at_edge


def test_a_method_is_measured_with_the_strength_that_was_chosen(monkeypatch):
    given = []

    def train(experiment, name, seed, strength, epochs, progress):
        given.append((name, seed, strength, epochs))
        return right_reasons.build("x"), [8.0, 8.0]

    monkeypatch.setattr(study, "train", train)
    protocol = study.Protocol(epochs=2, mass_images=5, mass_steps=2)
    found = study.measure(experiment("x_gradient", protocol, (0, 1)), study.Choice(10.0, True, []))
    assert given == [("x_gradient", 0, 10.0, 2), ("x_gradient", 1, 10.0, 2)]
    assert (found.strength, found.at_edge) == (10.0, True)
    assert len(found.accuracy) == len(found.mass) == len(found.data) == 2


def test_every_method_trains_for_an_epoch_in_each_round_and_the_first_round_is_not_kept(monkeypatch):
    given = []

    def train(experiment, name, seed, strength, epochs, progress):
        given.append((name, epochs))
        return None, [float(len(given))]

    monkeypatch.setattr(study, "train", train)
    found = study.clock(experiment("all", study.Protocol(rounds=2)))
    count = len(study.METHODS)
    assert given == [(name, 1) for name in study.METHODS] * 3
    assert found.seconds == {n: [count + i + 1.0, 2 * count + i + 1.0] for i, n in enumerate(study.METHODS)}


ACCURACY = {"plain": 77.0, "plain_x": 77.0, "honest": 90.0, "honest_x": 90.0}
COST = {"plain": 1.0, "plain_x": 1.0, "honest": 1.0, "honest_x": 1.0, "expected_gradients_8": 20.0}
COST |= {"integrated_gradients_8": 20.0}


def results(accuracy=None, cost=None):
    out = []
    for number, name in enumerate(study.METHODS):
        values = [(ACCURACY | (accuracy or {})).get(name, 89.5) + 0.1 * ((number + seed) % 3) for seed in range(8)]
        value = study.Measurement(10.0, name == "rrr", values, values, [2.0] * 8, {})
        out.append(Result(study.Configuration(name, tuple(range(8))), value, 1.0, {}))
    costs = {name: (COST | (cost or {})).get(name, 4.0) for name in study.METHODS}
    times = {name: [cost * (1 + 0.01 * number) for number in range(8)] for name, cost in costs.items()}
    out.append(Result(study.Configuration("all", (0,)), study.StepTimes(times), 1.0, {}))
    return out


def outcomes(*arguments, **options):
    return {f.claim.id: f.outcome for f in judge(study.STUDY.claims, study.rows(results(*arguments, **options)))}


def test_what_is_regained_and_what_it_costs_are_rows():
    rows = study.rows(results({"x_gradient": 83.5})).set_index(["method", "metric"])
    assert rows.loc[("x_gradient", "regained"), "value"] == pytest.approx(50, abs=1.5)
    ratio = rows.loc[("expected_gradients_8", "cost_ratio")]
    assert ratio["value"] == pytest.approx(5) and ratio["versus"] == "x_gradient"
    assert rows.loc[("rrr", "at_edge"), "value"] == 1 and rows.loc[("x_gradient", "at_edge"), "value"] == 0
    assert ("plain", "regained") not in rows.index
    shown = study.table(study.rows(results()))
    assert len(shown) == len(study.METHODS) and study.figure(study.rows(results()), results())


def test_each_claim_can_come_out_either_way():
    assert set(outcomes().values()) == {Outcome.REPRODUCED}
    assert outcomes({"plain": 85.0})["shortcut-costs"] == Outcome.NOT_REPRODUCED
    found = outcomes({"x_gradient": 80.0})
    assert found["x-gradient-regains"] == found["many-points-gain-nothing"] == Outcome.NOT_REPRODUCED
    assert found["rivals-as-accurate"] == Outcome.NOT_REPRODUCED
    found = outcomes(cost={"expected_gradients_8": 2.0, "rrr": 8.0})
    assert found["many-points-cost-more"] == found["rivals-as-cheap"] == Outcome.NOT_REPRODUCED
