"""The six mask metrics of X-DNN Sec. 4.2: show a net only what an attribution ranks high, or only what it ranks low.

The order of the pixels is that of the attribution's mean over channels: "positive" ranks its positive values,
"negative" those of its negation, "absolute" its magnitudes. Values that are not positive in an order are never shown.
With n ranked pixels and k = min(floor(fraction * H * W), n), *keep* shows the k highest of them and *remove* the k
lowest; every other pixel is that of a blurred image (released code: imagenet/attribution_metrics.py). So each mask is
an interval of ranks, and a metric is an area:

    KPM, KNM, RPM, RNM   area under the target logit over the fraction shown; unit: logits
    KAM, RAM             area under top-1 accuracy in percent; unit: %

over 16 fractions, geometric from 0.01 to 1, by the trapezoid rule on a linear axis. At most 96 forward passes an
image: masks that are the same (k is capped by n, and then keep and remove meet) are passed once.

Where the released code leaves it open: equal values rank in row-major order, the first counting as higher, so a
constant positive map shows the picture from its top; an order without a ranked pixel shows the blurred image only.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from xdnn.arguments import checks_arguments
from xdnn.chunking import chunk_size
from xdnn.logits import all_logits, check_finite, of_targets
from xdnn.memory_format import is_channels_last
from xdnn.metrics.metric import Metric

FRACTIONS = np.geomspace(0.01, 1.0, 16)
ORDERS = ("positive", "negative", "absolute")

# At 224 px: window 51 and exp(-(d / (2 * 41))^2), a Gaussian of standard deviation 41 * sqrt(2) = 57.98 px, reflected
# at the border, on the normalised image. At another shorter side the window's radius and the deviation are scaled in
# proportion.
BLUR_SIDE, BLUR_RADIUS, BLUR_SIGMA = 224, 25, 41 * math.sqrt(2)


@checks_arguments
def mask_metrics(
    model: nn.Module, inputs: Tensor, targets: Tensor, attributions: Tensor, *, chunk: int | None = None
) -> Tensor:
    """The six metrics of each image, (B, 6) in the order of METRICS: areas under ``mask_curves``.

    The paper's number is the mean over images: the area under a mean curve is the mean of the areas.
    """
    return area(mask_curves(model, inputs, targets, attributions, chunk=chunk))


def area(curves: Tensor) -> Tensor:
    """Trapezoid areas over FRACTIONS of curves (..., 16)."""
    return torch.trapezoid(curves, torch.from_numpy(FRACTIONS).to(curves), dim=-1)


@checks_arguments
@torch.no_grad()
def mask_curves(
    model: nn.Module, inputs: Tensor, targets: Tensor, attributions: Tensor, *, chunk: int | None = None
) -> Tensor:
    """What the net makes of the masked images at each fraction, for each metric.

    Args:
        inputs:       (B, C, H, W) float, normalised; H and W of at least 2 px.
        targets:      (B,) int64.
        attributions: (B, C, H, W), or already their mean over channels, (B, H, W).
        chunk:        most images alive at once; memory grows with it, the result does not change. Default: as for
                      integrated_gradients.

    Returns:
        (B, 6, 16): target logits; for KAM and RAM 100 where the target is the largest logit, else 0.

    Raises:
        ValueError: shapes that do not fit, attributions with NaN or infinity, chunk below 1.
    """
    maps = _pixel_maps(inputs, attributions)
    chunk = chunk_size(model, inputs, chunk)
    parts = []
    for first in range(0, len(inputs), chunk):
        part = slice(first, first + chunk)
        parts.append(_curves(model, inputs[part], targets[part], maps[part], chunk))
    return torch.cat(parts) if parts else inputs.new_zeros(0, len(METRICS), len(FRACTIONS))


def _pixel_maps(inputs: Tensor, attributions: Tensor) -> Tensor:
    maps = attributions.mean(1) if attributions.ndim == 4 else attributions
    if maps.shape != inputs[:, 0].shape:
        raise ValueError(f"attributions {tuple(attributions.shape)} do not fit inputs {tuple(inputs.shape)}")
    check_finite(maps)
    return maps


def _curves(model: nn.Module, inputs: Tensor, targets: Tensor, maps: Tensor, chunk: int) -> Tensor:
    ranks, counts = pixel_ranks(maps)
    image, order, first, stop, back = _distinct(rank_intervals(counts, ranks.shape[-1]), ranks.shape[-1])
    logits, hits = [], []
    for part, shown in _masked(inputs, blur(inputs), ranks, (image, order, first, stop), chunk):
        output, target = all_logits(model, shown), targets[part]
        logits.append(of_targets(output, target))
        hits.append(output.argmax(1) == target)
    logit, hit = torch.cat(logits)[back], 100 * torch.cat(hits)[back].to(maps.dtype)  # (B, 2, 3, 16)
    logit[:, :, 2] = hit[:, :, 2]
    return logit.flatten(1, 2)


def pixel_ranks(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Each pixel's place in each order and how many pixels are ranked: (B, 3, P) int32 from 0, (B, 3) int64."""
    flat = maps.flatten(1)
    values = torch.stack([flat, -flat, flat.abs()], 1)  # (B, 3, P)
    order = values.sort(dim=2, descending=True, stable=True).indices
    place = torch.arange(flat.shape[1], dtype=torch.int32, device=maps.device).expand(order.shape)
    return torch.empty_like(order, dtype=torch.int32).scatter_(2, order, place), (values > 0).sum(2)


def rank_intervals(counts: Tensor, pixels: int) -> Tensor:
    """The ranks that each mask shows, first and one past the last: (B, 2 keep or remove, 3 orders, 16 fractions, 2)."""
    wanted = torch.from_numpy((FRACTIONS * pixels).astype(np.int64)).to(counts.device)
    count = counts[:, :, None]
    shown = torch.minimum(wanted, count)  # (B, 3, 16)
    keep = torch.stack([torch.zeros_like(shown), shown], -1)
    remove = torch.stack([count - shown, count.expand_as(shown)], -1)
    return torch.stack([keep, remove], 1)


def _distinct(intervals: Tensor, pixels: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Image, order, first and stop of each distinct mask, and which of them each of (B, 2, 3, 16) is."""
    first, stop = intervals.unbind(-1)
    shows = first < stop
    first, stop = first * shows, stop * shows  # all empty intervals are one
    row = torch.arange(len(first), device=first.device)[:, None] * 3 + torch.arange(3, device=first.device)  # (B, 3)
    code = (row[:, None, :, None] * (pixels + 1) + first) * (pixels + 1) + stop
    code, back = code.unique(return_inverse=True)
    row, first, stop = code // (pixels + 1) ** 2, code // (pixels + 1) % (pixels + 1), code % (pixels + 1)
    return row // 3, row % 3, first.int(), stop.int(), back


def _masked(
    inputs: Tensor, blurred: Tensor, ranks: Tensor, masks: tuple[Tensor, Tensor, Tensor, Tensor], chunk: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Chunks of masked images (K, C, H, W) in the inputs' memory layout, each with the index of its image.

    They are composed channels last, where a mask's row is read once for all channels.
    """
    as_inputs = is_channels_last(inputs)
    size = inputs.shape[2:]
    clear, hidden = (t.permute(0, 2, 3, 1).contiguous() for t in (inputs, blurred))  # (B, H, W, C)
    for image, order, first, stop in zip(*(t.split(chunk) for t in masks), strict=True):
        rank = ranks[image, order]  # (K, P)
        shown = ((rank >= first[:, None]) & (rank < stop[:, None]))[:, :, None].expand(-1, -1, inputs.shape[1])
        shown = shown.contiguous().view(-1, *size, inputs.shape[1])  # of the images' own shape: composed faster
        composed = torch.where(shown, clear.index_select(0, image), hidden.index_select(0, image))
        images = composed.permute(0, 3, 1, 2)
        yield image, images if as_inputs else images.contiguous()


def blur(images: Tensor) -> Tensor:
    """The protocol's Gaussian blur of (B, C, H, W), as one matrix for the rows and one for the columns.

    Raises:
        ValueError: a side below 2 px, which cannot be reflected.
    """
    height, width = images.shape[2:]
    side = min(height, width)
    if side < 2:
        raise ValueError(f"images must be at least 2 px wide and high, got {height} x {width}")
    radius = max(1, round(BLUR_RADIUS * side / BLUR_SIDE))
    rows, columns = (_blur_matrix(n, radius, BLUR_SIGMA * side / BLUR_SIDE).to(images) for n in (height, width))
    return rows @ images @ columns.T


def _blur_matrix(length: int, radius: int, sigma: float) -> Tensor:
    """(length, length) float64: row i holds the weights of the pixels whose mean is pixel i, reflection folded in."""
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-((offsets.double() / sigma) ** 2) / 2)
    reflected = (torch.arange(length)[:, None] + offsets).abs()
    reflected = torch.where(reflected < length, reflected, 2 * (length - 1) - reflected)
    matrix = torch.zeros(length, length, dtype=torch.float64)
    return matrix.scatter_add_(1, reflected, (weights / weights.sum()).expand(length, -1))


# In the order of ``mask_metrics``: keep before remove, orders as in ORDERS. The directions of RPM and RNM are ours:
# the paper prints no column of them.
METRICS = {
    "kpm": Metric("KPM", "logits", "higher", "masking"),
    "knm": Metric("KNM", "logits", "lower", "masking"),
    "kam": Metric("KAM", "%", "higher", "masking"),
    "rpm": Metric("RPM", "logits", "lower", "masking"),
    "rnm": Metric("RNM", "logits", "higher", "masking"),
    "ram": Metric("RAM", "%", "lower", "masking"),
}
