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
from reproduce.attributions.agi import agi
from reproduce.attributions.blur_ig import blur_integrated_gradients
from reproduce.attributions.boundary import MFABA_CORRECTED, big, mfaba, mfaba_walks
from reproduce.attributions.deeplift import deeplift
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
from reproduce.attributions.pixels import in_pixels
from reproduce.attributions.smoothgrad import smoothgrad

__all__ = [
    "METHODS",
    "QUADRATURES",
    "Method",
    "adaptive_integrated_gradients",
    "agi",
    "big",
    "blur_integrated_gradients",
    "deeplift",
    "expected_gradients",
    "full_grad",
    "full_gradient",
    "gradient",
    "guided_integrated_gradients",
    "idgi",
    "in_pixels",
    "input_x_gradient",
    "integrated_gradients",
    "integrated_gradients_noise",
    "mfaba",
    "mfaba_walks",
    "random",
    "smoothgrad",
    "x_gradient",
]


@dataclass(frozen=True)
class Method:
    """A row of the studies' tables.

    Attributes:
        attribute: called as ``attribute(model, inputs, targets)``; with ``references=`` and ``generator=``
            where it needs them.
        passes: forward and backward passes per image; None where they depend on the image, to be counted as run.
        label: as tables and figures print it.
        references: does it draw reference images?
        stochastic: does it need a generator?
        needs_x: is it defined on nonnegatively homogeneous nets only?
        baseline: what its attributions are relative to, a key of ``studies.axioms.BASELINES``; None where it
            claims no sum.
    """

    attribute: Callable[..., Tensor]
    passes: int | None
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
    "smoothgrad": Method(smoothgrad, 50, "SmoothGrad", stochastic=True),
    "deeplift": Method(deeplift, 2, "DeepLIFT"),
    # walks to the boundary, on normalised inputs as all the others; in_pixels runs them as their authors did
    "mfaba_sharp": Method(partial(mfaba, kind="sharp", bounds=None), None, "MFABA sharp"),
    "mfaba_smooth": Method(partial(mfaba, kind="smooth", bounds=None), None, "MFABA smooth"),
    "mfaba_norm": Method(partial(mfaba, kind="norm", bounds=None), None, "MFABA norm"),
    "mfaba_cosine": Method(partial(mfaba, kind="cosine", bounds=None), None, "MFABA cosine"),
    "mfaba_sharp_corrected": Method(
        partial(mfaba, kind="sharp", bounds=None, **MFABA_CORRECTED), None, "MFABA sharp, corrected"
    ),
    "mfaba_smooth_corrected": Method(
        partial(mfaba, kind="smooth", bounds=None, **MFABA_CORRECTED), None, "MFABA smooth, corrected"
    ),
    "big": Method(partial(big, bounds=None), 407, "BIG"),
    "big_corrected": Method(partial(big, corrected=True, bounds=None), None, "BIG, corrected"),
    "agi": Method(partial(agi, bounds=None), None, "AGI"),
    "agi_corrected": Method(partial(agi, accumulate=True, bounds=None), None, "AGI, corrected"),
}
