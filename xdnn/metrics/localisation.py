"""Does an attribution point at the pixels that decide the class? Metrics against a true mask.

    maps    (B, H, W) float: what ranks the pixels, e.g. an attribution's mean over channels, or its magnitude.
    masks   (B, H, W) bool: the pixels that decide the class; at least one in each image.

Each returns (B,), unit-free in 0..1, higher is better. Equal values count as their average over all orders of them,
so a constant map scores what chance scores: the mask's share of the image.
"""

import torch
from torch import Tensor

from xdnn.metrics.metric import Metric


def mass_accuracy(maps: Tensor, masks: Tensor) -> Tensor:
    """Share of the positive relevance that lies in the mask (Arras, Osman, Samek 2022); 0 where nothing is positive."""
    _check(maps, masks)
    relevance = maps.clamp_min(0).flatten(1)
    inside = (relevance * masks.flatten(1)).sum(1)
    return (inside / relevance.sum(1)).where(inside > 0, inside.new_zeros(()))


def rank_accuracy(maps: Tensor, masks: Tensor) -> Tensor:
    """Share of the K highest pixels that lie in the mask, K being the mask's size (Arras, Osman, Samek 2022)."""
    values, inside = _check(maps, masks)
    size = inside.sum(1, keepdim=True)
    lowest = values.sort(dim=1, descending=True).values.gather(1, size - 1)
    above, tied = values > lowest, values == lowest
    free = size - above.sum(1, keepdim=True)  # places that are left for the tied pixels
    share = (tied & inside).sum(1) / tied.sum(1)
    return ((above & inside).sum(1) + share * free.squeeze(1)) / size.squeeze(1)


def pointing_game(maps: Tensor, masks: Tensor) -> Tensor:
    """Is the highest pixel in the mask (Zhang et al. 2016, without their tolerance of 15 px)? Of ties, the share."""
    values, inside = _check(maps, masks)
    highest = values == values.amax(1, keepdim=True)
    return (highest & inside).sum(1) / highest.sum(1)


def average_precision(maps: Tensor, masks: Tensor) -> Tensor:
    """Area under the precision-recall curve as the step-wise sum of precision at each true pixel's threshold."""
    values, inside = _check(maps, masks)
    values, order = values.sort(dim=1, descending=True)
    hits = inside.gather(1, order)
    found = hits.cumsum(1)
    place = torch.arange(values.shape[1], device=values.device)
    last = torch.cat([values[:, 1:] != values[:, :-1], hits.new_ones(len(hits), 1)], 1)  # of its group of equal values
    end = place.where(last, place[-1]).flip(1).cummin(1).values.flip(1)
    precision = found.gather(1, end).to(values) / (end + 1)
    return (precision * hits).sum(1) / found[:, -1]


def _check(maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Both flat, (B, P). Raises ValueError where they do not fit, a map is not finite or a mask is empty."""
    if maps.shape != masks.shape or masks.dtype != torch.bool:
        raise ValueError(f"masks must be bool {tuple(maps.shape)}, got {masks.dtype} {tuple(masks.shape)}")
    values, inside = maps.flatten(1), masks.flatten(1)
    for bad, what in (
        (~torch.isfinite(values).all(1), "the map of image {} has NaN or infinity"),
        (~inside.any(1), "the mask of image {} is empty: there is nothing to find"),
    ):
        if bad.any():
            raise ValueError(what.format(int(bad.nonzero()[0])))
    return values, inside


METRICS = {
    "mass": Metric("mass accuracy", "", "higher", "mask", mass_accuracy),
    "rank": Metric("rank accuracy", "", "higher", "mask", rank_accuracy),
    "pointing": Metric("pointing game", "", "higher", "mask", pointing_game),
    "ap": Metric("average precision", "", "higher", "mask", average_precision),
}
