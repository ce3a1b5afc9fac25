"""Feature attributions as pure functions of one shape.

    method(model, inputs, targets, *, ...) -> attributions

    model         a torch.nn.Module, or any function, (B, *F) -> (B, classes); of other outputs ``adapt.Logits`` makes them.
    inputs        (B, *F) float, as the model was trained: normalised, so 0 is the mean colour, not black.
    targets       the classes whose logits are explained: (B,) whole numbers, a list, one int for all, or None: the class
                  that the model predicts, at a forward pass more.
    attributions  (B, *F), dtype and device of inputs; detached unless ``create_graph=True``.

The model runs in the mode it is in: put it in eval mode for images that do not depend on their batch mates.
Random draws come from an explicit ``torch.Generator``. METHODS names each method as tables print it; a file that adds
methods ends in a METHODS of its own.
"""

from xdnn.attributions.adaptive import adaptive_integrated_gradients
from xdnn.attributions.agi import agi
from xdnn.attributions.big import big
from xdnn.attributions.blur_ig import blur_integrated_gradients
from xdnn.attributions.deeplift import NotSupportedError, deeplift
from xdnn.attributions.full_gradient import FullGradient, full_grad, full_gradient
from xdnn.attributions.gradients import gradient, input_x_gradient, random, x_gradient
from xdnn.attributions.guided_ig import guided_integrated_gradients
from xdnn.attributions.idgi import idgi
from xdnn.attributions.method import Method
from xdnn.attributions.mfaba import mfaba, mfaba_paths
from xdnn.attributions.paths import (
    QUADRATURES,
    expected_gradients,
    integrated_gradients,
    integrated_gradients_noise,
)
from xdnn.attributions.pixels import in_pixels
from xdnn.attributions.smoothgrad import smoothgrad
from xdnn.attributions.wrapped import wrapped_x_gradient
from xdnn.registry import discover

__all__ = [
    "METHODS",
    "QUADRATURES",
    "FullGradient",
    "Method",
    "NotSupportedError",
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
    "mfaba_paths",
    "random",
    "smoothgrad",
    "wrapped_x_gradient",
    "x_gradient",
]

METHODS: dict[str, Method] = dict(sorted(discover(__name__, "METHODS").items(), key=lambda entry: entry[1].order))
