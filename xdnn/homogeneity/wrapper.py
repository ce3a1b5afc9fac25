"""Any net made homogeneous, about any baseline, without touching its weights."""

import math

import torch
from torch import Tensor, nn

from xdnn.adapt import as_module
from xdnn.logits import all_logits
from xdnn.memory_format import match_format


class HomogeneousWrapper(nn.Module):
    """Any net F made homogeneous about a baseline c without retraining, so that one pass is Integrated Gradients from c.

        G(x) = ||x - c|| / r * F(y)                     y = c + r (x - c) / ||x - c||
        G(x) = F(c) + ||x - c|| / r * (F(y) - F(c))     with ``offset``

    F sees every input on the sphere of radius ``r`` about c, so choose ``r`` as the typical distance of inputs from c
    (``fit_radius``): then an ordinary input hardly moves. From c, Integrated Gradients of G is (x - c) dG/dx *exactly*,
    biases and all (docs/theory.md). Its sum is F(x) on the sphere without the offset, and F(x) - F(c) with it.

    The idea is not ours: normalisation equivariance (Herbreteau, Moebel, Kervrann 2023, arXiv 2306.05037; wrapped about
    any net by Saied, Fleuret 2026, arXiv 2605.08193), and for attribution the code of IDSDS (Hesse et al. 2024; visinf/idsds,
    commit 22353d7, models/general_xdnns/general_xdnn.py), where r = 1 and c = 0.

    Args:
        model:    F, from (B, *features) to (B, classes); a function will do.
        radius:   r > 0, in the unit of the inputs' Euclidean norm.
        baseline: c, a number or a tensor that broadcasts to inputs.
        offset:   keep F(c), which costs a second forward pass? Default: where the baseline is not the number 0. About 0
                  and without it G is nonnegatively homogeneous, zero at 0.

    Raises:
        ValueError: a radius that is not positive and finite.
    """

    def __init__(
        self, model: nn.Module, radius: float, baseline: float | Tensor = 0.0, *, offset: bool | None = None
    ) -> None:
        super().__init__()
        if not (math.isfinite(radius) and radius > 0):
            raise ValueError(f"radius must be a positive number, got {radius}")
        self.model, self.radius = as_module(model), radius
        at_zero = not isinstance(baseline, Tensor) and baseline == 0
        self.offset = not at_zero if offset is None else offset
        self.baseline: float | Tensor
        if isinstance(baseline, Tensor):  # follows the module to its device; weights files do not hold it
            self.register_buffer("baseline", baseline.detach(), persistent=False)
        else:
            self.baseline = float(baseline)
        self.homogeneous = at_zero and not self.offset

    def forward(self, x: Tensor) -> Tensor:
        delta = x - self.baseline
        norm = delta.flatten(1).norm(dim=1)
        safe = torch.where(norm > 0, norm, torch.ones_like(norm))  # at the baseline itself: F(c) or zero, not NaN
        direction = delta * (self.radius / safe).view(-1, *[1] * (x.ndim - 1))
        logits, scale = all_logits(self.model, self.baseline + direction), (norm / self.radius)[:, None]
        if not self.offset:
            return logits * scale
        start = self.model(baseline_points(self.baseline, x))
        return start + scale * (logits - start)


def baseline_points(baseline: float | Tensor, inputs: Tensor) -> Tensor:
    """c as inputs of a net: (1, *F) where all images share it, else (B, *F)."""
    c = torch.as_tensor(baseline, dtype=inputs.dtype, device=inputs.device)
    shared = c.ndim < inputs.ndim or len(c) == 1
    return match_format(c.expand_as(inputs[:1] if shared else inputs), inputs)


def fit_radius(inputs: Tensor, baseline: float | Tensor = 0.0) -> float:
    """The radius for ``HomogeneousWrapper`` that suits these inputs (B, *F): the median of ||x - c||.

    Raises:
        ValueError: no inputs, or a median that is not positive and finite.
    """
    distances = (inputs - baseline).flatten(1).norm(dim=1)
    radius = float(distances.median()) if len(distances) else math.nan
    if not (math.isfinite(radius) and radius > 0):
        raise ValueError(f"no radius fits {len(distances)} inputs whose median distance from the baseline is {radius}")
    return radius
