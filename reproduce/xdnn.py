"""The papers' one idea: without biases a ReLU net is nonnegatively homogeneous, F(a x) = a F(x) for a >= 0.

``to_x_variant`` removes what breaks homogeneity and proves on the traced graph that nothing else does (X-DNN Def. 3.5);
``is_homogeneous`` measures it (Def. 3.3). On such a net Integrated Gradients with a zero baseline is Input x Gradient
(Prop. 3.2), one backward pass. ``HomogeneousWrapper`` gives any net the property without touching its weights.

.. include:: ../docs/theory.md
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn


class NotHomogeneousError(TypeError):
    """A part of a net breaks F(a x) = a F(x); the message names its path, its type and what to do."""


class BiasFreeBatchNorm(nn.Module):
    """BatchNorm that only scales: no mean is subtracted and no shift is added (Mohan et al. 2020, arXiv 1906.05478).

    eval:   y = gamma / sqrt(running_var + eps) * x, linear in x, so homogeneous of degree 1.
    train:  the batch's variance stands in for ``running_var``, which is updated as BatchNorm does it. A statistic of the
            input divides the input: a training pass is *not* homogeneous, and images depend on their batch mates.

    Keeps the names ``weight``, ``running_var`` and ``num_batches_tracked`` of BatchNorm; ``bias`` and ``running_mean`` go.
    """

    weight: nn.Parameter | None
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, norm: nn.modules.batchnorm._BatchNorm) -> None:
        super().__init__()
        if norm.running_var is None:
            raise NotHomogeneousError(
                "BatchNorm without running statistics divides by a statistic of its input, also in eval"
            )
        self.eps, self.momentum = norm.eps, norm.momentum
        self.register_parameter("weight", norm.weight)
        self.register_buffer("running_var", norm.running_var)
        self.register_buffer("num_batches_tracked", norm.num_batches_tracked)

    def forward(self, x: Tensor) -> Tensor:
        variance = self.running_var
        if self.training:
            axes = [axis for axis in range(x.ndim) if axis != 1]
            variance = x.var(axes, unbiased=False)
            count = x.numel() // x.shape[1]
            with torch.no_grad():
                self.num_batches_tracked += 1
                momentum = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
                self.running_var.lerp_(variance.detach() * count / max(count - 1, 1), momentum)
        scale = (variance + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        return x * scale.view(1, -1, *[1] * (x.ndim - 2))


class HomogeneousWrapper(nn.Module):
    """||x|| / r * F(r x / ||x||): any net F made homogeneous without retraining, zero at x = 0.

    F sees every input on the sphere of radius ``r``, so choose ``r`` as the typical norm of normalised training inputs:
    then an ordinary input hardly moves. The construction is that of the IDSDS code (Hesse et al. 2024) with r = 1.
    Integrated Gradients with a zero baseline equals Input x Gradient on the wrapped net *exactly*, biases and all.

    Args:
        model:  F, from (B, *features) to (B, classes).
        radius: r > 0, in the unit of the inputs' Euclidean norm.
    """

    def __init__(self, model: nn.Module, radius: float) -> None:
        super().__init__()
        if not (math.isfinite(radius) and radius > 0):
            raise ValueError(f"radius must be a positive number, got {radius}")
        self.model, self.radius = model, radius

    def forward(self, x: Tensor) -> Tensor:
        norm = x.flatten(1).norm(dim=1)
        safe = torch.where(norm > 0, norm, torch.ones_like(norm))  # a zero image gives zero logits, not NaN
        onto_sphere = x * (self.radius / safe).view(-1, *[1] * (x.ndim - 1))
        return self.model(onto_sphere) * (norm / self.radius)[:, None]


# --- conversion -------------------------------------------------------------------------------------------------------

LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
HOMOGENEOUS = (
    nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.Identity, nn.Flatten, nn.Unflatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d,
    nn.Dropout3d, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
    nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.PixelShuffle, nn.ChannelShuffle, BiasFreeBatchNorm,
)  # fmt: skip
ADVICE = {
    "ReLU6": "it clips at 6: replace it by ReLU and retrain",
    "Hardtanh": "it clips: replace it by ReLU and retrain",
    "LayerNorm": "it divides by a statistic of its input",
    "GroupNorm": "it divides by a statistic of its input",
}


def to_x_variant(model: nn.Module) -> nn.Module:
    """X-variant of ``model``: a copy in which every bias is gone and BatchNorm only scales (X-DNN Sec. 3).

    The copy is then traced, and homogeneity of degree 1 is proved operation by operation: linear layers, ReLU-like units,
    pooling, dropout, reshaping and sums of such signals pass; anything else is refused. A module with parameters of its own
    (not in a child layer) converts itself through a method ``x_variant_()``; ``FixupBlock`` shows how.
    The result has to be *trained* (or given released X-weights): the paper does not strip trained nets.

    Raises:
        NotHomogeneousError: an operation that is not homogeneous, named with its path; or a net that cannot be traced.
    """
    model = copy.deepcopy(model)
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            model = _replace(model, path, BiasFreeBatchNorm(module).train(module.training))
        elif isinstance(module, LINEAR):
            module.register_parameter("bias", None)
        elif hasattr(module, "x_variant_"):
            module.x_variant_()
    prove_homogeneous(model)
    return model


def _replace(model: nn.Module, path: str, module: nn.Module) -> nn.Module:
    if not path:
        return module
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)
    return model


# --- proof on the graph -----------------------------------------------------------------------------------------------
# Abstract interpretation with two kinds of value: a *signal* is homogeneous of degree 1 in the input; everything else
# (numbers, sizes, parameters) does not depend on the input's scale.

_ADD = {"add", "iadd", "sub", "isub", "add_", "sub_"}
_MULTIPLY = {"mul", "imul", "mul_", "truediv", "itruediv", "div", "div_", "matmul", "linear"}
_DIVIDE = {"truediv", "itruediv", "div", "div_"}
_SCALE_FREE = {
    "size",
    "dim",
    "getattr",
    "numel",
    "len",
    "eq",
    "ne",
    "_assert",
}  # of a signal, without depending on its values
_SIGN = {"gt", "ge", "lt", "le"}  # against zero these do not change with the input's scale
_PASS = {
    "relu", "relu_", "leaky_relu", "leaky_relu_", "prelu", "dropout", "dropout_", "dropout2d", "max_pool1d", "max_pool2d",
    "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
    "adaptive_avg_pool3d", "adaptive_max_pool2d", "flatten", "unflatten", "reshape", "view", "permute", "transpose",
    "squeeze", "unsqueeze", "contiguous", "chunk", "split", "getitem", "cat", "concat", "stack", "mean", "sum", "amax",
    "amin", "neg", "interpolate", "to", "float", "double", "clone", "detach", "expand", "repeat", "conv1d", "conv2d",
}  # fmt: skip
_BIASED = {"linear": 2, "conv1d": 2, "conv2d": 2}  # functional layers: position of the bias argument


class _LayerTracer(fx.Tracer):
    """Traces into the net's own modules and stops at the layers that the tables above know."""

    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        return isinstance(module, BiasFreeBatchNorm) or super().is_leaf_module(module, path)


def prove_homogeneous(model: nn.Module) -> None:
    """Prove from its traced graph that ``model`` is homogeneous of degree 1 in eval mode.

    Raises:
        NotHomogeneousError: the first operation that breaks it, with its path; or the reason why there is no graph.
    """
    try:
        graph = _LayerTracer().trace(model)
    except Exception as error:  # tracing runs the user's forward with proxies: it may fail in any way
        raise NotHomogeneousError(
            f"{type(model).__name__} cannot be traced ({error}), so its functional calls cannot be seen: "
            "write its forward without control flow on tensors, or use HomogeneousWrapper"
        ) from error
    modules = dict(model.named_modules())
    signals: set[fx.Node] = set()
    for node in graph.nodes:
        inputs = [n for n in node.all_input_nodes if n in signals]
        if node.op == "placeholder":
            signals.add(node)
        elif node.op == "call_module" and inputs:
            _check_module(str(node.target), modules[str(node.target)])
            signals.add(node)
        elif node.op in ("call_function", "call_method") and inputs and _check_call(node, signals):
            signals.add(node)
        elif node.op == "output":
            constant = [n for n in node.all_input_nodes if n not in signals]
            if constant:
                raise NotHomogeneousError(f"output {constant[0].name} does not scale with the input")


def _check_module(path: str, module: nn.Module) -> None:
    name = type(module).__name__
    if isinstance(module, LINEAR) and module.bias is None:
        return
    if isinstance(module, HOMOGENEOUS):
        return
    if isinstance(module, LINEAR):
        raise NotHomogeneousError(f"{path}: {name} has a bias")
    advice = ADVICE.get(name, "no X-variant of it exists; HomogeneousWrapper takes any net")
    raise NotHomogeneousError(f"{path}: {name} is not positively homogeneous ({advice})")


def _check_call(node: fx.Node, signals: set[fx.Node]) -> bool:
    """Is the result a signal? Raises where the operation breaks homogeneity."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    where = _where(node)

    def is_signal(value: Any) -> bool:
        return isinstance(value, fx.Node) and value in signals

    if name in _SCALE_FREE or (name in _SIGN and node.args[1] == 0):
        return False
    if name in _ADD:
        operands = list(node.args[:2])
        if all(is_signal(operand) or operand == 0 for operand in operands):
            return True
        raise NotHomogeneousError(f"{where}: {name} adds a constant ({_describe(operands, signals)})")
    if name in _BIASED:
        position = _BIASED[name]
        bias = node.kwargs.get("bias", node.args[position] if len(node.args) > position else None)
        if bias is not None:
            raise NotHomogeneousError(f"{where}: {name} is called with a bias")
    if name in _MULTIPLY:
        count = sum(is_signal(operand) for operand in node.args[:2])
        if count == 2:
            raise NotHomogeneousError(f"{where}: {name} of two signals is not of degree 1")
        if name in _DIVIDE and not is_signal(node.args[0]):
            raise NotHomogeneousError(f"{where}: {name} divides by a signal")
        return True
    if name == "pad" and not (node.kwargs.get("value") or (len(node.args) > 3 and node.args[3])):
        return True
    if name in _PASS:
        return True
    raise NotHomogeneousError(f"{where}: function {name} is not known to be positively homogeneous")


def _where(node: fx.Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    paths = [str(path) for path in stack]
    return f"{paths[-1] or 'forward'}" if paths else "forward"


def _describe(operands: Sequence[Any], signals: set[fx.Node]) -> str:
    constants = [o for o in operands if not (isinstance(o, fx.Node) and o in signals)]
    return ", ".join(str(o.target) if isinstance(o, fx.Node) else repr(o) for o in constants)


# --- measurement ------------------------------------------------------------------------------------------------------

FACTORS = (0.0, 1e-3, 0.1, 0.5, 2.0, 10.0, 1e3)  # both extremes: at 1000 a small bias hides, at 0.001 it shows
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3}  # rounding of deep nets stays far below, a bias far above


@dataclass(frozen=True)
class Homogeneity:
    """What ``is_homogeneous`` measured; true where the largest deviation is within the tolerance."""

    deviation: float
    factor: float
    tolerance: float

    def __bool__(self) -> bool:
        return self.deviation <= self.tolerance  # NaN compares false

    def __str__(self) -> str:
        verdict = "homogeneous" if self else "not homogeneous"
        return f"{verdict}: |F(ax) - aF(x)| up to {self.deviation:.2g} of |F(x)| (at a = {self.factor:g}; allowed {self.tolerance:g})"


@torch.no_grad()
def is_homogeneous(
    model: nn.Module,
    inputs: Tensor,
    *,
    factors: Sequence[float] = FACTORS,
    dtype: torch.dtype | None = None,
    tolerance: float | None = None,
) -> Homogeneity:
    """Measure F(a x) = a F(x) (X-DNN Def. 3.3) in eval mode; ``model`` itself is left as it is.

    The deviation at a factor a is max |F(ax) - a F(x)| / (max(a, min factor) * max |F(x)|), per image over its logits,
    the largest over images and factors. At a = 0 it measures F(0) = 0 at the scale of the smallest positive factor.

    Args:
        inputs:    (B, *F) float, ordinary inputs.
        factors:   a >= 0; the defaults span six orders of magnitude.
        dtype:     compute in this dtype (on a copy); default: the inputs' own.
        tolerance: largest deviation that counts as rounding; default 1e-9 in float64, 1e-3 in float32.

    Raises:
        ValueError: a negative factor, or inputs that are not finite.
    """
    if min(factors) < 0 or not any(factors):
        raise ValueError(f"factors must be >= 0 with one above 0, got {tuple(factors)}")
    if not torch.isfinite(inputs).all():
        raise ValueError("inputs contain NaN or infinity")
    dtype = dtype or inputs.dtype
    model = copy.deepcopy(model).to(dtype).eval()
    x = inputs.to(dtype)
    logits = model(x)
    size = logits.abs().amax(1).clamp_min(torch.finfo(dtype).tiny)
    smallest = min(a for a in factors if a > 0)
    deviations = [((model(a * x) - a * logits).abs().amax(1) / (max(a, smallest) * size)).max().item() for a in factors]
    worst = max(range(len(factors)), key=lambda i: math.inf if math.isnan(deviations[i]) else deviations[i])
    return Homogeneity(
        deviations[worst], factors[worst], tolerance if tolerance is not None else TOLERANCE.get(dtype, 5e-2)
    )
