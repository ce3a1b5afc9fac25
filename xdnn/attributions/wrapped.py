"""Integrated Gradients of the net wrapped about a baseline (``HomogeneousWrapper``): exact in one backward pass."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from xdnn.arguments import checks_arguments
from xdnn.attributions.gradients import raw_gradient
from xdnn.attributions.method import Method
from xdnn.homogeneity.wrapper import baseline_points
from xdnn.logits import all_logits, of_targets
from xdnn.memory_format import match_format


@checks_arguments
@torch.no_grad()
def wrapped_x_gradient(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    baseline: float | Tensor = 0.0,
    radius: float | Sequence[float] | None = None,
) -> Tensor:
    """Integrated Gradients from c of the wrapped net G(x) = F(c) + ||x - c|| / r * (F(y) - F(c)), in closed form.

        A = (x - c) g + (F(y) - F(c) - r <u, g>) (x - c) u / r
        u = (x - c) / ||x - c||,  y = c + r u,  g = dF_target/dy

    With ``radius=None`` each image has a sphere of its own, r = ||x - c||, held constant. Then y = x and G(x) = F(x): no
    prediction changes, and the attributions of *any* net sum to F(x) - F(c):

        A = (x - c) g + (F(x) - F(c) - <x - c, g>) (x - c)^2 / ||x - c||^2

    that is, what (x - c) dF leaves of completeness goes to each entry by its share of the squared distance. On an X-net with
    c = 0 nothing is left, and A is X-Gradient. The price: an entry that F does not look at gets a share too, since the
    distance depends on it (docs/theory.md).

    Args:
        baseline: c, a number or a tensor that broadcasts to inputs.
        radius:   r > 0 of G; several: the mean over them, Integrated Gradients of the mean of these G; None: as above.

    Returns:
        (B, *F). Unit: logits; sums to F(x) - F(c), for a given r to ||x - c|| / r * (F(y) - F(c)). Zero where x = c.
        Each radius costs a forward and a backward pass per image, and F(c) a forward pass: one for all images where they
        share c.

    Raises:
        ValueError: a radius that is not positive, no radius, or inputs that hold NaN or do not fit the targets.
    """
    given = [radius] if radius is None or isinstance(radius, int | float) else list(radius)
    if not given or any(r is not None and not (math.isfinite(r) and r > 0) for r in given):
        raise ValueError(f"radius must be a positive number, several, or None, got {radius}")
    if not len(inputs):
        return torch.zeros_like(inputs)
    delta = inputs - baseline
    each = [-1, *[1] * (inputs.ndim - 1)]
    distance = delta.flatten(1).norm(dim=1).view(each)
    distance = distance.where(distance > 0, 1.0)  # at the baseline itself u is 0, and so are the attributions
    u = delta / distance
    start = of_targets(all_logits(model, baseline_points(baseline, inputs)).expand(len(inputs), -1), targets).view(each)
    total = torch.zeros_like(inputs)
    for r in given:
        y = inputs if r is None else match_format(baseline + r * u, inputs)
        score, grad = raw_gradient(model, y, targets, create_graph=False)
        change = (score.view(each) - start) / (distance if r is None else r)
        total += delta * (grad + (change - (grad * u).flatten(1).sum(1).view(each)) * u)
    return total / len(given)


METHODS: dict[str, Method] = {
    "wrapped_x_gradient": Method(wrapped_x_gradient, 1, "X-Gradient, own radius", baseline="zero", order=5),
}
