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

from reproduce.attributions.adaptive import adaptive_integrated_gradients
from reproduce.attributions.blur_ig import blur_integrated_gradients
from reproduce.attributions.full_gradient import full_grad, full_gradient
from reproduce.attributions.gradients import gradient, input_x_gradient, random, x_gradient
from reproduce.attributions.guided_ig import guided_integrated_gradients
from reproduce.attributions.idgi import idgi
from reproduce.attributions.paths import (
    QUADRATURES,
    expected_gradients,
    integrated_gradients,
    integrated_gradients_noise,
)

__all__ = [
    "METHODS",
    "QUADRATURES",
    "Method",
    "adaptive_integrated_gradients",
    "blur_integrated_gradients",
    "expected_gradients",
    "full_grad",
    "full_gradient",
    "gradient",
    "guided_integrated_gradients",
    "idgi",
    "input_x_gradient",
    "integrated_gradients",
    "integrated_gradients_noise",
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
    baseline:    what its attributions are relative to, a key of ``studies.axioms.BASELINES``; None where it claims no sum.
    """

    attribute: Callable[..., Tensor]
    passes: int
    label: str
    references: bool = False
    stochastic: bool = False
    needs_x: bool = False
    baseline: str | None = None

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
        partial(expected_gradients, samples=1), 1, "EG (1)", references=True, stochastic=True, baseline="references"
    ),
    "input_x_gradient": Method(input_x_gradient, 1, "Input x Gradient", baseline="zero"),
    "x_gradient": Method(x_gradient, 1, "X-Gradient", needs_x=True, baseline="zero"),
    "full_grad": Method(full_grad, 1, "FullGrad"),
    "integrated_gradients_128": Method(partial(integrated_gradients, steps=128), 128, "IG (128)", baseline="zero"),
    "integrated_gradients_noise_128": Method(
        partial(integrated_gradients_noise, steps=128), 128, "IG-U (128)", stochastic=True, baseline="noise"
    ),
    "idgi_128": Method(partial(idgi, steps=128), 128, "IDGI (128)", baseline="zero"),
    "guided_ig_128": Method(partial(guided_integrated_gradients, steps=128), 128, "Guided IG (128)", baseline="zero"),
    "blur_ig_128": Method(partial(blur_integrated_gradients, steps=128), 128, "Blur IG (128)", baseline="blurred"),
}
