"""Small functions whose attributions are known by hand, and small random nets."""

import math

import torch
from torch import Tensor, nn

from xdnn import to_x_variant


class PaperFunctions(nn.Module):
    """The IG paper's examples as the three logits of a net on numbers (x1, x2, ...) of which it sees two.

        saturation  1 - ReLU(1 - w x1)                                Sec. 2.1, w = 1
        pair        ReLU(ReLU(a x1) - c - ReLU(b x2)),  c >= 0        Fig. 7's f, a = b = c = 1
        minimum     min(x1, x2)                                       Sec. 4

    ``rewritten=True`` computes the same functions by another graph; its pair is Fig. 7's
    g = ReLU(ReLU(a x1 - c) - ReLU(b x2)).
    """

    def __init__(
        self, w: float = 1.0, a: float = 1.0, b: float = 1.0, c: float = 1.0, *, rewritten: bool = False
    ) -> None:
        super().__init__()
        if c < 0:
            raise ValueError(f"c must be >= 0, or f and g are two functions; got {c}")
        self.w, self.a, self.b, self.c, self.rewritten = w, a, b, c, rewritten
        self.relus = nn.ModuleList(nn.ReLU() for _ in range(5))  # one for each place: hooks tell them apart

    def forward(self, x: Tensor) -> Tensor:
        x1, x2 = x[:, 0], x[:, 1]
        saturation, inner, other, outer, difference = self.relus
        if self.rewritten:
            first = self.w * x1 - saturation(self.w * x1 - 1)
            pair = outer(inner(self.a * x1 - self.c) - other(self.b * x2))
            least = x2 - difference(x2 - x1)
        else:
            first = 1 - saturation(1 - self.w * x1)
            pair = outer(inner(self.a * x1) - self.c - other(self.b * x2))
            least = x1 - difference(x1 - x2)
        return torch.stack([first, pair, least], 1)


RANDOM_CNN_SHAPE, RANDOM_CNN_CLASSES = (3, 8, 8), 4


def random_cnn(variant: str, generator: torch.Generator) -> nn.Module:
    """Two convolutions and a hidden layer on RANDOM_CNN_SHAPE, float64, every weight and bias drawn; "regular" or "x"."""
    channels, height, width = RANDOM_CNN_SHAPE
    net = nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * ((height - 1) // 2) * ((width - 1) // 2), 16),
        nn.ReLU(),
        nn.Linear(16, RANDOM_CNN_CLASSES),
    ).double()
    with torch.no_grad():
        for parameter in net.parameters():
            inputs = parameter[0].numel() if parameter.ndim > 1 else 8
            draws = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(draws * math.sqrt(2 / inputs))
    return (to_x_variant(net) if variant == "x" else net).eval()
