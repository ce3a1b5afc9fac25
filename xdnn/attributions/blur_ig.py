"""Blur IG: the path from a blurred picture to the picture."""

import math
from functools import partial

import torch
from torch import Tensor, nn

from xdnn.arguments import checks_arguments
from xdnn.attributions.method import Method
from xdnn.attributions.paths import weighted_gradient_sum

MAX_SIGMA = 50 / 224  # of the longer side: 50 px at ImageNet's 224 px, the default of PAIR's blur_ig.py


@checks_arguments
@torch.no_grad()
def blur_integrated_gradients(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    max_sigma: float | None = None,
    steps: int = 128,
    chunk: int | None = None,
) -> Tensor:
    """Blur IG: gradients integrated over the scale of a Gaussian blur (Xu, Venugopalan, Sundararajan, CVPR 2020).

        A_i(x) = integral_max^0  dF(L(x, s))/dL_i * dL_i(x, s)/ds  ds,    L(x, s): x blurred with a Gaussian of s px

    The blur pads with zero, in normalised space the mean colour, as in PAIR saliency's blur_ig.py. That code lets s fall
    linearly and multiplies the gradient at one end of a step with a difference quotient in s. But detail comes back below
    s = 1 px, which is few of such steps, and there the sum misses most. Here s falls with the square of equal steps, and
    each step's change of the picture is multiplied with the gradient half way between its two ends: the same integral,
    whose only error is the quadrature's.

    Args:
        inputs:    (B, C, H, W): a blur needs pictures.
        max_sigma: width of the widest blur in pixels; default MAX_SIGMA times the longer side.
        steps:     >= 1; each costs one forward and one backward pass per image.

    Returns:
        (B, C, H, W). Unit: logits; sums to F(x) - F(L(x, max_sigma)) up to quadrature error.

    Raises:
        ValueError: inputs that are not (B, C, H, W), steps below 1, max_sigma not above 0.
    """
    if inputs.ndim != 4:
        raise ValueError(f"a blur needs pictures (B, C, H, W), got {tuple(inputs.shape)}")
    if max_sigma is None:
        max_sigma = MAX_SIGMA * max(inputs.shape[2:])
    if steps < 1 or not max_sigma > 0:
        raise ValueError(f"steps must be >= 1 and max_sigma above 0, got {steps} and {max_sigma}")
    sigmas = max_sigma * torch.linspace(1, 0, steps + 1, dtype=torch.float64).square()

    def points(images: slice, step: slice) -> tuple[Tensor, Tensor]:
        pictures = blurred(inputs[images], sigmas[step.start : step.stop + 1])  # (K + 1, B, C, H, W)
        return (pictures[:-1] + pictures[1:]) / 2, pictures.diff(dim=0)

    return weighted_gradient_sum(model, inputs, targets, steps, points, chunk, create_graph=False)


def blurred(images: Tensor, sigmas: Tensor) -> Tensor:
    """Images (B, C, H, W) under each Gaussian blur, zero outside: (K, B, C, H, W). ``sigmas`` (K,) in pixels, 0 is none."""
    rows, columns = (_blur_matrices(sigmas, size).to(images) for size in images.shape[2:])
    return rows[:, None, None] @ images @ columns[:, None, None].mT


def _blur_matrices(sigmas: Tensor, size: int) -> Tensor:
    """(K, size, size): row i holds the kernel centred on i, cut at the border; the whole kernel sums to 1."""
    reach = max(size, math.ceil(8 * float(sigmas.max()))) if len(sigmas) else size
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    kernel = torch.exp(-((offsets / sigmas.double().clamp_min(1e-6)[:, None]) ** 2) / 2)
    kernel /= kernel.sum(1, keepdim=True)
    # Far below rounding of a kernel that sums to 1; as float32 these tails are subnormal, which processors are slow at.
    kernel[kernel < 1e-20] = 0
    place = torch.arange(size)
    return kernel[:, place[None, :] - place[:, None] + reach]


METHODS: dict[str, Method] = {
    "blur_ig_128": Method(
        partial(blur_integrated_gradients, steps=128), 128, "Blur IG (128)", baseline="blurred", order=14
    ),
}
