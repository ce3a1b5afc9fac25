"""captum's infidelity and max-sensitivity, with draws from an explicit generator and a perturbation that fits every method."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

SQUARE = 0.25  # side of the removed square, as a share of the image's shorter side
RADIUS, SAMPLES = 0.02, 10  # captum's defaults: largest change of an input entry, and draws per image


def infidelity(
    model: nn.Module, inputs: Tensor, targets: Tensor, attributions: Tensor, *, generator: torch.Generator
) -> Tensor:
    """How badly an attribution predicts what removing a square costs (Yeh et al. 2019, square removal); (B,), lower is better.

        min_b mean_squares [(b * sum_{i in square} A_i - (F(x) - F(x with the square at 0)))^2]

    over SAMPLES random squares. b is one factor per image (captum's ``normalize``), so attributions in other units, such as the
    gradient, are judged too. Unit: logits squared.

    Args:
        attributions: (B, C, H, W), or (B, H, W), its mean over channels: both give the same sum over a square.
    """
    import captum.metrics  # half a second to import

    def remove(images: Tensor) -> tuple[Tensor, Tensor]:
        square = _squares(images, generator)
        return square.expand_as(images), images * (1 - square)

    if attributions.ndim == 3:
        attributions = attributions[:, None].expand_as(inputs)
    with torch.no_grad():
        return captum.metrics.infidelity(
            model, remove, inputs, attributions, target=targets, n_perturb_samples=SAMPLES, normalize=True
        )


def _squares(images: Tensor, generator: torch.Generator) -> Tensor:
    """(B, 1, H, W), one on a square at a random place of each image."""
    count, _, height, width = images.shape
    side = max(1, round(SQUARE * min(height, width)))
    place = torch.rand(2, count, 1, generator=generator).to(images)

    def within(start: Tensor, length: int) -> Tensor:
        first = (start * (length - side + 1)).floor()
        pixel = torch.arange(length, device=images.device)
        return (pixel >= first) & (pixel < first + side)  # (B, length)

    return (within(place[0], height)[:, None, :, None] & within(place[1], width)[:, None, None, :]).to(images)


def max_sensitivity(
    explain: Callable[[Tensor, Tensor], Tensor], inputs: Tensor, targets: Tensor, *, generator: torch.Generator
) -> Tensor:
    """Largest relative change of an attribution under small noise (Yeh et al. 2019); (B,), unit-free, lower is better.

        max_draws ||A(x + e) - A(x)|| / ||A(x)||,  e uniform in +-RADIUS, SAMPLES draws

    A stochastic method's own noise counts. Costs 1 + SAMPLES attributions per image.
    """
    import captum.metrics

    def shake(images: Tensor) -> Tensor:
        noise = torch.rand(images.shape, generator=generator, dtype=images.dtype).to(images.device)
        return images + RADIUS * (2 * noise - 1)

    def explanation(images: Tensor | tuple[Tensor], target: Tensor) -> tuple[Tensor]:
        x = images[0] if isinstance(images, tuple) else images  # captum calls it with either
        return (explain(x, target).contiguous(),)  # and flattens with view

    return captum.metrics.sensitivity_max(explanation, inputs, shake, n_perturb_samples=SAMPLES, target=targets)
