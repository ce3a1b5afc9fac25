"""What commands that take a net of the user's share: its options, and what is said of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reproduce.cli.console import console, say
from reproduce.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reproduce.user_nets import NetChoice, UserNet

OWN = "FILE.py:factory, torchvision:NAME or timm:NAME"
NAMES = f"{OWN}, or a name from `list`"
CHANNELS = 3


@dataclass(frozen=True)
class NetOptions:
    """What of a net is not as its name says."""

    weights: Annotated[Path | None, typer.Option(help="a state dict, or a checkpoint that holds one")] = None
    head: Annotated[int | None, typer.Option(min=1, help="classes of a new last layer; default: the net's own")] = None
    size: Annotated[int | None, typer.Option(min=8, help="side of the net's input in px; default: its own")] = None
    mean: Annotated[str, typer.Option(help="of pictures in 0..1: one number, or r,g,b; default: the net's own")] = ""
    std: Annotated[str, typer.Option(help="as --mean; default: the net's own")] = ""
    labels: Annotated[str, typer.Option(help="class names: a file with one a line, or JSON, or `imagenet`")] = ""

    def choice(self, name: str, variant: str = "regular") -> "NetChoice":
        """The net that is meant. Raises UserError for numbers that are none."""
        from reproduce.user_nets import NetChoice

        mean, std = numbers("--mean", self.mean), numbers("--std", self.std)
        if std and min(std) <= 0:
            raise UserError(f"--std {self.std}: must be above 0")
        return NetChoice(name, variant, self.weights, self.head, self.size, mean, std, self.labels)


def numbers(option: str, text: str) -> "Sequence[float] | None":
    """One number for all channels, or one for each; None where nothing is given. Raises UserError for anything else."""
    if not text:
        return None
    try:
        found = [float(word) for word in text.split(",")]
    except ValueError:
        found = []
    if len(found) not in (1, CHANNELS):
        raise UserError(f"{option} {text!r}: give one number, or three with commas between them, e.g. 0.5,0.5,0.5")
    return found * (CHANNELS // len(found))


def say_of(net: "UserNet") -> None:
    """What was done to the weights, and in red why numbers of this net say less than they seem to."""
    for line in net.said:
        say(line)
    warn(net.warnings)


def warn(lines: "Sequence[str]") -> None:
    """Lines in red."""
    for line in lines:
        console.print(line, style="red")


def say_normalised(name: str) -> None:
    """Say where a net of a package was made for pictures that are normalised in another way than training does it."""
    from reproduce.packaged_nets import is_packaged, packaged_net
    from reproduce.user_nets import IMAGENET

    own = packaged_net(name)[1] if is_packaged(name) else {}
    if any(tuple(own.get(part, IMAGENET[part])) != tuple(IMAGENET[part]) for part in ("mean", "std")):
        warn(
            [f"pictures are normalised as ImageNet's, and {name} was made for mean {own['mean']} and std {own['std']}"]
        )
