"""What a call costs: seconds on the clock and rows through a net, counted exactly."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

Result = TypeVar("Result")


def clocked(call: Callable[[], Result], device: torch.device | str = "cpu") -> tuple[float, Result]:
    """Seconds of one call, and what it returned. A CUDA device is waited for before and after."""
    device = torch.device(device)
    _wait(device)
    start = time.perf_counter()
    result = call()
    _wait(device)
    return time.perf_counter() - start, result


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass
class Passes:
    """Rows (images or points) that went forward and backward through a net."""

    forward: int = 0
    backward: int = 0


@contextmanager
def counted(model: nn.Module) -> Iterator[Passes]:
    """Count the rows of all passes through ``model`` within the block; divide by the images for passes per image.

    A backward pass is one in which a gradient reaches the model's output, so two through one graph count twice.
    """
    passes = Passes()

    def after(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        if not isinstance(output, Tensor):  # a tracer looks at the net without data: that costs no pass
            return
        rows = len(output)
        passes.forward += rows
        if output.requires_grad:
            output.register_hook(lambda gradient: _add(passes, rows))

    with model.register_forward_hook(after):
        yield passes


def _add(passes: Passes, rows: int) -> None:
    passes.backward += rows
