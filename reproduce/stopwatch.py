"""Times of methods that travel between machines: beside one gradient, and beside bare passes, which bound them from below."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from reproduce.timing import clocked
from xdnn import gradient
from xdnn.chunking import chunk_size
from xdnn.memory_format import index_images
from xdnn.passes import Passes

Call = Callable[[], Tensor]


@dataclass(frozen=True)
class Stopwatch:
    """Times calls of one batch beside plain gradients and bare passes of the same minute.

    Attributes:
        images: of the batch.
        stretch: rows of one timing, at least.
        gradient: of the batch.
        row_seconds: seconds of a row of bare passes, forward and backward.
    """

    images: int
    stretch: int
    device: torch.device
    gradient: Call
    row_seconds: Callable[[], float]

    def times(self, call: Call, peer: Call | None, passes: Passes, rounds: int) -> dict[str, list[float]]:
        """The metrics of a warm call that makes ``passes``; the bound only where it has backward passes."""
        of_call = max(passes.forward, passes.backward)
        found: dict[str, list[float]] = {"relative_time": [], "images_per_second": []}
        for _ in range(rounds):
            one_gradient = seconds(self.gradient, self.images, self.stretch, self.device)
            ours = seconds(call, of_call, self.stretch, self.device)
            bound = self.row_seconds() * passes.backward
            found["relative_time"].append(ours / one_gradient)
            found["images_per_second"].append(self.images / ours)
            if bound:
                found.setdefault("over_bound", []).append(ours / bound)
            if peer is not None:
                theirs = seconds(peer, of_call, self.stretch, self.device)
                found.setdefault("captum", []).append(theirs / ours)
        return found


def seconds(call: Call, of_call: int, stretch: int, device: torch.device) -> float:
    """Of one call that takes ``of_call`` rows through the net, repeated until there are ``stretch`` rows."""
    times = -(-stretch // max(1, of_call))
    return clocked(lambda: [call() for _ in range(times)], device)[0] / times


def bare_passes(model: nn.Module, inputs: Tensor, targets: Tensor, stretch: int = 128) -> Callable[[], float]:
    """Times bare passes at the batch size that is fastest per row: seconds of a row, forward and backward, at each call."""
    found = []
    for size in sorted({4, 16, 64, chunk_size(model, inputs, None)}):
        place = torch.arange(size, device=inputs.device) % len(inputs)
        once = partial(gradient, model, index_images(inputs, place), targets[place])
        once()  # the first call allocates
        clock = partial(seconds, once, size, stretch, inputs.device)
        found.append((clock() / size, size, clock))
    _, size, clock = min(found, key=lambda one: one[0])
    return lambda: clock() / size
