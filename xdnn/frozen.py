"""No graph for parameters: what a gradient with respect to the input does not need."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from xdnn.strided_convolution import fast_strided_convolutions


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No graph is kept for the parameters within the block: saves the memory that their gradients would need."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


@contextmanager
def first_order(model: nn.Module, inputs: Tensor) -> Iterator[None]:
    """For first-order gradients with respect to ``inputs``: parameters frozen, strided convolutions fast."""
    with frozen(model), fast_strided_convolutions(model, inputs):
        yield
