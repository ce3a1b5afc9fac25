"""Nets, inputs and equivalent networks that the axioms are tried with: the papers' functions, random nets, a scale's nets."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reproduce.models.toys import RANDOM_CNN_CLASSES, RANDOM_CNN_SHAPE, PaperFunctions, random_cnn
from xdnn.equivalent_networks import equivalent_network
from xdnn.metrics.axioms import Subject


@dataclass(frozen=True)
class Setting:
    """Constants of what the axioms are tried with.

    Attributes:
        references: inputs that methods with references draw from.
        noise: baselines that the mean output of IG-U's end point is taken over.
        dead: share of an input's numbers that the net under test does not see.
        factor: a of a x. Not a power of two, by which floats are multiplied without rounding.
        weights: a and b of aF + bG.
        single: size of the one number that differs from zero, in normalised units.
    """

    references: int = 8
    noise: int = 64
    dead: float = 0.1
    factor: float = 0.3
    weights: tuple[float, float] = (0.7, -1.3)
    single: float = 3.0


def paper_functions(count: int, setting: Setting, generator: torch.Generator) -> tuple[Subject, Tensor]:
    """The IG paper's functions with random parameters at ``count`` random points, whose third number is not seen.

    Returns:
        The subject, and references (R, 3).
    """
    w, a, b = (0.5 + torch.rand(3, generator=generator)).tolist()
    c = float(torch.rand(1, generator=generator))
    inputs = 3 * torch.rand(count, 3, generator=generator, dtype=torch.float64)
    targets = torch.arange(count) % 3
    single = inputs * torch.tensor([1, 0, 0])
    net, equivalent = (PaperFunctions(w, a, b, c, rewritten=flag) for flag in (False, True))
    references = 3 * torch.rand(setting.references, 3, generator=generator, dtype=torch.float64)
    alive = torch.tensor([1, 1, 0], dtype=torch.float64)
    return Subject(net, equivalent, inputs, targets, alive, single, setting.factor, setting.weights), references


def random_net(variant: str, count: int, setting: Setting, generator: torch.Generator) -> tuple[Subject, Tensor]:
    """A random CNN, regular or X, in float64 with ``count`` random inputs, and references (R, *F)."""
    net = random_cnn(variant, generator)
    draws = torch.randn(count + setting.references, *RANDOM_CNN_SHAPE, generator=generator, dtype=torch.float64)
    targets = torch.arange(count) % RANDOM_CNN_CLASSES
    return of_net(net, draws[:count], targets, setting, generator), draws[count:]


def of_net(net: nn.Module, inputs: Tensor, targets: Tensor, setting: Setting, generator: torch.Generator) -> Subject:
    """A net with its equivalent network, dead features drawn at random, and inputs of a single number each."""
    alive = (torch.rand(inputs[0].numel(), generator=generator) > setting.dead).to(inputs)
    place = torch.multinomial(alive.cpu(), len(inputs), replacement=True, generator=generator)
    single = torch.zeros_like(inputs).flatten(1)
    single[torch.arange(len(inputs)), place] = setting.single
    equivalent = equivalent_network(net, generator).eval()
    alive = alive.view(inputs.shape[1:])
    return Subject(net, equivalent, inputs, targets, alive, single.view(inputs.shape), setting.factor, setting.weights)


class Power(nn.Module):
    """F^k: homogeneous of degree k where F is homogeneous of degree 1."""

    def __init__(self, model: nn.Module, degree: int) -> None:
        super().__init__()
        self.model, self.degree = model, degree

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).pow(self.degree)
