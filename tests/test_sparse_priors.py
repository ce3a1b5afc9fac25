"""Made-up tables for attribution priors: what is drawn, what the control sees, and that each claim can come out either way."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from reproduce.claims import Outcome, judge
from reproduce.experiment import Experiment
from reproduce.prior_comparison import Measurement, Training
from reproduce.studies import sparse_priors as study
from reproduce.studies.sparse_priors import METHODS, ON_SUPPORT, Level, Protocol, draw
from reproduce.tasks import Result, no_progress
from reproduce.training import repetitions

TINY = Training(epochs=2, hidden=(8, 4, 4))
PROTOCOL = Protocol(study.LEVELS, repetitions=3, people=4_000, training=TINY)


def test_a_table_of_rare_columns_is_what_it_is_called():
    people = draw(Level("rare", 6), PROTOCOL, seed=0)
    numbers, rare = people.features[:, : PROTOCOL.numbers], people.features[:, PROTOCOL.numbers :]
    assert people.features.shape == (4_000, PROTOCOL.columns) and set(np.unique(rare)) == {0, 1}
    low, high = PROTOCOL.rates
    assert low - 0.005 < rare.mean(0).min() and rare.mean(0).max() < high + 0.01
    assert np.abs(numbers.std(0) - 1).max() < 0.05 and 0.45 < people.labels.mean() < 0.55
    assert (draw(Level("rare", 6), PROTOCOL, seed=0).features == people.features).all()
    assert not (draw(Level("rare", 6), PROTOCOL, seed=1).features == people.features).all()


@pytest.mark.parametrize("level", [Level("rare", 6), Level("rare", 120), Level("numbers", 20)], ids=str)
def test_the_outcome_depends_on_the_columns_that_matter_and_on_no_other(level):
    people = draw(level, PROTOCOL, seed=3)
    units = (people.features - people.features.mean(0)) / people.features.std(0)
    weights = np.linalg.lstsq(units, people.labels - people.labels.mean(), rcond=None)[0]
    inside, outside = np.abs(weights[: level.support]), np.abs(weights[level.support :])
    assert inside.min() > (outside.max() if len(outside) else 0)
    assert 0.82 < roc_auc_score(people.labels, units[:, : level.support] @ np.sign(weights[: level.support])) < 0.9


@pytest.mark.parametrize("level", [Level("odd", 2), Level("rare", 0), Level("rare", 121)])
def test_a_level_that_makes_no_sense_is_refused(level):
    with pytest.raises(ValueError, match="rare or numbers, with 1 to 120"):
        draw(level, PROTOCOL, seed=0)


class Here:
    device, seed = torch.device("cpu"), 0


def test_all_methods_of_a_level_see_the_same_tables_and_the_control_what_matters_alone(monkeypatch):
    seen = []

    def train_and_test(people, prior, training, numbers, *rest):
        seen.append((people.features.shape[1], people.features[:, :6].sum(), numbers))
        tested = repetitions.Tested([0.7], [0.7], [0.5], [0.5], [0])
        return Measurement(prior.strength, tested, [False], {"sparse-table": "hash"})

    monkeypatch.setattr(study, "train_and_test", train_and_test)
    for method in ("unregularised", ON_SUPPORT):
        about = study.Configuration(Level("rare", 6), method, METHODS[method])
        found = study.measure(Experiment(Here(), about, PROTOCOL, no_progress))
        assert found.tested.test_auc == [0.7] * 3
    plain, control = seen[:3], seen[3:]
    assert [entry[1:] for entry in plain] == [entry[1:] for entry in control]
    assert {entry[0] for entry in plain} == {120} and {entry[0] for entry in control} == {6}
    assert len({entry[1] for entry in plain}) == 3  # each repetition has a table of its own


def test_it_trains():
    about = study.Configuration(Level("rare", 6), "x_gradient", replace(METHODS["x_gradient"], strength=0.1))
    protocol = replace(PROTOCOL, people=260, repetitions=2)
    found = study.measure(Experiment(Here(), about, protocol, no_progress))
    assert found.strength == 0.1 and len(found.tested.test_auc) == 2 and found.data == {}


# --- claims on made-up repetitions ---


def results(gains):
    """``gains``: (level's kind and support, method) -> test ROC-AUC above 0.6."""
    out, n = [], 12
    for level in study.LEVELS:
        for number, (method, prior) in enumerate(METHODS.items()):
            noise = np.random.default_rng(number).normal(0, 0.002, n)
            auc = 0.6 + gains.get((level.kind, level.support, method), 0.0) + noise
            for strength in (0.1, 1.0) if prior.attribution else (0.0,):
                tested = repetitions.Tested(
                    list(auc - strength / 10), [0.7 - strength / 10] * n, [0.5] * n, [0.5] * n, [1] * n
                )
                about = study.Configuration(level, method, replace(prior, strength=strength))
                out.append(Result(about, Measurement(strength, tested, [False] * n, {}), 1.0, {}))
    return out


def outcomes(gains):
    return {f.claim.id: f.outcome for f in judge(study.STUDY.claims, study.rows(results(gains)))}


SPARSE = {("rare", n, m): 0.08 for n in study.SUPPORTS for m in ("x_gradient", "expected_gradients")}


def test_each_claim_can_come_out_either_way():
    assert set(outcomes(SPARSE).values()) == {Outcome.REPRODUCED}
    found = outcomes({})
    assert found["helps-where-sparse-and-rare"] == Outcome.NOT_REPRODUCED
    assert found["better-than-gradient-where-sparse"] == Outcome.NOT_REPRODUCED
    found = outcomes({("rare", n, "expected_gradients"): 0.08 for n in study.SUPPORTS})
    assert found["as-good-as-eg-where-sparse"] == Outcome.NOT_REPRODUCED
    found = outcomes({("rare", 120, "x_gradient"): 0.08, ("numbers", 6, "x_gradient"): 0.08})
    assert found["no-help-where-dense"] == found["no-help-without-rare-columns"] == Outcome.NOT_REPRODUCED


def test_a_table_and_a_figure_are_made():
    rows = study.rows(results(SPARSE))
    assert rows.groupby(["kind", "support", "method"])["chosen"].sum().gt(0).all()
    assert len(study.table(rows)) == rows["metric"].isin(["test_auc", "test_auc_difference"]).sum()
    assert study.figure(rows, results(SPARSE))
