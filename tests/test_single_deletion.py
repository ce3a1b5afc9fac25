"""Single deletion: equal to a loop over patches with SciPy's Spearman correlation, and exact cases by hand."""

import pytest
import torch
from conftest import generator
from scipy import stats
from torch import nn

from xdnn import METRICS, input_x_gradient
from xdnn.metrics.single_deletion import GRID, logit_drops, patch_sums, rank_correlation, single_deletion
from xdnn.passes import count_passes

close = torch.testing.assert_close


def reference(net, inputs, targets, attributions, baseline, grid=GRID):
    """One image and patch at a time."""
    scores = []
    for x, target, a in zip(inputs, targets.tolist(), attributions, strict=True):
        whole = net(x[None])[0, target].item()
        drops, sums = [], []
        for i in range(grid):
            for j in range(grid):
                rows = [r for r in range(x.shape[1]) if r * grid // x.shape[1] == i]
                columns = [c for c in range(x.shape[2]) if c * grid // x.shape[2] == j]
                removed = x.clone()
                removed[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = baseline
                drops.append(whole - net(removed[None])[0, target].item())
                sums.append(a[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].sum().item())
        scores.append(stats.spearmanr(sums, drops).statistic)
    return torch.tensor(scores, dtype=torch.float64)


@pytest.mark.parametrize("baseline", [0.0, -0.4])
@pytest.mark.parametrize("size", [16, 13])  # 13 is no multiple of 4
def test_it_is_a_loop_over_patches(net, batch, baseline, size):
    inputs, targets = batch[0][..., :size], batch[1]
    attributions = torch.randn(inputs.shape, generator=generator(), dtype=torch.float64)
    expected = reference(net, inputs, targets, attributions, baseline)
    close(single_deletion(net, inputs, targets, attributions, baseline=baseline), expected)
    close(single_deletion(net, inputs, targets, attributions.mean(1), baseline=baseline), expected)
    for chunk in (1, 5, 1000):
        close(single_deletion(net, inputs, targets, attributions, baseline=baseline, chunk=chunk), expected)


def test_of_a_linear_function_input_x_gradient_is_the_drop(batch):
    linear = nn.Sequential(nn.Flatten(), nn.Linear(768, 5)).double()
    attributions = input_x_gradient(linear, *batch)
    close(patch_sums(attributions), logit_drops(linear, *batch))
    close(single_deletion(linear, *batch, attributions), torch.ones(4, dtype=torch.float64))
    close(single_deletion(linear, *batch, -attributions), -torch.ones(4, dtype=torch.float64))


def test_a_picture_may_replace_the_patch(net, batch):
    inputs, targets = batch
    other = inputs.flip(0)
    drops = logit_drops(net, inputs, targets, baseline=other)
    removed = inputs[:1].clone()
    removed[:, :, 4:8, 12:] = other[:1, :, 4:8, 12:]
    close(drops[0, 7], net(inputs[:1])[0, targets[0]] - net(removed)[0, targets[0]])


def test_it_takes_seventeen_forward_passes(net, batch):
    with count_passes(net) as passes:
        single_deletion(net, *batch, batch[0])
    assert (passes.forward, passes.backward) == (17 * 4, 0)


def test_ranks_with_ties_are_scipys():
    first = torch.randint(4, (20, 16), generator=generator(), dtype=torch.int64).double()
    second = torch.randint(6, (20, 16), generator=generator(1), dtype=torch.int64).double()
    expected = [stats.spearmanr(a, b).statistic for a, b in zip(first, second, strict=True)]
    close(rank_correlation(first, second), torch.tensor(expected, dtype=torch.float64))


def test_a_constant_ranks_nothing(net, batch):
    """SciPy's answer is NaN, which would be the mean over all images too."""
    inputs, targets = batch
    assert not single_deletion(net, inputs, targets, torch.ones_like(inputs)).any()
    assert not single_deletion(net, torch.zeros_like(inputs), targets, inputs).any()  # nothing changes when 0 becomes 0


def test_what_does_not_fit_is_named(net, batch):
    inputs, targets = batch
    with pytest.raises(ValueError, match=r"grid must be in 1..16, got 17"):
        single_deletion(net, inputs, targets, inputs, grid=17)
    broken = inputs.clone()
    broken[2, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="the attribution of image 2 of the batch has NaN"):
        single_deletion(net, inputs, targets, broken)


def test_no_images_have_no_score(net, batch):
    inputs, targets = batch
    assert single_deletion(net, inputs[:0], targets[:0], inputs[:0]).shape == (0,)


def test_it_is_registered():
    assert METRICS["single_deletion"].function is single_deletion
