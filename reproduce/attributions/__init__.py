"""Feature attributions as pure functions of one shape.

    method(model, inputs, targets, *, ...) -> attributions

inputs        (B, *F) float, as the model was trained: normalised, so 0 is the mean colour, not black.
targets       (B,) int64 class indices; the explained number is the target's logit.
attributions  (B, *F), dtype and device of inputs; detached unless ``create_graph=True``.

The model runs in the mode it is in: put it in eval mode for images that do not depend on their batch mates.
Random draws come from an explicit ``torch.Generator``. METHODS names each method as the studies print it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from reproduce.attributions.gradients import gradient, input_x_gradient, random, x_gradient
from reproduce.attributions.paths import QUADRATURES, expected_gradients, integrated_gradients

__all__ = [
    "METHODS",
    "QUADRATURES",
    "Method",
    "expected_gradients",
    "gradient",
    "input_x_gradient",
    "integrated_gradients",
    "random",
    "x_gradient",
]


@dataclass(frozen=True)
class Method:
    """A row of the studies' tables.

    attribute:   called as ``attribute(model, inputs, targets)``; with ``references=`` and ``generator=`` where it needs them.
    passes:      forward and backward passes per image.
    label:       as tables and figures print it.
    references:  does it draw reference images?
    stochastic:  does it need a generator?
    needs_x:     is it defined on nonnegatively homogeneous nets only?
    """

    attribute: Callable[..., Tensor]
    passes: int
    label: str
    references: bool = False
    stochastic: bool = False
    needs_x: bool = False

    def __call__(
        self,
        model: nn.Module,
        inputs: Tensor,
        targets: Tensor,
        *,
        references: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Run with what the method takes of ``references`` (R, *F) and ``generator``; the rest is ignored."""
        extra: dict[str, object] = {}
        if self.references:
            extra["references"] = references
        if self.stochastic:
            extra["generator"] = generator
        return self.attribute(model, inputs, targets, **extra)


METHODS: dict[str, Method] = {
    "random": Method(random, 0, "Random", stochastic=True),
    "gradient": Method(gradient, 1, "Gradient"),
    "expected_gradients_1": Method(
        partial(expected_gradients, samples=1), 1, "EG (1)", references=True, stochastic=True
    ),
    "input_x_gradient": Method(input_x_gradient, 1, "Input x Gradient"),
    "x_gradient": Method(x_gradient, 1, "X-Gradient", needs_x=True),
    "integrated_gradients_128": Method(partial(integrated_gradients, steps=128), 128, "IG (128)"),
}
