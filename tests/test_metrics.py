import pytest
import torch

from xdnn.metrics import METRICS, localisation, masks
from xdnn.metrics.accuracy import topk_hits
from xdnn.metrics.agreement import completeness_gap, mard, mard_by_image, relative_l1


def test_mard_is_a_ratio_of_batch_means():
    reference = torch.tensor([[4.0, 0.0], [0.0, 4.0]])
    other = torch.tensor([[2.0, 0.0], [0.0, 4.0]])
    assert mard(reference, other).item() == pytest.approx(0.5 / (2 + 1e-7))
    assert mard(other, reference).item() == pytest.approx(0.5 / (1.5 + 1e-7))  # not symmetric


def test_an_image_s_part_in_mard_is_what_leaving_it_out_changes():
    draws = torch.Generator().manual_seed(0)
    reference, other = (torch.randn(6, 3, 4, 4, generator=draws, dtype=torch.float64) for _ in range(2))
    whole, parts = mard(reference, other), mard_by_image(reference, other)
    without = torch.stack([mard(*(torch.cat([a[:i], a[i + 1 :]]) for a in (reference, other))) for i in range(6)])
    assert parts.mean().item() == pytest.approx(whole.item(), rel=1e-12) and parts.std() > 0.01
    torch.testing.assert_close(parts - parts[0], 6 * (without[0] - without))
    torch.testing.assert_close(mard_by_image(reference[:1], other[:1]), mard(reference[:1], other[:1])[None])


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


def test_every_metric_says_its_direction_and_has_a_function_or_is_one_of_several():
    assert set(localisation.METRICS) | set(masks.METRICS) | {"mard", "infidelity", "insertion", "top1"} < set(METRICS)
    for name, metric in METRICS.items():
        assert metric.label and metric.better in ("higher", "lower"), name
        assert (metric.function is None) == (metric.kind in ("masking", "axiom")), name
