"""IDGI: along a path, only the direction of the gradient earns attribution."""

from functools import partial

import torch
from torch import Tensor, nn

from xdnn.arguments import checks_arguments
from xdnn.attributions.gradients import raw_gradient
from xdnn.attributions.method import Method
from xdnn.chunking import chunk_size


@checks_arguments
@torch.no_grad()
def idgi(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    baseline: float | Tensor = 0.0,
    steps: int = 128,
    chunk: int | None = None,
) -> Tensor:
    """Important Direction Gradient Integration on IG's straight path (Yang, Wang, Bilgic, CVPR 2023, arXiv 2303.14242).

        A_i(x) = sum_j  g_ji^2 / |g_j|^2 * (F(x_j+1) - F(x_j)),   g_j = dF(x_j)/dx,   x_j = x' + j/(m - 1) (x - x')

    Nodes and the left gradient are those of the released code (idgi.py); it explains the softmax probability, we the
    logit. Where a gradient is zero, nothing says who earned the change, and it is lost: a ReLU net without biases has
    gradient zero at the zero baseline, so there the attributions sum to F(x) * (1 - 1/(m - 1)).

    Args:
        baseline: x', a number or a tensor that broadcasts to inputs.
        steps:    m >= 2 points of the path; each costs one forward and one backward pass per image.
        chunk:    most points evaluated at once; the result does not change.

    Returns:
        (B, *F). Unit: logits; sums to F(x) - F(x') less the changes after points without a gradient.

    Raises:
        ValueError: steps below 2, inputs that hold NaN or do not fit the targets.
    """
    if steps < 2:
        raise ValueError(f"steps must be >= 2, got {steps}")
    chunk = chunk_size(model, inputs, chunk)
    start = torch.as_tensor(baseline, dtype=inputs.dtype, device=inputs.device).broadcast_to(inputs.shape)
    parts = [
        _idgi(model, *part, steps, max(1, chunk // len(part[0])))
        for part in zip(inputs.split(chunk), start.split(chunk), targets.split(chunk), strict=True)
        if len(part[0])  # no images are split into one part without any
    ]
    return torch.cat(parts) if len(inputs) else torch.zeros_like(inputs)


def _idgi(model: nn.Module, inputs: Tensor, start: Tensor, targets: Tensor, steps: int, stride: int) -> Tensor:
    total = torch.zeros_like(inputs)
    last_share, last_logit = inputs.new_empty(0, *inputs.shape), inputs.new_empty(0, len(inputs))  # of the point before
    for nodes in torch.linspace(0, 1, steps, dtype=torch.float64).to(inputs).split(stride):
        at = start + nodes.view(-1, *[1] * inputs.ndim) * (inputs - start)  # (K, B, *F)
        logits, grads = raw_gradient(model, at.flatten(0, 1), targets.repeat(len(at)), create_graph=False)
        square = grads.unflatten(0, at.shape[:2]).square()
        size = square.flatten(2).sum(2).view(*at.shape[:2], *[1] * (inputs.ndim - 1))
        shares = torch.cat([last_share, (square / size).where(size > 0, 0.0)])
        outputs = torch.cat([last_logit, logits.unflatten(0, at.shape[:2])])
        change = outputs.diff(dim=0).view(-1, len(inputs), *[1] * (inputs.ndim - 1))
        total += (shares[:-1] * change).sum(0)
        last_share, last_logit = shares[-1:], outputs[-1:]
    return total


METHODS: dict[str, Method] = {
    "idgi_128": Method(partial(idgi, steps=128), 128, "IDGI (128)", baseline="zero", order=12),
}
