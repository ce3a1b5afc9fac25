"""What the tests of boundary paths share: a net whose boundary is a line, and slow paths of one image at a time."""

import torch
from torch import Tensor, nn


class Linear(nn.Module):
    """Two classes with logits (w x, 0): the boundary is the line w x = 0."""

    def __init__(self, *weights: float):
        super().__init__()
        self.weights = torch.tensor(weights, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        score = x @ self.weights
        return torch.stack([score, 0 * score], 1)


def probability(net, x, target, softmaxes):
    out = net(x[None])
    for _ in range(softmaxes):
        out = out.softmax(1)
    return out[0, target]


def slope(net, x, target, softmaxes):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(probability(net, x, target, softmaxes), x)[0]


def slow_path(net, x, target, *, sign, softmaxes, steps=50):
    """Points and gradients of the described path, from its description: step, clamp, look, stop."""
    points, grads = [x], []
    for _ in range(steps):
        g = slope(net, points[-1], target, softmaxes)
        grads.append(g)
        step = 0.001 * g.sign() if sign else 0.1 * g / g.norm()
        moved = points[-1] - step
        if sign:
            moved = x + (moved - x).clamp(-0.3, 0.3)
        points.append(moved.clamp(0, 1))
        if net(points[-1][None]).argmax() != target:
            break
    grads.append(slope(net, points[-1], target, softmaxes))
    return points, grads
