"""Convolutions whose operands have fewer bits: what a GPU's tensor cores do to float32, on any device."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

MANTISSA = 23  # bits of float32 behind the leading one
TF32 = 10  # of the format in which an A100 multiplies float32 by default in convolutions


def round_mantissa(values: Tensor, bits: int) -> Tensor:
    """float32 values rounded to ``bits`` bits behind the leading one, to nearest, halves to even. Same shape.

    Raises:
        TypeError: values of another dtype.
        ValueError: bits outside 1..23.
    """
    if values.dtype != torch.float32:
        raise TypeError(f"only float32 is rounded, got {values.dtype}")
    if not 1 <= bits <= MANTISSA:
        raise ValueError(f"bits must be in 1..{MANTISSA}, got {bits}")
    dropped = MANTISSA - bits
    if not dropped:
        return values
    pattern = values.view(torch.int32)
    even = (pattern >> dropped) & 1
    rounded = (pattern + ((1 << (dropped - 1)) - 1 + even)) & -(1 << dropped)  # a carry rightly raises the exponent
    return rounded.view(torch.float32).where(values.isfinite(), values)


class _Rounded(torch.autograd.Function):
    """Rounds on the way forward and lets gradients pass: the product sees the rounded operand."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, bits: int) -> Tensor:
        return round_mantissa(values, bits)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


@contextmanager
def rounded_convolutions(model: nn.Module, bits: int) -> Iterator[None]:
    """Within it every ``Conv2d`` multiplies operands of ``bits`` bits, in forward and backward passes; sums stay float32.

    Operands are the layer's inputs and weights and, on the way back, the gradient of its output and the weights. Afterwards
    the model is as before.

    Raises:
        ValueError: bits outside 1..23, or a model without convolutions.
    """
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    if not convolutions:
        raise ValueError("the model has no Conv2d to round in")
    weights = [(conv.weight, conv.weight.detach().clone()) for conv in convolutions]
    handles = []
    try:
        with torch.no_grad():
            for weight, kept in weights:
                weight.copy_(round_mantissa(kept, bits))
        if bits < MANTISSA:
            for conv in convolutions:
                handles.append(conv.register_forward_pre_hook(partial(_round_inputs, bits)))
                handles.append(conv.register_forward_hook(partial(_round_gradient, bits)))
        yield
    finally:
        for handle in handles:
            handle.remove()
        with torch.no_grad():
            for weight, kept in weights:
                weight.copy_(kept)


def _round_inputs(bits: int, layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
    return (_Rounded.apply(inputs[0], bits),)


def _round_gradient(bits: int, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    if output.requires_grad:
        output.register_hook(partial(round_mantissa, bits=bits))
