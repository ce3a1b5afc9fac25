"""The number format of passes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

PRECISIONS = ("float32", "bf16")


@contextmanager
def in_precision(inputs: Tensor, precision: str) -> Iterator[None]:
    """Passes within the block in this precision: "float32" as the net is, or "bf16" by autocast; sums stay float32.

    bf16 keeps eight binary digits of each factor, so attributions move by more than rounding of float32 does: whoever
    asks for it should print the difference to float32 beside the result.

    Raises:
        ValueError: another precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; there are: {', '.join(PRECISIONS)}")
    if precision == "float32":
        yield
    else:
        with torch.autocast(inputs.device.type, torch.bfloat16):
            yield
