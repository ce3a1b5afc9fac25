"""Guided Integrated Gradients: a path that moves features of small gradient first."""

import math
from functools import partial

import torch
from torch import Tensor, nn

from xdnn.arguments import checks_arguments
from xdnn.attributions.gradients import raw_gradient
from xdnn.attributions.method import Method
from xdnn.chunking import chunk_size

FRACTION = 0.25  # of the features, those with the smallest gradients, moved together; PAIR's guided_ig.py
MAX_DISTANCE = 0.02  # from the straight path, as a share of it; PAIR's guided_ig.py


@checks_arguments
@torch.no_grad()
def guided_integrated_gradients(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    baseline: float | Tensor = 0.0,
    steps: int = 128,
    fraction: float = FRACTION,
    max_distance: float = MAX_DISTANCE,
    chunk: int | None = None,
) -> Tensor:
    """Guided IG with an anchored path (Kapishnikov et al., CVPR 2021, arXiv 2106.09788; PAIR saliency, guided_ig.py).

        A(x) = sum_k (x_k+1 - x_k) * dF(x_k)/dx

    Each step brings the point nearer to x by 1/steps of |x - x'|_1: the ``fraction`` of features with the smallest
    |gradient| go as far as ``max_distance`` allows, then the next fraction, until the step's share is covered. Features
    that fell behind the corridor are pulled to its edge first. Released code and this one take the gradient at the
    start of each step; where it is zero (a net without biases at the zero baseline), that step's attribution is lost.
    Of a smooth net the sum becomes complete with many steps. Of a ReLU net it need not: the path is drawn to kinks and
    crosses one in every step, so the gradient before the step is always that of the same side.

    Args:
        baseline:     x', a number or a tensor that broadcasts to inputs.
        steps:        >= 1, one after the other; each costs one forward and one backward pass per image (PAIR: 200).
        fraction:     in (0, 1].
        max_distance: in [0, 1]; 0 is IG with the left Riemann rule, 1 leaves the path free.
        chunk:        images whose paths are followed together at most; the result does not change.

    Returns:
        (B, *F). Unit: logits; sums to F(x) - F(x') for smooth nets and many steps.

    Raises:
        ValueError: steps below 1, fraction or max_distance out of range, inputs that hold NaN or do not fit the targets.
    """
    if steps < 1:
        raise ValueError(f"steps must be >= 1, got {steps}")
    if not (0 < fraction <= 1 and 0 <= max_distance <= 1):
        raise ValueError(f"fraction must be in (0, 1] and max_distance in [0, 1], got {fraction} and {max_distance}")
    chunk = chunk_size(model, inputs, chunk)
    start = torch.as_tensor(baseline, dtype=inputs.dtype, device=inputs.device).broadcast_to(inputs.shape)
    parts = [
        _follow(model, *part, steps, fraction, max_distance)
        for part in zip(inputs.split(chunk), start.split(chunk), targets.split(chunk), strict=True)
    ]
    return torch.cat(parts) if len(inputs) else torch.zeros_like(inputs)


def _follow(
    model: nn.Module, inputs: Tensor, start: Tensor, targets: Tensor, steps: int, fraction: float, max_distance: float
) -> Tensor:
    shape = inputs.shape
    end, start = inputs.flatten(1), start.flatten(1)  # (B, N)
    delta = end - start
    length = delta.abs().sum(1)
    x, total = start.clone(), torch.zeros_like(end)
    for step in range(1, steps + 1):
        grad = raw_gradient(model, x.view(shape), targets, create_graph=False)[1].flatten(1)
        low, high = (start + min(max(step / steps + d, 0.0), 1.0) * delta for d in (-max_distance, max_distance))
        behind = (x - start).abs() < (low - start).abs()
        moved = _advance(torch.where(behind, low, x), high, end, grad.abs(), length * (1 - step / steps), fraction)
        total += (moved - x) * grad
        x = moved
    return total.view(shape)


def _advance(x: Tensor, high: Tensor, end: Tensor, size: Tensor, target: Tensor, fraction: float) -> Tensor:
    """Move features towards ``high``, smallest ``size`` first, until |end - x|_1 is ``target`` (B,). All others (B, N)."""
    rank = 1 + math.floor(fraction * (x.shape[1] - 1))
    rounding = 10 * torch.finfo(x.dtype).eps * end.abs().sum(1)
    for _ in range(math.ceil(x.shape[1] / rank) + 1):  # each round takes at least ``rank`` features out of the race
        missing = (end - x).abs().sum(1) - target
        if not (missing > rounding).any():
            break
        size = size.masked_fill(x == high, math.inf)
        chosen = (size <= size.kthvalue(rank, dim=1, keepdim=True).values) & size.isfinite()
        reach = ((high - x).abs() * chosen).sum(1)
        share = (missing / reach).where(missing > rounding, 0.0)  # 0 / 0 only where nothing is missing
        share = share.clamp(0, 1)[:, None]
        full = chosen & (share == 1)
        x = torch.where(full, high, torch.where(chosen, x + share * (high - x), x))
    return x


METHODS: dict[str, Method] = {
    "guided_ig_128": Method(
        partial(guided_integrated_gradients, steps=128), 128, "Guided IG (128)", baseline="zero", order=13
    ),
}
