"""Integrated Gradients with as many steps as each image needs."""

import torch
from torch import Tensor, nn

from xdnn.arguments import checks_arguments
from xdnn.attributions.paths import weighted_gradient_sum
from xdnn.chunking import chunk_size
from xdnn.logits import target_logits

# Both in units of the tolerance. Relative L1 between two numbers of steps up to which attributions have settled:
SETTLED = 10
# Gap at the first step that counts as exact: rounding on an X-net, rarely luck.
EXACT = 0.01


@checks_arguments
@torch.no_grad()
def adaptive_integrated_gradients(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    baseline: float | Tensor = 0.0,
    tolerance: float = 0.01,
    max_steps: int = 729,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Integrated Gradients with 1, 3, 9, 27, ... midpoints until each image's attributions sum to what they should.

    IG paper Sec. 5: raise the number of steps until  |sum_i A_i - (F(x) - F(x'))| <= tolerance * |F(x) - F(x')|.
    A sum can be right by chance while its terms are not (with few steps it often is), so the attributions must have settled
    too: sum|A_n - A_n/3| <= SETTLED * tolerance * sum|A_n|. The midpoints of n steps are among those of
    3n, so no gradient is computed twice. Images that are done leave the batch. On an X-net with a zero baseline one step is
    exact, and is all that is taken. Another way to save steps is to place a fixed number of them where the output changes
    most (Bhat, Raychowdhury 2023, arXiv 2302.11107).

    Args:
        baseline:  x', a number or a tensor that broadcasts to inputs.
        tolerance: > 0, unit-free.
        max_steps: images that are not done by then keep what they have.
        chunk:     most points evaluated at once; the result does not change.

    Returns:
        Attributions (B, *F), and the number of steps of each image (B,) int64: its forward and backward passes, besides
        one forward pass at x and one at x'.

    Raises:
        ValueError: tolerance not above 0, max_steps or chunk below 1, inputs that hold NaN or do not fit the targets.
    """
    if not tolerance > 0 or max_steps < 1:
        raise ValueError(f"tolerance must be above 0 and max_steps >= 1, got {tolerance} and {max_steps}")
    start = torch.as_tensor(baseline, dtype=inputs.dtype, device=inputs.device).broadcast_to(inputs.shape)
    change = _logits(model, inputs, targets, chunk) - _logits(model, start, targets, chunk)
    attributions, steps = torch.zeros_like(inputs), torch.zeros_like(targets)
    left, total, n = torch.arange(len(inputs), device=inputs.device), torch.zeros_like(inputs), 1
    while len(left) and n <= max_steps:
        nodes = _new_midpoints(n).to(inputs)
        total = total + _gradient_sum(model, inputs[left], start[left], targets[left], nodes, chunk)
        new = (inputs[left] - start[left]) * total / n
        gap = (new.flatten(1).sum(1) - change[left]).abs() / change[left].abs()
        moved = (new - attributions[left]).flatten(1).abs().sum(1) / new.flatten(1).abs().sum(1)
        done = gap <= EXACT * tolerance if n == 1 else (gap <= tolerance) & (moved <= SETTLED * tolerance)
        attributions[left], steps[left] = new, n
        left, total, n = left[~done], total[~done], 3 * n
    return attributions, steps


def _new_midpoints(n: int) -> Tensor:
    """Those of the n midpoints that are not among the n/3 ones, float64."""
    index = torch.arange(n, dtype=torch.float64)
    return (index[(index % 3 != 1) | (n == 1)] + 0.5) / n


def _gradient_sum(
    model: nn.Module, inputs: Tensor, start: Tensor, targets: Tensor, nodes: Tensor, chunk: int | None
) -> Tensor:
    def points(images: slice, step: slice) -> tuple[Tensor, Tensor]:
        a = nodes[step].view(-1, *[1] * inputs.ndim)
        return start[images] + a * (inputs[images] - start[images]), torch.ones_like(a)

    return weighted_gradient_sum(model, inputs, targets, len(nodes), points, chunk, create_graph=False)


@torch.no_grad()
def _logits(model: nn.Module, inputs: Tensor, targets: Tensor, chunk: int | None) -> Tensor:
    size = chunk_size(model, inputs, chunk)
    parts = [target_logits(model, x, t) for x, t in zip(inputs.split(size), targets.split(size), strict=True)]
    return torch.cat(parts) if parts else inputs.new_zeros(0)
