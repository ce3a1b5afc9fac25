"""FullGrad: a logit split into what the input and what each bias contributes."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from xdnn.arguments import checks_arguments
from xdnn.attributions.method import Method
from xdnn.frozen import frozen
from xdnn.logits import target_logits

RESCALE_EPSILON = 1e-6  # of FullGrad's published code


@dataclass(frozen=True)
class FullGradient:
    """F(x) = sum of ``input_part`` + sum of all ``bias_parts``, for nets that are linear between their kinks.

    Attributes:
        input_part: (B, *F), x * dF/dx.
        bias_parts: each (B, ...), b * dF/d(layer output): one for every constant that the forward pass adds to its
            signal, in its order.
    """

    input_part: Tensor
    bias_parts: tuple[Tensor, ...]

    def bias_total(self) -> Tensor:
        """What the biases contribute, (B,), in logits. Zero on an X-net."""
        zero = self.input_part.new_zeros(len(self.input_part))
        return sum((part.reshape(len(part), -1).sum(1) for part in self.bias_parts), zero)

    def total(self) -> Tensor:
        """(B,) in logits; F(x) where the decomposition is complete."""
        return self.input_part.flatten(1).sum(1) + self.bias_total()


@checks_arguments
def full_gradient(model: nn.Module, inputs: Tensor, targets: Tensor) -> FullGradient:
    """The full-gradient decomposition (Srinivas & Fleuret, NeurIPS 2019, Sec. 3): one forward, one backward pass.

    Biases are found where they act, in the calls of the forward pass: those of linear and convolution layers, the shift
    of a BatchNorm in eval mode, and any other constant that is added to the signal (Fixup's scalars, a 1 in 1 - x).
    Constants inside a unit (where ReLU6 clips, what a GELU bends) are not: there ``total()`` misses the logit.

    Raises:
        TypeError: a ScriptModule, whose calls cannot be seen.
    """
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise TypeError(
            "FullGrad looks at each call of the forward pass, and a ScriptModule hides them: give the net that it was made from"
        )
    with frozen(model), torch.enable_grad():
        x = inputs.detach().requires_grad_()
        with _AddedConstants() as added:
            score = target_logits(model, x, targets)
        grads = torch.autograd.grad(score.sum(), [x, *(signal for signal, _ in added.found)], allow_unused=True)
    parts = [
        (constant * grad).detach().expand_as(grad)
        for (_, constant), grad in zip(added.found, grads[1:], strict=True)
        if grad is not None
    ]
    return FullGradient((x * grads[0]).detach(), tuple(parts))


@checks_arguments
def full_grad(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """FullGrad's saliency map: where input and biases matter, without a sign (Srinivas & Fleuret 2019, Sec. 4).

        S(x) = sum_channels psi(x * dF/dx) + sum_layers sum_channels psi(b * dF/db),   psi = resize . rescale . |.|

    As in the published code, each layer's map is rescaled to 0..1 per image and only maps with places (B, C, H, W) are
    taken, so the biases of linear layers stay out. Not complete: the sum has no unit. One forward, one backward pass.

    Returns:
        (B, *F), >= 0; each channel of the input gets the same share of the map. Inputs that are not pictures get
        psi(x * dF/dx).
    """
    full = full_gradient(model, inputs, targets)
    saliency = _rescaled(full.input_part)
    if inputs.ndim != 4:
        return saliency
    total = saliency.sum(1, keepdim=True)
    for part in full.bias_parts:
        if part.ndim == 4:
            over_channels = _rescaled(part).sum(1, keepdim=True)  # before the resizing, which is linear: one map, not C
            total = total + F.interpolate(over_channels, size=inputs.shape[2:], mode="bilinear", align_corners=True)
    return (total / inputs.shape[1]).expand_as(inputs).clone()


def _rescaled(part: Tensor) -> Tensor:
    """|part| mapped to 0..1 for each image."""
    size = part.abs().flatten(1)
    size = size - size.amin(1, keepdim=True)
    return (size / (size.amax(1, keepdim=True) + RESCALE_EPSILON)).view(part.shape)


class _AddedConstants(TorchFunctionMode):
    """Sees every torch call of the forward pass and keeps those results to which a constant was added.

    The signal is what requires a gradient; parameters are frozen meanwhile. The net goes on with a copy of the result, so
    that an in-place unit after it does not overwrite what the gradient is taken for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[Tensor, Tensor]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if not (isinstance(out, Tensor) and out.requires_grad):
            return out
        constant = _constant(getattr(func, "__name__", ""), args, kwargs)
        if constant is None:
            return out
        self.found.append((out, torch.as_tensor(constant, dtype=out.dtype, device=out.device)))
        return out.clone()


_SUMS = {
    **dict.fromkeys(("add", "add_", "__add__", "__radd__", "__iadd__"), 1),
    **dict.fromkeys(("sub", "sub_", "__sub__", "__isub__"), -1),
}
_LAYERS = {"linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}


def _constant(name: str, args: Any, kwargs: Any) -> Tensor | float | None:
    """What a call adds to its signal, shaped to broadcast to the result; None where it adds nothing."""

    def argument(position: int, key: str) -> Any:
        return args[position] if len(args) > position else kwargs.get(key)

    if name in ("rsub", "__rsub__"):  # constant - signal
        return _if_constant(argument(1, "other"))
    if name in _SUMS:
        sign = _SUMS[name] * kwargs.get("alpha", 1)
        left, right = _if_constant(argument(0, "input")), _if_constant(argument(1, "other"))
        return left if left is not None else None if right is None else sign * right
    if name in _LAYERS:
        bias = argument(2, "bias")
        axes = 0 if name == "linear" else int(name[-2])
        return None if bias is None else bias.view(-1, *[1] * axes)
    if name == "batch_norm":
        return _batch_norm_shift(*(argument(i, key) for i, key in enumerate(_BATCH_NORM)))
    return None


_BATCH_NORM = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")


def _batch_norm_shift(
    signal: Tensor,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor | None:
    if training:
        return None
    shift = -mean / (variance + eps).sqrt() * (1 if weight is None else weight) + (0 if bias is None else bias)
    return shift.view(-1, *[1] * (signal.ndim - 2))


def _if_constant(value: Any) -> Any:
    return None if isinstance(value, Tensor) and value.requires_grad else value


METHODS: dict[str, Method] = {"full_grad": Method(full_grad, 1, "FullGrad", order=5)}
