"""SmoothGrad (Smilkov et al. 2017): the gradient averaged over noisy copies of the input."""

import torch
from torch import Tensor, nn

from reproduce.attributions.engine import chunk_size, evenly, summed
from reproduce.attributions.gradients import check_batch, raw_gradient


@torch.no_grad()
def smoothgrad(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    generator: torch.Generator,
    samples: int = 50,
    sigma: float = 0.15,
    chunk: int | None = None,
) -> Tensor:
    """SmoothGrad:  A = 1/n sum_k dF_target(x + e_k)/dx,  e_k ~ N(0, sigma^2).

    Args:
        generator: decides the noise; the draws do not depend on ``chunk``. No clamping, as in captum's NoiseTunnel.
        samples:   n >= 1, each one forward and one backward pass. 50 in MFABA's released code.
        sigma:     >= 0, in input units; 0.15 there, where inputs are pixels in [0, 1].
        chunk:     most points evaluated at once.

    Returns:
        (B, *F), signed. Unit: output per input unit. No completeness.

    Raises:
        ValueError: samples below 1, sigma below 0.
    """
    if samples < 1 or sigma < 0:
        raise ValueError(f"samples must be >= 1 and sigma >= 0, got {samples} and {sigma}")
    check_batch(inputs, targets)
    size = chunk_size(model, inputs, chunk)
    together = evenly(samples, max(1, size // max(1, len(inputs))))
    total = torch.zeros_like(inputs)
    for first in range(0, samples, together):
        count = min(together, samples - first)
        noise = [
            torch.randn(inputs.shape, generator=generator, dtype=inputs.dtype, device=generator.device)
            for _ in range(count)
        ]
        points = (inputs + sigma * torch.stack(noise).to(inputs.device)).flatten(0, 1)
        labels = targets.repeat(count)
        grads = [
            raw_gradient(model, x, t, create_graph=False)[1]
            for x, t in zip(points.split(size), labels.split(size), strict=True)
        ]
        total += summed(torch.cat(grads).unflatten(0, (count, len(inputs))))
    return total / samples
