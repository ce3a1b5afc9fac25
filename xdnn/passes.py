"""What a call costs in passes: rows through a net, counted exactly."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class Passes:
    """Rows (images or points) that went forward and backward through a net."""

    forward: int = 0
    backward: int = 0


@contextmanager
def count_passes(model: nn.Module) -> Iterator[Passes]:
    """Count the rows of all passes through ``model`` within the block; divide by the images for passes per image.

    A backward pass is one in which a gradient reaches the model's output, so two through one graph count twice.

    Raises:
        TypeError: no module, or one that takes no hooks: it cannot be seen passing.
    """
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        raise TypeError(
            f"passes are counted by a hook, and {type(model).__name__} takes none: count them at an adapter, "
            "model = xdnn.adapt.Logits(model), and give the method the same adapter"
        )
    passes = Passes()

    def after(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        if not isinstance(output, Tensor):  # a tracer looks at the net without data: that costs no pass
            return
        rows = len(output)
        passes.forward += rows
        if output.requires_grad:
            output.register_hook(lambda gradient: _add_backward(passes, rows))

    with model.register_forward_hook(after):
        yield passes


def _add_backward(passes: Passes, rows: int) -> None:
    passes.backward += rows
