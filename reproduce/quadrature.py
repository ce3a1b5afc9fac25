"""Many quadrature rules of one path at the cost of their nodes: a node that several rules share is passed once."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from xdnn import QUADRATURES, gradient
from xdnn.chunking import chunk_size

DIGITS = 12  # to which nodes are told apart: far below a float32's spacing


def merge(rules: Sequence[tuple[str, int]]) -> tuple[Tensor, Tensor]:
    """All nodes of the rules, each once, and every rule's weights on them.

    Args:
        rules: (key of QUADRATURES, number of nodes) of each.

    Returns:
        (K,) nodes and (rules, K) weights, float64.
    """
    parts = [QUADRATURES[name](count) for name, count in rules]
    nodes = np.unique(np.concatenate([np.round(own, DIGITS) for own, _ in parts]))
    weights = np.zeros((len(rules), len(nodes)))
    for row, (own, weight) in zip(weights, parts, strict=True):
        row[np.searchsorted(nodes, np.round(own, DIGITS))] = weight
    return torch.from_numpy(nodes), torch.from_numpy(weights)


def integrate(model: nn.Module, image: Tensor, target: Tensor, nodes: Tensor, weights: Tensor) -> Tensor:
    """Integrated Gradients of one image from the zero baseline by every rule; one pass for each node.

    Args:
        image:   (1, *F).
        target:  (1,) int64.
        nodes, weights: of ``merge``.

    Returns:
        (rules, *F). Unit: logits.
    """
    total = image.new_zeros(len(weights), image[0].numel())
    size = chunk_size(model, image, None)
    for a, w in zip(nodes.to(image).split(size), weights.to(image).split(size, dim=1), strict=True):
        gradients = gradient(model, a.view(-1, *[1] * (image.ndim - 1)) * image, target.expand(len(a)))
        total += w @ gradients.flatten(1)
    return image * total.view(-1, *image.shape[1:])


def steps_needed(steps: Sequence[float], errors: Sequence[float], limit: float) -> float:
    """The least number of steps from which on every larger one tried stays within the limit.

    Twice the largest where even that is not enough: it counts as more than was tried. A number that is met once and
    missed again further on does not count.

    Args:
        steps:  numbers of steps that were tried, rising.
        errors: of each; NaN is no error that is known, and then neither is the answer.
    """
    if np.isnan(errors).any():
        return float("nan")
    needed = 2.0 * steps[-1]
    for count, error in zip(reversed(steps), reversed(errors), strict=True):
        if error > limit:
            break
        needed = float(count)
    return needed
