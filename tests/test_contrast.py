"""The study of contrast on made-up predictions: its numbers, and that each claim can come out either way."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from reproduce.claims import Outcome, judge
from reproduce.datasets import Images
from reproduce.experiment import Experiment
from reproduce.nets import Net
from reproduce.studies import contrast
from reproduce.tasks import Result

NET = Net("alexnet", "regular", "blobs", 1.0, "trained", 0)
X = replace(NET, variant="x")
IMAGES = 50


def result(net: Net, right: dict[float, int]) -> Result:
    """A net that predicts class 0 for all images but the last ones; ``right``: factor -> how many are right, 0 of all."""
    predictions = {factor: [0] * count + [1] * (IMAGES - count) for factor, count in right.items()}
    return Result(net, contrast.Measurement([0] * IMAGES, predictions), 1.0, {})


REGULAR = result(NET, {1.0: 40, 0.5: 35, 0.1: 10})
CONSTANT = result(X, {1.0: 30, 0.5: 30, 0.1: 30})


def value(rows, **where):
    for column, wanted in where.items():
        rows = rows[rows[column] == wanted]
    assert len(rows) == 1
    return rows.iloc[0]["value"]


def outcomes(*results: Result) -> dict[str, Outcome]:
    return {f.claim.id: f.outcome for f in judge(contrast.STUDY.claims, contrast.rows(results))}


def test_the_input_is_scaled_and_the_true_class_is_looked_for():
    """A bias for class 1 that class 0, the bright pixels, must beat: it does at full contrast and at half, not at a tenth."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0] * 12, [0.0] * 12]) / 12)
        model[1].bias.copy_(torch.tensor([0.0, 0.3]))
    images = Images(torch.full((2, 3, 2, 2), 255, dtype=torch.uint8), torch.tensor([0, 1]), (0.0,) * 3, (1.0,) * 3, 2)
    protocol = contrast.Protocol(images=2, factors=(1.0, 0.5, 0.1))
    experiment = Experiment(ContextOnCpu(), NET, protocol, lambda share: None)
    found = contrast.measure(model, images, protocol, experiment)
    assert found.targets == [0, 1] and found.predictions == {1.0: [0, 0], 0.5: [0, 0], 0.1: [1, 1]}
    assert contrast.hits(found, 1.0) == [100, 0] and contrast.hits(found, 0.1) == [0, 100]
    assert contrast.moved(found, 0.1, 1.0) == contrast.ever_moved(found) == [100, 100]


class ContextOnCpu:
    device = torch.device("cpu")


def test_changes_are_paired_by_image_and_have_the_right_sign():
    rows = contrast.rows([REGULAR, CONSTANT])
    assert value(rows, variant="regular", factor=0.1, metric="top1") == 20
    assert value(rows, variant="regular", factor=0.1, metric="top1_change") == -60
    assert value(rows, variant="x", factor=0.1, metric="top1_over_regular") == 40
    assert value(rows, variant="regular", metric="ever_changed") == 60
    assert set(rows["n"]) == {IMAGES} and "seed" not in rows


def test_trainings_of_one_net_are_one_line():
    other = result(replace(NET, seed=1), {1.0: 50, 0.5: 35, 0.1: 10})
    rows = contrast.rows([REGULAR, other])
    row = rows[(rows["factor"] == 1.0) & (rows["metric"] == "top1")].iloc[0]
    assert (row["value"], row["trainings"]) == (90, 2) and row["spread"] == pytest.approx(14.14, abs=0.01)


def test_the_claims_hold_as_in_the_paper():
    assert outcomes(REGULAR, CONSTANT) == dict.fromkeys(("x-constant", "regular-loses"), Outcome.REPRODUCED)


def test_one_image_whose_prediction_changes_refutes_the_theorem():
    found = outcomes(REGULAR, result(X, {1.0: 30, 0.5: 31, 0.1: 30}))
    assert found["x-constant"] is Outcome.NOT_REPRODUCED


@pytest.mark.parametrize("kept, outcome", [(40, Outcome.NOT_REPRODUCED), (37, Outcome.INCONCLUSIVE)])
def test_a_regular_net_that_keeps_its_accuracy_is_said_to(kept, outcome):
    assert outcomes(result(NET, {1.0: 40, 0.5: 40, 0.1: kept}))["regular-loses"] is outcome


def test_nets_of_two_data_sets_are_two_panels():
    elsewhere = [replace(r, about=replace(r.about, dataset="cifar10")) for r in (REGULAR, CONSTANT)]
    results = [REGULAR, CONSTANT, *elsewhere]
    rows = contrast.rows(results)
    assert len(contrast.table(rows)) == 4
    assert len(contrast.figure(rows, results).axes) == 2
