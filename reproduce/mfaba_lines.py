"""The lines of MFABA's Table 1: its methods as released, as described and corrected, and what is set beside them.

As released, each returns what the authors' code returns, number for number (``tests/test_released_mfaba.py``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from reproduce.datasets.images import Images
from xdnn import agi, big, deeplift, gradient, input_x_gradient, integrated_gradients, smoothgrad, x_gradient
from xdnn.attributions.gradients import random
from xdnn.attributions.mfaba import PROTOCOLS as MFABA_PROTOCOLS
from xdnn.attributions.mfaba import BoundaryPaths, mfaba_paths
from xdnn.attributions.paths import captum_trapezoid
from xdnn.attributions.pixels import PixelNet
from xdnn.chunking import chunk_size

RELEASED, DESCRIBED, CORRECTED, ADDED = "released", "described", "corrected", "added"
MFABA_BATCH, AGI_BATCH = 128, 64  # images of the authors' batches, on which their maps depend
BATCH = 50  # images that the other methods explain together: does not change a number
IG_STEPS = 50
PIXELS, PROBABILITY, NORMALISED = "pixels", "probability", "normalised"


@dataclass(frozen=True)
class Line:
    """A method in a protocol.

    Attributes:
        attribute:  (model, inputs, targets) -> attributions, or the paths that they were made along.
        space:      PIXELS in [0, 1], as the authors run it; PROBABILITY: there, on the net with its softmax, for methods
                    that know no softmax; NORMALISED: on what the net was trained on.
        predicted:  explain the predicted class, whose probability the curves are, instead of the label?
        batch:      images that are explained together.
        output:     of MFABA, what its attributions should sum to the fall of; a key of ``boundary_paths.SCORES``.
        stochastic: does it need a generator?
    """

    method: str
    protocol: str
    attribute: Callable[..., Tensor | BoundaryPaths]
    space: str = PIXELS
    predicted: bool = False
    batch: int = BATCH
    output: str = ""
    stochastic: bool = False

    @property
    def key(self) -> str:
        return f"{self.method} {self.protocol}"


class Spaces:
    """One model in each space. Each is looked at once, so that no line pays for finding out how much fits into a pass."""

    def __init__(self, model: nn.Module, images: Images, device: torch.device) -> None:
        self.pixel_net = PixelNet(model, images.mean, images.std)
        self.nets = {
            PIXELS: self.pixel_net,
            PROBABILITY: nn.Sequential(self.pixel_net, nn.Softmax(1)),
            NORMALISED: model,
        }
        one = images.inputs(slice(0, 1)).to(device)
        for net in self.nets.values():
            chunk_size(net, one, None)

    def run(self, line: Line, inputs: Tensor, targets: Tensor, **options: object) -> Tensor | BoundaryPaths:
        """A line on normalised inputs, in its space."""
        points = inputs if line.space == NORMALISED else self.pixel_net.pixels(inputs)
        return line.attribute(self.nets[line.space], points, targets, **options)


@torch.no_grad()
def predictions(model: nn.Module, inputs: Tensor) -> Tensor:
    return model(inputs).argmax(1)


def mfaba_line(kind: str, protocol: str) -> Line:
    chosen = MFABA_PROTOCOLS[kind][protocol]
    return Line(
        f"mfaba_{kind}",
        protocol,
        partial(mfaba_paths, kind=kind, protocol=protocol),
        predicted=protocol == CORRECTED,
        batch=MFABA_BATCH if chosen.ties_batch_mates else BATCH,
        output=chosen.output,
    )


ALL_OF_BIG = Line("big", RELEASED, big)  # all seven searches, which is what the paper timed
SMOOTHGRAD = Line("smoothgrad", RELEASED, smoothgrad, PROBABILITY, stochastic=True)  # sigma 0.15 of the pixels' range
_IG = partial(integrated_gradients, steps=IG_STEPS)
_LINES = (
    Line("gradient", RELEASED, gradient, PROBABILITY),
    Line("ig", RELEASED, partial(_IG, quadrature=captum_trapezoid), PROBABILITY),
    Line("big", RELEASED, partial(big, repeat_equal=False)),
    Line("agi", RELEASED, agi, predicted=True, batch=AGI_BATCH),
    *(mfaba_line(kind, RELEASED) for kind in ("smooth", "sharp", "norm", "cosine")),
    Line("big", DESCRIBED, partial(big, repeat_equal=False, protocol=DESCRIBED)),
    Line("agi", DESCRIBED, partial(agi, protocol=DESCRIBED), predicted=True),
    *(mfaba_line(kind, DESCRIBED) for kind in ("smooth", "sharp")),
    Line("gradient", CORRECTED, gradient, PROBABILITY, predicted=True),
    Line("ig", CORRECTED, _IG, PROBABILITY, predicted=True),
    Line("big", CORRECTED, partial(big, protocol=CORRECTED), predicted=True),
    *(mfaba_line(kind, CORRECTED) for kind in ("smooth", "sharp")),
    Line("deeplift", ADDED, deeplift, predicted=True),
    Line("input_x_gradient", ADDED, input_x_gradient, NORMALISED, predicted=True),
    Line("x_gradient", ADDED, x_gradient, NORMALISED, predicted=True),
    Line("random", ADDED, random, NORMALISED, predicted=True, stochastic=True),
)
LINES = {line.key: line for line in _LINES}
LABELS = {
    "gradient": "SM",
    "ig": f"IG ({IG_STEPS})",
    "big": "BIG",
    "agi": "AGI",
    "mfaba_smooth": "MFABA smooth",
    "mfaba_sharp": "MFABA sharp",
    "mfaba_norm": "MFABA norm",
    "mfaba_cosine": "MFABA cosine",
    "deeplift": "DeepLIFT",
    "input_x_gradient": "Input x Gradient",
    "x_gradient": "X-Gradient",
    "random": "Random",
    "smoothgrad": "SmoothGrad (50)",
}
OTHERS, MFABA = ("gradient", "ig", "big", "agi"), ("mfaba_smooth", "mfaba_sharp")  # of the paper's table
# Where a protocol changes nothing of a method's map: which of its lines stands for it.
INSTEAD = {
    ("gradient", DESCRIBED): RELEASED,
    ("ig", DESCRIBED): RELEASED,
    ("agi", CORRECTED): DESCRIBED,
}
REGULAR = tuple(key for key, line in LINES.items() if line.method != "x_gradient")
FEWER = tuple(key for key in REGULAR if LINES[key].method not in ("mfaba_norm", "mfaba_cosine", "deeplift"))
ON_X_NETS = tuple(
    f"{m} {p}" for m, p in (("gradient", RELEASED), ("mfaba_sharp", RELEASED), ("x_gradient", ADDED), ("random", ADDED))
)
