"""Does fast axiomatic attribution hold? X-DNN, Integrated Gradients and MFABA, reproduced and measured.

    xdnn          to_x_variant, is_homogeneous, HomogeneousWrapper: the papers' one idea
    attributions  pure functions (model, inputs, targets) -> attributions; METHODS
    metrics       pure functions of attributions, logits and samples
    models        architectures in the released layout, and nets whose weights ship in packages
    datasets      what is embedded in packages, what is fetched
    training      the recipes of the embedded nets; the papers' on image folders; conversion of a trained net
    studies       one file per table or figure: protocol, rows, claims, picture
    report        tables, figures and the page
    scales        embedded, subset, paper: how much of each study is run, on what
    run           a scale on a device with a seed: nets, images and cells for the studies
    cells         finished pieces of work on disk
    ranks         which of several processes this is
    runner        runs studies; progress, provenance and __main__ are its face
    estimate      what a scale will cost on this device

Imports run downwards in this order only from studies, run and runner; attributions, metrics, models and datasets do not
know of studies, and the report knows rows and result files only.
"""

from reproduce.attributions import expected_gradients, gradient, input_x_gradient, integrated_gradients, x_gradient
from reproduce.xdnn import HomogeneousWrapper, NotHomogeneousError, is_homogeneous, to_x_variant

__all__ = [
    "HomogeneousWrapper",
    "NotHomogeneousError",
    "expected_gradients",
    "gradient",
    "input_x_gradient",
    "integrated_gradients",
    "is_homogeneous",
    "to_x_variant",
    "x_gradient",
]
