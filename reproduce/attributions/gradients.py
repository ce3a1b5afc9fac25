"""Attributions of at most one backward pass: random, gradient, input x gradient and X-Gradient."""

import torch
from torch import Tensor, nn

from reproduce.attributions.engine import lean
from reproduce.xdnn import NotHomogeneousError

# Euler's identity is tested relative to sum |x_i dF/dx_i| + |F|, where float32 rounding stays below 1e-5.
EULER_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}


def random(model: nn.Module, inputs: Tensor, targets: Tensor, *, generator: torch.Generator) -> Tensor:
    """Uniform(-0.5, 0.5) in each entry, the control of X-DNN Sec. 4.2. No pass."""
    draws = torch.rand(inputs.shape, generator=generator, dtype=inputs.dtype, device=generator.device)
    return (draws - 0.5).to(inputs.device)


def gradient(model: nn.Module, inputs: Tensor, targets: Tensor, *, create_graph: bool = False) -> Tensor:
    """d logit_target / d input. Unit: logits per input unit. One forward, one backward pass.

    Args:
        create_graph: keep the graph, so that a loss on the attributions can be trained (attribution priors).

    Raises:
        ValueError: inputs or targets that do not fit together or hold NaN; a target that is not a class.
    """
    return _logits_and_gradient(model, inputs, targets, create_graph=create_graph)[1]


def input_x_gradient(model: nn.Module, inputs: Tensor, targets: Tensor, *, create_graph: bool = False) -> Tensor:
    """x * d logit_target / dx. Unit: logits. On an X-DNN this *is* Integrated Gradients with a zero baseline."""
    with torch.set_grad_enabled(create_graph):
        return inputs * gradient(model, inputs, targets, create_graph=create_graph)


def x_gradient(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, create_graph: bool = False, check: bool = True
) -> Tensor:
    """X-Gradient (X-DNN Def. 3.5): Integrated Gradients with a zero baseline of a homogeneous net, in one backward pass.

    Euler's identity, sum_i x_i dF/dx_i = F(x), holds for homogeneous nets of degree 1 and no others. Both sides come out
    of the one pass, so each call checks the net it is given at the price of two sums.

    Args:
        create_graph: keep the graph, to train with a prior on the attributions.
        check:        False skips the check, which makes the host wait for the device; for training loops.

    Returns:
        (B, *F). Unit: logits; sums to F(x) exactly.

    Raises:
        NotHomogeneousError: the identity fails for an image, so this is not IG; says by how much.
    """
    logits, grad = _logits_and_gradient(model, inputs, targets, create_graph=create_graph)
    with torch.set_grad_enabled(create_graph):
        attributions = inputs * grad
    if check and len(inputs):
        _check_euler(attributions.detach(), logits.detach(), type(model).__name__)
    return attributions


def _check_euler(attributions: Tensor, logits: Tensor, name: str) -> None:
    features = tuple(range(1, attributions.ndim))
    total, size = attributions.sum(features), torch.linalg.vector_norm(attributions, 1, features)
    gap = (total - logits).abs() / (size + logits.abs()).clamp_min(1e-30)
    worst = int(gap.argmax())
    allowed = EULER_TOLERANCE[attributions.dtype]
    if not gap[worst] <= allowed:
        raise NotHomogeneousError(
            f"{name} is not nonnegatively homogeneous, so X-Gradient is not defined on it: for image {worst} of the batch "
            f"the attributions sum to {total[worst]:.4g} and the logit is {logits[worst]:.4g} "
            f"(relative gap {gap[worst]:.2g}, allowed {allowed:g}). "
            "Use to_x_variant and train it, wrap it in HomogeneousWrapper, or take integrated_gradients."
        )


def check_batch(inputs: Tensor, targets: Tensor) -> None:
    """Refuse what would fail later or silently: unequal lengths, integer images, NaN.

    Raises:
        ValueError: says which and where.
    """
    if targets.ndim != 1 or len(targets) != len(inputs):
        raise ValueError(
            f"targets must be ({len(inputs)},) for inputs {tuple(inputs.shape)}, got {tuple(targets.shape)}"
        )
    if not inputs.is_floating_point():
        raise ValueError(f"inputs must be normalised floats, got {inputs.dtype}")
    if not torch.isfinite(inputs.detach().sum()):  # one read; a sum may also overflow, so look again before refusing
        finite = torch.isfinite(inputs.detach()).flatten(1).all(1)
        if not finite.all():
            raise ValueError(f"image {int((~finite).nonzero()[0])} of the batch contains NaN or infinity")


def checked_logits(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """F(x), (B, classes), with the graph where inputs ask for it.

    Raises:
        ValueError: the model's output is not (B, classes), or a target is not one of its classes.
    """
    logits = model(inputs)
    if logits.ndim != 2 or len(logits) != len(targets):
        raise ValueError(f"model gave {tuple(logits.shape)} for {len(targets)} targets; expected (B, classes)")
    if len(targets) and (int(targets.min()) < 0 or int(targets.max()) >= logits.shape[1]):
        found = f"{int(targets.min())}..{int(targets.max())}"
        raise ValueError(f"targets must be in 0..{logits.shape[1] - 1}, got {found}")
    return logits


def target_logits(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """F_target(x), (B,), checked like ``checked_logits``."""
    return checked_logits(model, inputs, targets).gather(1, targets[:, None]).squeeze(1)


def _logits_and_gradient(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, create_graph: bool
) -> tuple[Tensor, Tensor]:
    check_batch(inputs, targets)
    return raw_gradient(model, inputs, targets, create_graph=create_graph)


def raw_gradient(model: nn.Module, points: Tensor, targets: Tensor, *, create_graph: bool) -> tuple[Tensor, Tensor]:
    """Target logits (B,) and their gradient (B, *F) at ``points``, without looking at the values of the points."""
    if create_graph:
        x = points if points.requires_grad else points.detach().requires_grad_()
        score = target_logits(model, x, targets)
        return score, torch.autograd.grad(score.sum(), x, create_graph=True)[0]
    with lean(model, points), torch.enable_grad():
        x = points.detach().requires_grad_()
        score = target_logits(model, x, targets)
        return score.detach(), torch.autograd.grad(score.sum(), x)[0]  # rows are independent: the sum keeps them apart
