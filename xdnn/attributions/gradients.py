"""Attributions of at most one backward pass: random, gradient, input x gradient and X-Gradient."""

import torch
from torch import Tensor, nn

from xdnn.arguments import checks_arguments
from xdnn.attributions.method import Method
from xdnn.frozen import first_order
from xdnn.homogeneity import NotHomogeneousError
from xdnn.homogeneity.proof import what_breaks_homogeneity
from xdnn.logits import input_gradient, target_logits

# Relative to sum |x_i dF/dx_i| + |F|, where float32 rounding stays below 1e-5.
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}
SCALES = (0.01, 0.3)  # of the input, where homogeneity is measured; powers of two would hide rounding


@checks_arguments
def random(model: nn.Module, inputs: Tensor, targets: Tensor, *, generator: torch.Generator) -> Tensor:
    """Uniform(-0.5, 0.5) in each entry, the control of X-DNN Sec. 4.2. No pass."""
    draws = torch.rand(inputs.shape, generator=generator, dtype=inputs.dtype, device=generator.device)
    return (draws - 0.5).to(inputs.device)


@checks_arguments
def gradient(model: nn.Module, inputs: Tensor, targets: Tensor, *, create_graph: bool = False) -> Tensor:
    """d logit_target / d input. Unit: logits per input unit. One forward, one backward pass.

    Args:
        create_graph: keep the graph, so that a loss on the attributions can be trained (attribution priors).

    Raises:
        ValueError: inputs or targets that do not fit together or hold NaN; a target that is not a class.
    """
    return raw_gradient(model, inputs, targets, create_graph=create_graph)[1]


@checks_arguments
def input_x_gradient(model: nn.Module, inputs: Tensor, targets: Tensor, *, create_graph: bool = False) -> Tensor:
    """x * d logit_target / dx. Unit: logits.

    On an X-DNN this *is* Integrated Gradients with a zero baseline, but for inputs on a tie (see ``x_gradient``).
    """
    with torch.set_grad_enabled(create_graph):
        return inputs * raw_gradient(model, inputs, targets, create_graph=create_graph)[1]


@checks_arguments
def x_gradient(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, create_graph: bool = False, check: bool = True
) -> Tensor:
    """X-Gradient (X-DNN Def. 3.5): Integrated Gradients with a zero baseline of a homogeneous net, in one backward pass.

    What is checked, and so guaranteed. *Completeness*: of each image Euler's identity, sum_i x_i dF/dx_i = F(x), holds up
    to rounding; both sides come out of the one pass. *Homogeneity*, which makes this Integrated Gradients: proved from
    the net's graph (``check_homogeneous``, kept with the net). Where there is no such proof, F(a x) = a F(x) is
    measured instead, at the two scales of SCALES, with a forward pass each per image: a net that keeps all three
    identities at an image by accident passes, and its attributions need not be Integrated Gradients. In training mode
    units are dropped anew in each pass, so without a proof only Euler's identity is looked at there.

    Where a maximum or a ReLU's kink is hit exactly, as by max pooling over a flat region, the gradient is a choice among
    several, rounding may make it differently along the path, and Integrated Gradients then differs (docs/theory.md). That is
    not checked, since it costs a second pass: ``xdnn.homogeneity.gradient_change`` does.

    Args:
        create_graph: keep the graph, to train with a prior on the attributions.
        check:        False skips all checks, which make the host wait for the device; for training loops.

    Returns:
        (B, *F). Unit: logits; sums to F(x) exactly.

    Raises:
        NotHomogeneousError: an identity fails for an image, so this is not IG; says by how much, and what the graph shows.
    """
    logits, grad = raw_gradient(model, inputs, targets, create_graph=create_graph)
    with torch.set_grad_enabled(create_graph):
        attributions = inputs * grad
    if check and len(inputs):
        _check_homogeneity(model, inputs.detach(), targets, attributions.detach(), logits.detach())
    return attributions


@torch.no_grad()
def _check_homogeneity(model: nn.Module, inputs: Tensor, targets: Tensor, attributions: Tensor, logits: Tensor) -> None:
    """Raises NotHomogeneousError for the image that is furthest from an identity, where that is not rounding."""
    features = tuple(range(1, attributions.ndim))
    total, size = attributions.sum(features), torch.linalg.vector_norm(attributions, 1, features)
    size = (size + logits.abs()).clamp_min(1e-30)
    allowed = max(TOLERANCE[dtype] for dtype in (attributions.dtype, logits.dtype))
    reason = what_breaks_homogeneity(model)

    def compare(found: Tensor, expected: Tensor, what: str) -> None:
        gap = (found - expected).abs() / size
        worst = int(gap.argmax())
        if not gap[worst] <= allowed:
            raise NotHomogeneousError(
                f"{type(model).__name__} is not nonnegatively homogeneous, so X-Gradient is not defined on it: for image "
                f"{worst} of the batch {what} {found[worst]:.4g} and the logit is {expected[worst]:.4g} "
                f"(relative gap {gap[worst]:.2g}, allowed {allowed:g}{'; ' * bool(reason)}{reason}). "
                "Use to_x_variant and train it, wrap it in HomogeneousWrapper, or take integrated_gradients."
            )

    compare(total, logits, "the attributions sum to")
    if reason and not model.training:
        for scale in SCALES:
            compare(target_logits(model, scale * inputs, targets) / scale, logits, f"F({scale:g} x) / {scale:g} is")


def raw_gradient(model: nn.Module, points: Tensor, targets: Tensor, *, create_graph: bool) -> tuple[Tensor, Tensor]:
    """Target logits (B,) and their gradient (B, *F) at ``points``, without looking at the values of the points."""
    if create_graph:
        x = points if points.requires_grad else points.detach().requires_grad_()
        score = target_logits(model, x, targets)
        return score, input_gradient(score, x, create_graph=True)
    with first_order(model, points), torch.enable_grad():
        x = points.detach().requires_grad_()
        score = target_logits(model, x, targets)
        return score.detach(), input_gradient(score, x)


METHODS: dict[str, Method] = {
    "random": Method(random, 0, "Random", stochastic=True, order=0),
    "gradient": Method(gradient, 1, "Gradient", order=1),
    "input_x_gradient": Method(input_x_gradient, 1, "Input x Gradient", baseline="zero", order=3),
    "x_gradient": Method(x_gradient, 1, "X-Gradient", needs_x=True, baseline="zero", order=4),
}
