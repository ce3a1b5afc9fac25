import numpy as np
import pytest
import torch

from reproduce.metrics.accuracy import topk_hits
from reproduce.metrics.agreement import completeness_gap, mard, relative_l1
from reproduce.metrics.statistics import difference_interval, log_log_slope, mean_interval


def test_mard_is_a_ratio_of_batch_means():
    reference = torch.tensor([[4.0, 0.0], [0.0, 4.0]])
    other = torch.tensor([[2.0, 0.0], [0.0, 4.0]])
    assert mard(reference, other).item() == pytest.approx(0.5 / (2 + 1e-7))
    assert mard(other, reference).item() == pytest.approx(0.5 / (1.5 + 1e-7))  # not symmetric


def test_relative_l1_is_per_image():
    reference = torch.tensor([[1.0, -1.0], [0.0, 0.0], [0.0, 0.0]])
    other = torch.tensor([[0.0, -1.0], [0.0, 0.0], [0.0, 1.0]])
    assert relative_l1(reference, other).tolist() == [0.5, 0.0, float("inf")]


def test_completeness_gap_is_relative_to_the_change_of_the_output():
    gap = completeness_gap(torch.tensor([[1.0, 2.0], [1.0, 0.0]]), torch.tensor([4.0, -1.0]))
    assert gap.tolist() == [0.25, 2.0]


def test_topk_hits():
    logits = torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [float("nan")] * 3])
    targets = torch.tensor([1, 2, 0])
    assert topk_hits(logits, targets, 1).tolist() == [False, True, False]
    assert topk_hits(logits, targets, 2).tolist() == [True, True, False]
    assert topk_hits(logits, targets, 5).tolist() == [True, True, False]
    with pytest.raises(ValueError, match="k must be >= 1, got 0"):
        topk_hits(logits, targets, 0)


def test_the_bootstrap_interval_is_that_of_the_mean():
    sample = np.random.default_rng(1).normal(5, 2, 400)
    interval = mean_interval(sample)
    half = 1.96 * sample.std() / 20
    assert interval.value == pytest.approx(sample.mean())
    assert interval.low == pytest.approx(sample.mean() - half, abs=0.2 * half)
    assert interval.high == pytest.approx(sample.mean() + half, abs=0.2 * half)
    assert interval == mean_interval(sample) and interval.n == 400


def test_degenerate_samples_have_defined_intervals():
    assert mean_interval([3.0]).columns() == {"value": 3.0, "low": 3.0, "high": 3.0, "n": 1}
    assert mean_interval([2.0, 2.0]).low == 2.0
    with pytest.raises(ValueError, match="non-empty"):
        mean_interval([])


def test_a_paired_interval_is_narrow_where_the_pairs_agree():
    first = np.random.default_rng(2).normal(0, 10, 200)
    interval = difference_interval(first + 1, first)
    assert interval.value == pytest.approx(1) and interval.high - interval.low < 1e-9
    with pytest.raises(ValueError, match="one shape"):
        difference_interval([1.0], [1.0, 2.0])


def test_log_log_slope_of_a_power():
    slope, error = log_log_slope([1, 2, 4, 8], [3 * k**-0.5 for k in (1, 2, 4, 8)])
    assert slope == pytest.approx(-0.5) and error < 1e-9
