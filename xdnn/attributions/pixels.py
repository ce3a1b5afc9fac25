"""The space of MFABA's released code: pixels in [0, 1], normalisation inside the net.

There zero is black, steps and radii are shares of the pixel range, and a path can be kept inside it. Everywhere else
inputs are normalised and zero is the mean colour; ``in_pixels`` carries a method from one to the other.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from xdnn.logits import all_logits

Bounds = tuple[float, float] | None  # None: not clamped

BOUNDS = (0.0, 1.0)
ROUNDING = 1e-4  # how far float32 arithmetic may carry a pixel over the edge of [0, 1]


class PixelNet(nn.Module):
    """``net((pixels - mean) / std)``: logits of pixels in [0, 1]. ``mean`` and ``std`` per channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.net = net
        self.training = net.training
        weight = next(net.parameters(), torch.zeros(1))
        for name, values in (("mean", mean), ("std", std)):  # in float64 first: a float64 net sees all their digits
            buffer = torch.tensor(list(values), dtype=torch.float64).view(-1, 1, 1).to(weight)
            self.register_buffer(name, buffer, persistent=False)

    def pixels(self, inputs: Tensor) -> Tensor:
        """Normalised inputs as pixels; rounding over the edges is cut off.

        Raises:
            ValueError: an image is outside [0, 1] by more than rounding.
        """
        pixels = inputs * self.std + self.mean
        check_bounds(pixels, (-ROUNDING, 1 + ROUNDING))
        return pixels.clamp(0, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        return all_logits(self.net, (pixels - self.mean) / self.std)


def in_pixels(
    attribute: Callable[..., Tensor], mean: Sequence[float], std: Sequence[float], *, softmax: bool = False
) -> Callable[..., Tensor]:
    """``attribute`` run in pixel space on a net of normalised inputs; with the arguments and the answer of any other method.

    Args:
        mean, std: of the net's normalisation, per channel.
        softmax:   explain the target's probability instead of its logit, for methods that know logits only:
                   the released net ends in a softmax.
    """

    def run(model: nn.Module, inputs: Tensor, targets: Tensor, **options: object) -> Tensor:
        net = PixelNet(model, mean, std)
        explained = nn.Sequential(net, nn.Softmax(1)) if softmax else net
        return attribute(explained, net.pixels(inputs), targets, **options)

    return run


def check_bounds(images: Tensor, bounds: Bounds) -> None:
    """Raises ValueError for an image outside ``bounds``: a clamp would move it before its first step. None: no bounds."""
    if bounds is None or not images.numel():
        return
    outside = ((images < bounds[0]) | (images > bounds[1])).flatten(1).any(1)
    if outside.any():
        worst = int(outside.nonzero()[0])
        found = f"{float(images[worst].min()):.3g}..{float(images[worst].max()):.3g}"
        raise ValueError(
            f"image {worst} of the batch spans {found}, outside {bounds[0]:g}..{bounds[1]:g}: "
            "wrap the method in in_pixels, or pass bounds=None to go without clamping"
        )
