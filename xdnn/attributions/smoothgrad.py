"""SmoothGrad (Smilkov et al. 2017): the gradient averaged over noisy copies of the input."""

from functools import partial

import torch
from torch import Tensor, nn

from xdnn.arguments import checks_arguments
from xdnn.attributions.gradients import raw_gradient
from xdnn.attributions.method import Method
from xdnn.chunking import chunk_size, equal_parts
from xdnn.memory_format import sum_first_axis

SIGMA = 0.15  # MFABA's released code, where inputs are pixels in [0, 1]
# The same noise on inputs that are normalised as for ImageNet: over the mean of its deviations (0.229, 0.224, 0.225).
NORMALISED_SIGMA = SIGMA / 0.226


@checks_arguments
@torch.no_grad()
def smoothgrad(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    generator: torch.Generator,
    samples: int = 50,
    sigma: float | Tensor = SIGMA,
    chunk: int | None = None,
) -> Tensor:
    """SmoothGrad:  A = 1/n sum_k dF_target(x + e_k)/dx,  e_k ~ N(0, sigma^2).

    ``sigma`` is in units of the inputs that the function sees. In pixels, as released, SIGMA is 15 % of the range; on
    inputs that were divided by a deviation of std the same number would be std times as much in pixels, 4.4 times less
    with ImageNet's mean std of 0.226. METHODS, whose inputs are normalised, has NORMALISED_SIGMA, the released noise at
    that std. Exactly as released for other deviations: ``sigma=SIGMA / std`` per channel, or
    ``in_pixels(smoothgrad, mean, std)``, which also gives attributions per pixel unit.

    Args:
        generator: decides the noise; the draws do not depend on ``chunk``. No clamping, as in captum's NoiseTunnel.
        samples:   n >= 1, each one forward and one backward pass. 50 in MFABA's released code.
        sigma:     >= 0, a number or a tensor that broadcasts to inputs.
        chunk:     most points evaluated at once.

    Returns:
        (B, *F), signed. Unit: output per input unit. No completeness.

    Raises:
        ValueError: samples below 1, sigma below 0.
    """
    deviation = torch.as_tensor(sigma, dtype=inputs.dtype, device=inputs.device)
    if samples < 1 or not (deviation >= 0).all():
        raise ValueError(f"samples must be >= 1 and sigma >= 0, got {samples} and {sigma}")
    size = chunk_size(model, inputs, chunk)
    together = equal_parts(samples, max(1, size // max(1, len(inputs))))
    total = torch.zeros_like(inputs)
    for first in range(0, samples, together):
        count = min(together, samples - first)
        noise = [
            torch.randn(inputs.shape, generator=generator, dtype=inputs.dtype, device=generator.device)
            for _ in range(count)
        ]
        points = (inputs + deviation * torch.stack(noise).to(inputs.device)).flatten(0, 1)
        labels = targets.repeat(count)
        grads = [
            raw_gradient(model, x, t, create_graph=False)[1]
            for x, t in zip(points.split(size), labels.split(size), strict=True)
        ]
        total += sum_first_axis(torch.cat(grads).unflatten(0, (count, len(inputs))))
    return total / samples


METHODS: dict[str, Method] = {
    "smoothgrad": Method(partial(smoothgrad, sigma=NORMALISED_SIGMA), 50, "SmoothGrad", stochastic=True, order=20)
}
