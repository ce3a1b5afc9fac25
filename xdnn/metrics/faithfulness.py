"""Infidelity and max-sensitivity (Yeh et al. 2019) with draws from an explicit generator.

Equal to captum's ``infidelity`` (``normalize=True``) and ``sensitivity_max`` for the same draws. Captum asks for all
draws of an image in turn, images in order; so do these.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from xdnn.arguments import checks_arguments
from xdnn.chunking import chunk_size
from xdnn.logits import check_finite, target_logits
from xdnn.memory_format import index_images, match_format
from xdnn.metrics.metric import Metric

SQUARE = 0.25  # side of the removed square, as a share of the image's shorter side
RADIUS, SAMPLES = 0.02, 10  # captum's defaults: largest change of an input entry, and draws per image


@checks_arguments
@torch.no_grad()
def infidelity(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    attributions: Tensor,
    *,
    generator: torch.Generator,
    chunk: int | None = None,
) -> Tensor:
    """How badly an attribution predicts what removing a square costs; (B,), lower is better.

    Yeh et al. 2019, square removal:

        min_b mean_squares [(b * sum_{i in square} A_i - (F(x) - F(x with the square at 0)))^2]

    over SAMPLES random squares. b is one factor per image (captum's ``normalize``), so attributions in other units,
    such as the gradient, are measured too. Unit: logits squared. Costs 1 + SAMPLES forward passes per image.

    Args:
        inputs:       (B, C, H, W).
        targets:      (B,) int64.
        attributions: (B, C, H, W), or (B, H, W), its mean over channels: both give the same sum over a square.
        chunk:        most images evaluated at once; memory grows with it, the result does not change.

    Raises:
        ValueError: an attribution that is not finite.
    """
    check_finite(attributions)
    maps = attributions.sum(1) if attributions.ndim == 4 else attributions * inputs.shape[1]
    size = chunk_size(model, inputs, chunk)
    places = torch.rand(2, len(inputs) * SAMPLES, generator=generator).to(inputs)
    parts = zip(inputs.split(size), targets.split(size), strict=True)
    whole = torch.cat([target_logits(model, x, t) for x, t in parts])
    predicted, removed = [], []
    for row in torch.arange(len(inputs) * SAMPLES, device=inputs.device).split(size):
        image, square = row // SAMPLES, _squares(places[:, row], *inputs.shape[2:])
        shown = match_format(index_images(inputs, image) * (1 - square), inputs)
        predicted.append((maps[image] * square[:, 0]).flatten(1).sum(1))
        removed.append(whole[image] - target_logits(model, shown, targets[image]))
    a, f = (torch.cat(values).view(-1, SAMPLES) for values in (predicted, removed))
    aa, af, ff = a.square().sum(1), (a * f).sum(1), f.square().sum(1)
    b = af / aa.where(aa != 0, 1.0)
    return (b * b * aa - 2 * b * af + ff) / SAMPLES


def _squares(places: Tensor, height: int, width: int) -> Tensor:
    """(N, 1, H, W), one on a square for each of ``places`` (2, N): vertical and horizontal, in 0..1."""
    side = max(1, round(SQUARE * min(height, width)))

    def within(place: Tensor, length: int) -> Tensor:
        first = (place * (length - side + 1)).floor()[:, None]
        pixel = torch.arange(length, device=places.device)
        return (pixel >= first) & (pixel < first + side)  # (N, length)

    return (within(places[0], height)[:, None, :, None] & within(places[1], width)[:, None, None, :]).to(places)


@torch.no_grad()
def max_sensitivity(
    explain: Callable[[Tensor, Tensor], Tensor], inputs: Tensor, targets: Tensor, *, generator: torch.Generator
) -> Tensor:
    """Largest relative change of an attribution under small noise (Yeh et al. 2019); (B,), unit-free, lower is better.

        max_draws ||A(x + e) - A(x)|| / ||A(x)||,  e uniform in +-RADIUS, SAMPLES draws

    A stochastic method's own noise counts. Where the attribution of x is zero, the change itself. Costs 1 + SAMPLES
    attributions per image, all draws in one call of ``explain``, which divides them as it sees fit.

    Raises:
        ValueError: an attribution that is not finite.
    """
    image = torch.arange(len(inputs), device=inputs.device).repeat_interleave(SAMPLES)
    own = explain(inputs, targets)
    repeated = index_images(inputs, image)
    noise = torch.rand(repeated.shape, generator=generator, dtype=inputs.dtype).to(inputs.device)
    shaken = explain(match_format(repeated + RADIUS * (2 * noise - 1), inputs), targets[image])
    check_finite(own)
    check_finite(shaken)
    change = (own[image] - shaken).flatten(1).norm(dim=1).view(-1, SAMPLES).amax(1)
    size = own.flatten(1).norm(dim=1)
    return change / size.where(size != 0, 1.0)


METRICS = {
    "infidelity": Metric("infidelity", "logits²", "lower", "model", infidelity),
    "max_sensitivity": Metric("max-sensitivity", "", "lower", "method", max_sensitivity),
}
