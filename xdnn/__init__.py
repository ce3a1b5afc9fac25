"""Fast axiomatic attribution: nets on which one backward pass is Integrated Gradients, and what it is held against.

    homogeneity   to_x_variant, is_homogeneous, HomogeneousWrapper: F(a x) = a F(x), the papers' one idea
    attributions  methods of one shape, method(model, inputs, targets) -> attributions; METHODS names them all
    metrics       what is measured of attributions and predictions; METRICS says unit and direction
    arguments     what every method takes as model, inputs and targets; adapt makes any net's output logits

torch and numpy are all that it needs; DeepLIFT alone also needs captum. Nothing here knows files, data sets or reports.
"""

from xdnn.adapt import Logits
from xdnn.attributions import (
    METHODS,
    QUADRATURES,
    FullGradient,
    Method,
    NotSupportedError,
    adaptive_integrated_gradients,
    agi,
    big,
    blur_integrated_gradients,
    deeplift,
    expected_gradients,
    full_grad,
    full_gradient,
    gradient,
    guided_integrated_gradients,
    idgi,
    in_pixels,
    input_x_gradient,
    integrated_gradients,
    integrated_gradients_noise,
    mfaba,
    mfaba_paths,
    random,
    smoothgrad,
    wrapped_x_gradient,
    x_gradient,
)
from xdnn.homogeneity import (
    BiasFreeBatchNorm,
    Homogeneity,
    HomogeneousWrapper,
    NotHomogeneousError,
    check_homogeneous,
    fit_radius,
    is_homogeneous,
    to_x_variant,
)
from xdnn.metrics import METRICS, Metric

__version__ = "0.2.0"

__all__ = [
    "METHODS",
    "METRICS",
    "QUADRATURES",
    "BiasFreeBatchNorm",
    "FullGradient",
    "Homogeneity",
    "HomogeneousWrapper",
    "Logits",
    "Method",
    "Metric",
    "NotHomogeneousError",
    "NotSupportedError",
    "adaptive_integrated_gradients",
    "agi",
    "big",
    "blur_integrated_gradients",
    "check_homogeneous",
    "deeplift",
    "expected_gradients",
    "fit_radius",
    "full_grad",
    "full_gradient",
    "gradient",
    "guided_integrated_gradients",
    "idgi",
    "in_pixels",
    "input_x_gradient",
    "integrated_gradients",
    "integrated_gradients_noise",
    "is_homogeneous",
    "mfaba",
    "mfaba_paths",
    "random",
    "smoothgrad",
    "to_x_variant",
    "wrapped_x_gradient",
    "x_gradient",
]
