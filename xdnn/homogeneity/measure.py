"""Measurement of F(a x) = a F(x), and of what follows from it for the gradient."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xdnn.adapt import as_module
from xdnn.arguments import check_inputs, checks_arguments
from xdnn.logits import all_logits, check_finite, input_gradient, target_logits

# Both extremes: at 1000 a small bias hides, at 0.001 it shows. No power of two, which scales without rounding.
FACTORS = (0.0, 1e-3, 0.1, 0.3, 3.0, 10.0, 1e3)
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3}  # rounding of deep nets stays far below, a bias far above
OTHER_TOLERANCE = 5e-2  # of narrower dtypes


@dataclass(frozen=True)
class Homogeneity:
    """What ``is_homogeneous`` measured; true where the largest deviation is within the tolerance."""

    deviation: float
    factor: float
    tolerance: float

    def __bool__(self) -> bool:
        return self.deviation <= self.tolerance  # NaN compares false

    def __str__(self) -> str:
        verdict = "homogeneous" if self else "not homogeneous"
        where = f"at a = {self.factor:g}; allowed {self.tolerance:g}"
        return f"{verdict}: |F(ax) - aF(x)| up to {self.deviation:.2g} of |F(x)| ({where})"


@torch.no_grad()
def is_homogeneous(
    model: nn.Module,
    inputs: Tensor,
    *,
    factors: Sequence[float] = FACTORS,
    dtype: torch.dtype | None = None,
    tolerance: float | None = None,
) -> Homogeneity:
    """Measure F(a x) = a F(x) (X-DNN Def. 3.3) in eval mode; ``model`` itself is left as it is.

    It says nothing of the gradient, which is a choice where a maximum is tied: ``gradient_change`` looks at that.

    The deviation at a factor a is max |F(ax) - a F(x)| / (max(a, min factor) * max |F(x)|), per image over its logits,
    the largest over images and factors. At a = 0 it measures F(0) = 0 at the scale of the smallest positive factor.

    Args:
        inputs:    (B, *F) float, ordinary inputs.
        factors:   a >= 0; the defaults span six orders of magnitude.
        dtype:     compute in this dtype (on a copy); default: the inputs' own.
        tolerance: largest deviation that counts as rounding; default TOLERANCE.

    Raises:
        ValueError: a negative factor, or inputs that are not finite.
    """
    if min(factors) < 0 or not any(factors):
        raise ValueError(f"factors must be >= 0 with one above 0, got {tuple(factors)}")
    check_inputs(inputs)
    dtype = dtype or inputs.dtype
    model = copy.deepcopy(as_module(model)).to(dtype).eval()
    x = inputs.to(dtype)
    logits = all_logits(model, x)
    size = logits.abs().amax(1).clamp_min(torch.finfo(dtype).tiny)
    smallest = min(a for a in factors if a > 0)
    deviations = [((model(a * x) - a * logits).abs().amax(1) / (max(a, smallest) * size)).max().item() for a in factors]
    worst = max(range(len(factors)), key=lambda i: math.inf if math.isnan(deviations[i]) else deviations[i])
    tolerance = TOLERANCE.get(dtype, OTHER_TOLERANCE) if tolerance is None else tolerance
    return Homogeneity(deviations[worst], factors[worst], tolerance)


@checks_arguments
def gradient_change(model: nn.Module, inputs: Tensor, targets: Tensor, *, factor: float = 0.3) -> Tensor:
    """sum_i |dF/dx_i(a x) - dF/dx_i(x)| / sum_i |dF/dx_i(x)| of each image, (B,); unit-free, lower is better.

    Rounding on a homogeneous net whose gradient exists (docs/theory.md). Of a net that ``is_homogeneous``, more than that
    means ties: a maximum over equal entries, or a ReLU at exactly zero, of which the gradient takes one side here and
    another there. Integrated Gradients and X-Gradient then differ by as much. None is found where rounding happens to
    choose alike at both points. Two forward and two backward passes per image.

    Args:
        factor: a > 0. No power of two, which scales without rounding and so keeps every choice.

    Raises:
        ValueError: a factor that is not positive, a gradient that is not finite.
    """
    if not (math.isfinite(factor) and factor > 0):
        raise ValueError(f"factor must be a positive number, got {factor}")
    with torch.enable_grad():
        points = [(scale * inputs.detach()).requires_grad_() for scale in (1.0, factor)]
        here, there = (input_gradient(target_logits(model, x, targets), x) for x in points)
    for found in (here, there):
        check_finite(found, "the gradient of image {} of the batch has NaN or infinity")
    change, size = ((values.flatten(1).abs().sum(1)) for values in (there - here, here))
    return (change / size).where(change > 0, 0.0)
