"""Problems whose inputs are no pictures: data, net, loss, and what is measured of outputs and of attributions."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reproduce.datasets.beyond_images import AREA_UNIT, SOUNDS, Examples, molecules, spelled_sounds
from reproduce.models.compact import AtomNet, LetterNet
from xdnn.metrics.localisation import pointing_game


@dataclass(frozen=True)
class Problem:
    """Data, net and loss; what is measured of outputs and attributions.

    Attributes:
        quality: (outputs, targets) -> a number per example.
        target: which output is attributed, from the targets.
        agreement: (attributions by token, truth) -> a number per example, on examples where ``known`` (truth) is true.
        words: for people: the net, the quality with its unit and its better direction, the agreement with its unit.
    """

    load: Callable[[str], Examples]
    net: Callable[[int], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    quality: Callable[[Tensor, Tensor], Tensor]
    target: Callable[[Tensor], Tensor]
    agreement: Callable[[Tensor, Tensor], Tensor]
    known: Callable[[Tensor], Tensor]
    words: tuple[str, str, str, str, str, str]


def correlation(attributions: Tensor, truth: Tensor) -> Tensor:
    """Pearson's correlation over the tokens of each example, (N, P) and (N, P) -> (N,). Constant attributions give 0."""
    a, b = (v - v.mean(1, keepdim=True) for v in (attributions, truth))
    size = a.norm(dim=1) * b.norm(dim=1)
    return ((a * b).sum(1) / size).where(size != 0, 0.0)  # NaN stays NaN


PROBLEMS = {
    "spelled-sounds": Problem(
        load=spelled_sounds,
        net=partial(LetterNet, classes=len(SOUNDS)),
        loss=F.cross_entropy,
        quality=lambda outputs, targets: 100.0 * (outputs.argmax(1) == targets),
        target=lambda targets: targets,
        agreement=lambda tokens, truth: 100.0 * pointing_game(tokens, truth),
        known=lambda truth: truth.any(1),
        words=("letter CNN", "accuracy (%)", "%", "higher", "top letter spells the sound (%)", "%"),
    ),
    "nci-molecules": Problem(
        load=molecules,
        net=AtomNet,
        loss=lambda outputs, targets: F.smooth_l1_loss(outputs[:, 0], targets),
        quality=lambda outputs, targets: AREA_UNIT * (outputs[:, 0] - targets).abs(),
        target=lambda targets: torch.zeros(len(targets), dtype=torch.long, device=targets.device),
        agreement=correlation,
        known=lambda truth: (truth != truth[:, :1]).any(1),
        words=("atom GNN", "mean error (square Å)", "Å²", "lower", "correlation with the atoms' parts", ""),
    ),
}
