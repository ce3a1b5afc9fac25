"""Single deletion (Hesse, Schaub-Meyer, Roth 2024, arXiv 2407.11910): does an attribution rank the parts of an image as the net does?

The image is divided into a grid of patches. What a patch is worth to the net is how far the target logit drops when it is
replaced by a baseline; what the attribution says it is worth is its sum over the patch. The score is the rank correlation
of the two over the patches. It knows no order of removal and no other attribution, so it can be compared across nets.

On a net that was never trained on images with a missing patch it is called single deletion; on one that was, in-domain
single deletion (IDSDS).
"""

import torch
from torch import Tensor, nn

from xdnn.arguments import checks_arguments
from xdnn.chunking import chunk_size
from xdnn.logits import check_finite, target_logits
from xdnn.memory_format import index_images, match_format
from xdnn.metrics.metric import Metric

GRID = 4  # patches along each side; the paper's


@checks_arguments
def single_deletion(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    attributions: Tensor,
    *,
    baseline: float | Tensor = 0.0,
    grid: int = GRID,
    chunk: int | None = None,
) -> Tensor:
    """Rank correlation over patches of an attribution's sums and the logit's drops; (B,), -1 to 1, higher is better.

    Costs 1 + grid^2 forward passes per image. For several attributions of the same images call ``logit_drops`` once.

    Args:
        inputs:       (B, C, H, W).
        targets:      (B,) int64.
        attributions: (B, C, H, W), or (B, H, W), their mean over channels: both rank the patches alike. Signed: the raw
                      values, not their magnitudes.
        baseline:     what replaces a patch, a number or a tensor that broadcasts to inputs; the paper's is 0 of normalised
                      inputs.
        chunk:        most images evaluated at once; the result does not change.

    Raises:
        ValueError: an attribution that is not finite, or more patches along a side than pixels.
    """
    drops = logit_drops(model, inputs, targets, baseline=baseline, grid=grid, chunk=chunk)
    return rank_correlation(patch_sums(attributions, grid), drops)


@checks_arguments
@torch.no_grad()
def logit_drops(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    baseline: float | Tensor = 0.0,
    grid: int = GRID,
    chunk: int | None = None,
) -> Tensor:
    """F_target(x) - F_target(x with a patch replaced by the baseline), (B, grid^2), patches row by row. Unit: logits."""
    size = chunk_size(model, inputs, chunk)
    patch_of = patches(inputs.shape, grid).to(inputs.device)
    empty = match_format(torch.as_tensor(baseline).to(inputs).broadcast_to(inputs.shape).contiguous(), inputs)
    logits = []
    for row in torch.arange(len(inputs) * (1 + grid**2), device=inputs.device).split(size):
        image, patch = row // (1 + grid**2), row % (1 + grid**2) - 1  # patch -1: the whole image
        hidden = (patch_of == patch[:, None, None])[:, None]
        shown = torch.where(hidden, index_images(empty, image), index_images(inputs, image))
        logits.append(target_logits(model, match_format(shown, inputs), targets[image]))
    found = torch.cat(logits).view(len(inputs), 1 + grid**2) if logits else inputs.new_zeros(0, 1 + grid**2)
    return found[:, :1] - found[:, 1:]


def patch_sums(attributions: Tensor, grid: int = GRID) -> Tensor:
    """Sum of the attribution over each patch, (B, grid^2), of (B, C, H, W) or of the mean over channels (B, H, W).

    Raises:
        ValueError: an attribution that is not finite.
    """
    check_finite(attributions)
    maps = attributions.sum(1) if attributions.ndim == 4 else attributions
    patch_of = patches(maps.shape, grid).to(maps.device).flatten()
    return maps.new_zeros(len(maps), grid**2).index_add_(1, patch_of, maps.flatten(1))


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's correlation of each row of (B, n), (B,). Equal values share their mean rank.

    A row whose values are all equal ranks nothing: its correlation, which is not defined, counts as 0, what chance gives.

    Raises:
        ValueError: a value that is not finite.
    """
    for values in (first, second):
        check_finite(values, "what is ranked of image {} of the batch has NaN or infinity")
    a, b = (_ranks(values.double()) for values in (first, second))
    a, b = (ranks - ranks.mean(1, keepdim=True) for ranks in (a, b))
    scale = (a.square().sum(1) * b.square().sum(1)).sqrt()
    return ((a * b).sum(1) / scale.where(scale > 0, 1.0)).to(first.dtype)


def _ranks(values: Tensor) -> Tensor:
    """Place of each value in its row from 1, the mean of the places where several are equal; (B, n)."""
    below = (values[:, None] < values[:, :, None]).sum(2)
    equal = (values[:, None] == values[:, :, None]).sum(2)
    return below + (equal + 1) / 2


def patches(shape: torch.Size, grid: int) -> Tensor:
    """Which patch each pixel of images (..., H, W) lies in, (H, W) int64; where the side is no multiple of ``grid`` some are a pixel larger.

    Raises:
        ValueError: more patches along a side than pixels.
    """
    height, width = shape[-2:]
    if not 1 <= grid <= min(height, width):
        raise ValueError(f"grid must be in 1..{min(height, width)}, got {grid}")
    rows, columns = (torch.arange(side) * grid // side for side in (height, width))
    return rows[:, None] * grid + columns


METRICS = {"single_deletion": Metric("single deletion", "", "higher", "model", single_deletion)}
