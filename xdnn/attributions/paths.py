"""Attributions that integrate gradients along straight paths: Integrated Gradients from several baselines, Expected Gradients."""

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor, nn

from xdnn.arguments import checks_arguments
from xdnn.attributions.gradients import raw_gradient
from xdnn.attributions.method import Method
from xdnn.chunking import chunk_size, equal_parts
from xdnn.memory_format import index_images, match_format, sum_first_axis
from xdnn.precision import in_precision

NOISE_RANGE = (-1.0, 1.0)  # of baselines of uniform noise, in normalised units; IDSDS's code

Rule = tuple[np.ndarray, np.ndarray]  # nodes in 0..1 and weights that sum to 1, both (steps,) float64
Quadrature = Callable[[int], Rule]


def gauss_legendre(steps: int) -> Rule:
    """Exact for polynomials of degree 2 * steps - 1 along the path. X-DNN Sec. 4.1, captum's default."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return (nodes + 1) / 2, weights / 2


def right_riemann(steps: int) -> Rule:
    """Nodes 1/m, 2/m, ..., 1: the sum of the IG paper's Sec. 5."""
    return np.arange(1, steps + 1) / steps, np.full(steps, 1 / steps)


def left_riemann(steps: int) -> Rule:
    """Nodes 0, 1/m, ..., (m - 1)/m."""
    return np.arange(steps) / steps, np.full(steps, 1 / steps)


def midpoint(steps: int) -> Rule:
    """Nodes (k - 1/2)/m."""
    return (np.arange(steps) + 0.5) / steps, np.full(steps, 1 / steps)


def trapezoid(steps: int) -> Rule:
    """Nodes linspace(0, 1, m), end weights halved, weights 1/(m - 1): they sum to 1, captum's riemann_trapezoid to 1 - 1/m.

    Raises:
        ValueError: fewer than two steps.
    """
    if steps < 2:
        raise ValueError(f"the trapezoid rule needs at least 2 steps, got {steps}")
    weights = np.full(steps, 1 / (steps - 1))
    weights[[0, -1]] /= 2
    return np.linspace(0, 1, steps), weights


def captum_trapezoid(steps: int) -> Rule:
    """captum's riemann_trapezoid, which MFABA's authors use: weights 1/m, so that they sum to 1 - 1/m, all in float32's digits."""
    _, weights = trapezoid(steps)
    in_float32 = (weights * (1 - 1 / steps)).astype(np.float32)
    return torch.linspace(0, 1, steps).double().numpy(), in_float32.astype(np.float64)


QUADRATURES: dict[str, Quadrature] = {
    "gauss_legendre": gauss_legendre,
    "right_riemann": right_riemann,
    "left_riemann": left_riemann,
    "midpoint": midpoint,
    "trapezoid": trapezoid,
}


@lru_cache(maxsize=64)
def _rule(quadrature: str | Quadrature, steps: int) -> Rule:
    if isinstance(quadrature, str) and quadrature not in QUADRATURES:
        raise ValueError(f"unknown quadrature {quadrature!r}; there are: {', '.join(QUADRATURES)}")
    if steps < 1:
        raise ValueError(f"steps must be >= 1, got {steps}")
    return QUADRATURES[quadrature](steps) if isinstance(quadrature, str) else quadrature(steps)


@checks_arguments
def integrated_gradients(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    baseline: float | Tensor = 0.0,
    steps: int = 128,
    quadrature: str | Quadrature = "gauss_legendre",
    chunk: int | None = None,
    precision: str = "float32",
    create_graph: bool = False,
) -> Tensor:
    """Integrated Gradients along the straight path from ``baseline`` to ``inputs``.

    Sundararajan, Taly, Yan, ICML 2017, Sec. 3:
        A_i(x) = (x_i - x'_i) * integral_0^1 dF(x' + a (x - x')) / dx_i da
    X-DNN Sec. 4.1 takes 128 Gauss-Legendre points and the zero baseline in normalised space.

    Args:
        baseline:     x', a number or a tensor that broadcasts to inputs; 0.0 is the mean colour after normalisation.
        steps:        quadrature points >= 1; each costs one forward and one backward pass per image.
        quadrature:   a key of QUADRATURES, or a function of ``steps`` such as ``captum_trapezoid``.
        chunk:        most points evaluated at once; memory grows with it, the result does not change. Default: what
                      suits device, input and model (``chunking.chunk_size``).
        precision:    of the passes: "float32", or "bf16", whose rounding shows (``precision.in_precision``).
        create_graph: keep the graph of all steps, to train with a prior on the attributions.

    Returns:
        (B, *F). Unit: logits; sums to F(x) - F(x') up to quadrature error.

    Raises:
        ValueError: steps or chunk below 1, an unknown quadrature or precision, inputs that hold NaN or do not fit the targets.
    """
    nodes, weights = (torch.from_numpy(v).to(inputs) for v in _rule(quadrature, steps))
    start = torch.as_tensor(baseline, dtype=inputs.dtype, device=inputs.device).broadcast_to(inputs.shape)
    each = [1] * inputs.ndim  # (K, 1, 1, ...): one step for all images

    def points(images: slice, step: slice) -> tuple[Tensor, Tensor]:
        a, w = nodes[step].view(-1, *each), weights[step].view(-1, *each)
        return torch.addcmul(start[images], a, delta[images]), w

    with torch.set_grad_enabled(create_graph), in_precision(inputs, precision):
        delta = inputs - start
        return delta * weighted_gradient_sum(model, inputs, targets, steps, points, chunk, create_graph)


@checks_arguments
def integrated_gradients_noise(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    generator: torch.Generator,
    low: float = NOISE_RANGE[0],
    high: float = NOISE_RANGE[1],
    draws: int = 1,
    steps: int = 128,
    chunk: int | None = None,
) -> Tensor:
    """Integrated Gradients averaged over baselines of uniform noise (IG-U of Hesse et al. 2024, IDSDS, arXiv 2407.11910).

        A_i(x) = mean over draws of IG_i(x; x'),  x'_i ~ U(low, high)

    Their code takes one draw on (-1, 1), "approximately the image range" of normalised inputs.

    Args:
        generator: decides the baselines; each image and draw has its own, which do not depend on ``chunk``.
        draws:     baselines per image >= 1; each costs ``steps`` forward and backward passes per image.

    Returns:
        (B, *F). Unit: logits; sums to F(x) - mean F(x') over the baselines drawn, up to quadrature error.

    Raises:
        ValueError: draws below 1, an empty range.
    """
    if draws < 1 or not low < high:
        raise ValueError(f"draws must be >= 1 and low below high, got {draws}, {low} and {high}")
    shape = (draws, *inputs.shape)
    noise = torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device)
    baselines = (low + (high - low) * noise).to(inputs)
    total = sum(integrated_gradients(model, inputs, targets, baseline=b, steps=steps, chunk=chunk) for b in baselines)
    return torch.as_tensor(total) / draws


@checks_arguments
def expected_gradients(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    references: Tensor,
    generator: torch.Generator,
    samples: int = 1,
    shared: bool = False,
    chunk: int | None = None,
    precision: str = "float32",
    create_graph: bool = False,
) -> Tensor:
    """Expected Gradients: IG averaged over random references and random points of the path (Erion et al. 2021).

        A_i(x) = E_{x' ~ references, a ~ U(0, 1)} [(x_i - x'_i) * dF(x' + a (x - x')) / dx_i]

    Args:
        references:   (R, *F), drawn from with replacement, each image its own ``samples`` of them.
        generator:    decides references and a; the draws do not depend on ``chunk``.
        samples:      k >= 1 references per image; each costs one forward and one backward pass.
        shared:       one reference and one a for the whole batch, as the released X-DNN code draws them
                      (imagenet/attribution_metrics.py, batch of 2); an image then depends on its place in a batch.
        chunk:        most points evaluated at once; default as for integrated_gradients.
        precision:    of the passes, as for integrated_gradients.
        create_graph: keep the graph, to train with a prior on the attributions.

    Returns:
        (B, *F). Unit: logits; its expectation sums to F(x) - mean F(x').

    Raises:
        ValueError: samples or chunk below 1, references of another shape, inputs that hold NaN.
    """
    if samples < 1:
        raise ValueError(f"samples must be >= 1, got {samples}")
    if references.shape[1:] != inputs.shape[1:] or not len(references):
        raise ValueError(
            f"references must be (R, {', '.join(map(str, inputs.shape[1:]))}), got {tuple(references.shape)}"
        )
    draws = (samples, 1 if shared else len(inputs))
    device = generator.device
    chosen = torch.randint(len(references), draws, generator=generator, device=device).to(references.device)
    alphas = torch.rand(draws, generator=generator, dtype=torch.float64, device=device).to(inputs)
    chosen, alphas = (v.expand(samples, len(inputs)) for v in (chosen, alphas))
    references = match_format(references.to(inputs), inputs)

    def points(images: slice, step: slice) -> tuple[Tensor, Tensor]:
        reference = index_images(references, chosen[step, images])  # (K, B, *F)
        delta = inputs[images] - reference
        a = alphas[step, images].view(*delta.shape[:2], *[1] * (inputs.ndim - 1))
        return torch.addcmul(reference, a, delta), delta

    with torch.set_grad_enabled(create_graph), in_precision(inputs, precision):
        return weighted_gradient_sum(model, inputs, targets, samples, points, chunk, create_graph) / samples


def weighted_gradient_sum(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    steps: int,
    points: Callable[[slice, slice], tuple[Tensor, Tensor]],
    chunk: int | None,
    create_graph: bool,
) -> Tensor:
    """sum_k w_k * dF_target/dx at point k, for each image: (B, *F).

    ``points(images, step)`` gives points (K, B, *F) and weights that broadcast to them. At most ``chunk`` of them are
    alive at once: whole batches at several steps where the batch is small, parts of the batch where it is large.
    """
    chunk = chunk_size(model, inputs, chunk)
    parts, together = [], equal_parts(len(inputs), chunk)
    for first in range(0, len(inputs), together):
        images = slice(first, min(first + together, len(inputs)))
        total = torch.zeros_like(inputs[images])
        stride = equal_parts(steps, max(1, chunk // together))
        for k in range(0, steps, stride):
            at, weight = points(images, slice(k, min(k + stride, steps)))
            # (K, B, *F) -> (K * B, *F) and back
            flat, label = match_format(at.flatten(0, 1), inputs), targets[images].repeat(len(at))
            grads = raw_gradient(model, flat, label, create_graph=create_graph)[1].unflatten(0, at.shape[:2])
            weighted = weight * grads
            total = total + weighted.sum(0) if create_graph else total.add_(sum_first_axis(weighted))
        parts.append(total)
    return torch.cat(parts) if parts else torch.zeros_like(inputs)


METHODS: dict[str, Method] = {
    "expected_gradients_1": Method(
        partial(expected_gradients, samples=1),
        1,
        "EG (1)",
        references=True,
        stochastic=True,
        baseline="references",
        order=2,
    ),
    "integrated_gradients_128": Method(
        partial(integrated_gradients, steps=128), 128, "IG (128)", baseline="zero", order=10
    ),
    "integrated_gradients_noise_128": Method(
        partial(integrated_gradients_noise, steps=128), 128, "IG-U (128)", stochastic=True, baseline="noise", order=11
    ),
}
