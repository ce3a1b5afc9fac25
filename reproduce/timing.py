"""Seconds of a call on the clock."""

import time
from collections.abc import Callable
from typing import TypeVar

import torch

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
