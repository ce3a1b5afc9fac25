"""Metrics against a true mask: by hand, against scikit-learn, and by chance where the map says nothing."""

import numpy as np
import pytest
import torch
from conftest import generator
from sklearn.metrics import average_precision_score

from xdnn.metrics.localisation import METRICS, average_precision, mass_accuracy, pointing_game, rank_accuracy

MAP = torch.tensor([[[4.0, 3.0], [1.0, -2.0]]])


def mask(*rows: list[int]) -> torch.Tensor:
    return torch.tensor([rows], dtype=torch.bool)


def test_by_hand():
    inside = mask([1, 0], [1, 0])  # the pixels worth 4 and 1
    assert mass_accuracy(MAP, inside).item() == pytest.approx(5 / 8)
    assert rank_accuracy(MAP, inside).item() == 0.5  # of the two highest, 4 and 3
    assert pointing_game(MAP, inside).item() == 1 and pointing_game(-MAP, inside).item() == 0
    assert average_precision(MAP, inside).item() == pytest.approx((1 + 2 / 3) / 2)


def test_a_map_that_says_nothing_scores_what_chance_scores():
    flat, inside = torch.ones(1, 2, 2), mask([1, 0], [0, 0])
    assert [metric.function(flat, inside).item() for metric in METRICS.values()] == [0.25] * 4
    assert [metric.function(0 * flat, inside).item() for metric in METRICS.values()] == [0, 0.25, 0.25, 0.25]
    assert mass_accuracy(-flat, inside).item() == 0


@pytest.mark.parametrize("metric", [metric.function for metric in METRICS.values()])
def test_ties_count_as_their_average_over_all_orders(metric):
    if metric is mass_accuracy:
        pytest.skip("it does not rank")
    values = torch.randint(3, (20, 3, 4), generator=generator()).double()
    inside = torch.rand(20, 3, 4, generator=generator(1)) < 0.4
    inside[:, 0, 0] = True
    draws = [
        metric(values + 1e-6 * torch.rand(20, 3, 4, generator=generator(2 + i), dtype=torch.float64), inside)
        for i in range(4000 if metric is not average_precision else 1)
    ]
    if metric is average_precision:
        expected = [average_precision_score(m.flatten(), v.flatten()) for m, v in zip(inside, values, strict=True)]
        np.testing.assert_allclose(metric(values, inside), expected)
    else:
        np.testing.assert_allclose(metric(values, inside), torch.stack(draws).double().mean(0), atol=0.04)


def test_average_precision_is_scikit_learns():
    values = torch.randn(30, 8, 6, generator=generator(), dtype=torch.float64)
    inside = torch.rand(30, 8, 6, generator=generator(1)) < 0.3
    expected = [average_precision_score(m.flatten(), v.flatten()) for m, v in zip(inside, values, strict=True)]
    np.testing.assert_allclose(average_precision(values, inside), expected)


def test_the_truth_itself_scores_one():
    inside = torch.rand(4, 5, 7, generator=generator()) < 0.3
    assert all((metric.function(inside.double(), inside) == 1).all() for metric in METRICS.values())


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="mask of image 1 is empty"):
        rank_accuracy(MAP.repeat(2, 1, 1), torch.cat([mask([1, 0], [0, 0]), mask([0, 0], [0, 0])]))
    with pytest.raises(ValueError, match="map of image 0 has NaN"):
        pointing_game(MAP * float("nan"), mask([1, 0], [0, 0]))
    with pytest.raises(ValueError, match=r"masks must be bool \(1, 2, 2\), got torch.float32"):
        mass_accuracy(MAP, MAP)
