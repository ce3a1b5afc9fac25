"""The experiment context: all that a measuring function may ask for besides the values of the tasks that it needs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import torch

from reproduce import randomness
from reproduce.tasks import Progress

if TYPE_CHECKING:
    from reproduce.context import Context

About = TypeVar("About")
Protocol = TypeVar("Protocol")


@dataclass(frozen=True)
class Experiment(Generic[About, Protocol]):
    """One task while it runs.

    Attributes:
        about: what is measured: a net, a configuration.
        protocol: the constants that decide the value.
        progress: told the share of the work that is done, 0..1.
    """

    context: "Context"
    about: About
    protocol: Protocol
    progress: Progress

    @property
    def device(self) -> torch.device:
        return self.context.device

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.context.seed

    def generator(self, *purpose: object) -> torch.Generator:
        """A CPU generator that depends on the run's seed and on what it is for, not on what ran before."""
        return randomness.generator(self.seed, *purpose)
