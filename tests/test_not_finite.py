"""An attribution with NaN is an error with a sentence: compared with anything, NaN would read as no difference, so as perfect."""

import pytest
import torch
from conftest import generator
from torch import nn

from xdnn import input_x_gradient
from xdnn.equivalent_networks import equivalent_network
from xdnn.metrics.agreement import completeness_gap, mard, mean_differences, relative_l1
from xdnn.metrics.axioms import Subject, violations
from xdnn.metrics.faithfulness import infidelity, max_sensitivity
from xdnn.metrics.insertion_deletion import insertion_deletion
from xdnn.metrics.masks import mask_curves
from xdnn.metrics.ranking import roc_auc
from xdnn.metrics.single_deletion import rank_correlation, single_deletion

SENTENCE = "the attribution of image 2 of the batch has NaN or infinity"


def broken(values, place=2, value=float("nan")):
    values = values.clone()
    values[place].view(-1)[5] = value
    return values


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_attributions_are_refused_wherever_they_are_measured(net, batch, value):
    images, targets = batch
    bad = broken(images, value=value)

    def explain(x, t):
        return torch.cat([broken(x[:4], value=value), x[4:]])

    for measure in (
        lambda: mard(images, bad),
        lambda: mard(bad, images),
        lambda: mean_differences(images, bad),
        lambda: mean_differences(bad, images),
        lambda: relative_l1(images, bad),
        lambda: relative_l1(bad, images),
        lambda: completeness_gap(bad, torch.ones(4)),
        lambda: infidelity(net, images, targets, bad, generator=generator()),
        lambda: max_sensitivity(explain, images, targets, generator=generator()),
        lambda: max_sensitivity(
            lambda x, t: x if len(x) == 4 else explain(x, t), images, targets, generator=generator()
        ),
        lambda: insertion_deletion(net, images, bad),
        lambda: mask_curves(net, images, targets, bad),
        lambda: single_deletion(net, images, targets, bad),
    ):
        with pytest.raises(ValueError, match=SENTENCE):
            measure()


def test_changes_of_the_output_and_scores_are_refused_too():
    with pytest.raises(ValueError, match="the change of the output of image 1 is NaN or infinity"):
        completeness_gap(torch.ones(2, 3), torch.tensor([1.0, float("nan")]))
    with pytest.raises(ValueError, match="a score is NaN or infinity"):
        roc_auc(torch.tensor([0.1, float("nan")]), torch.tensor([True, False]))
    with pytest.raises(ValueError, match="what is ranked of image 1 of the batch has NaN or infinity"):
        rank_correlation(torch.rand(2, 4), torch.tensor([[1.0, 2, 3, 4], [1, 2, float("nan"), 4]]))


@pytest.fixture
def subject(net, batch):
    images, targets = batch
    alive = torch.ones_like(images[0])
    return Subject(net, equivalent_network(net, generator()), images, targets, alive, images, 0.3, (0.7, -1.3))


class Counted:
    """Input x Gradient that returns NaN at its nth call."""

    def __init__(self, bad: int) -> None:
        self.bad, self.calls = bad, 0

    def __call__(self, net: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        found = input_x_gradient(net, inputs, targets)
        return broken(found) if self.calls == self.bad else found


@pytest.mark.parametrize("bad", [1, 2, 3, 4])
def test_no_axiom_holds_for_nan(subject, bad):
    with pytest.raises(ValueError, match="the attribution of input 2 has NaN or infinity"):
        violations(Counted(bad), subject, None)


def test_no_axiom_holds_where_the_output_is_nan(subject):
    with pytest.raises(ValueError, match="the change of the output of draw 0 is NaN or infinity"):
        violations(input_x_gradient, subject, lambda net: torch.full((4,), float("nan")))
