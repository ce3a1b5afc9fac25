"""`convert`: an X-net made of a trained net."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reproduce.cli import options, user_net
from reproduce.cli.console import console, say, table
from reproduce.cli.training import Settings, started
from reproduce.errors import UserError

if TYPE_CHECKING:
    from torch import nn

UNTRAINED = (
    "`biases removed` is the trained net just after it lost its biases: its accuracy and its maps are not those of an X-net, "
    "which is trained without them; `fine-tuned` is"
)


def convert(
    settings: Settings,
    arch: Annotated[str, typer.Option(help="its architecture, a model of `list`, or " + user_net.OWN)],
    weights: Annotated[
        Path | None,
        typer.Argument(help="checkpoint of a trained regular net; default: what FILE.py:factory itself loads"),
    ] = None,
    plugin: options.Plugins = None,
) -> None:
    """Make an X-net of a trained net and fine-tune it.

    Removes its biases, and reports accuracy, homogeneity and MARD before and after.

    Example: python -m reproduce convert vgg16.pth --arch vgg16 --data imagenet --out x-vgg16 --device cuda
    """
    from reproduce.training import convert as conversion
    from xdnn import NotHomogeneousError

    recipe = conversion.fine_tuning(settings.recipe(arch), settings.epochs or conversion.FINE_TUNE_EPOCHS)
    about = {"arch": arch, "variant": "x", "width": settings.width, "from": str(weights or arch)}
    with started(settings) as (rank, shared):
        folders = settings.folders()
        net = trained(settings.net(arch, "regular", folders.classes), arch, weights, say_so=rank.first)
        if rank.first:
            user_net.say_normalised(arch)
            user_net.warn([UNTRAINED])
        try:
            rows = conversion.convert(net, folders, settings.out, settings.changed(recipe), about, **shared)
        except NotHomogeneousError as error:
            raise UserError(f"{arch} has no X-variant: {error}") from error
    if rank.first:
        rows.to_csv(settings.out / "convert.csv", index=False)
        shown = table(f"{arch}: {settings.out / 'best.pth.tar'}", *rows.columns)
        for row in rows.itertuples(index=False):
            shown.add_row(*(value if isinstance(value, str) else f"{value:.4g}" for value in row))
        console.print(shown)


def trained(net: "nn.Module", arch: str, weights: Path | None, *, say_so: bool) -> "nn.Module":
    """The net with its weights. Raises UserError where there are none, or they do not fit."""
    from reproduce.packaged_nets import is_packaged
    from reproduce.stripped_weights import load_stripped

    if weights is None:
        if ":" not in arch or is_packaged(arch):
            raise UserError(f"{arch} has random weights: name a checkpoint, e.g. convert vgg16.pth --arch vgg16")
        return net
    for line in load_stripped(net, weights):
        if say_so:
            say(line)
    return net
