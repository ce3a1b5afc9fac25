"""`convert`: an X-net made of a trained net."""

from pathlib import Path
from typing import Annotated

import typer

from reproduce.cli import options
from reproduce.cli.console import console, table
from reproduce.cli.training import Settings, started


def convert(
    weights: Annotated[
        Path, typer.Argument(help="checkpoint of a trained regular net: a state dict, or one under `state_dict`")
    ],
    arch: Annotated[str, typer.Option(help="its architecture, a model of `list`")],
    settings: Settings,
    plugin: options.Plugins = None,
) -> None:
    """Make an X-net of a trained net and fine-tune it.

    Removes its biases, and reports accuracy, homogeneity and MARD before and after.

    Example: python -m reproduce convert vgg16.pth --arch vgg16 --data imagenet --out x-vgg16 --device cuda
    """
    from reproduce.models.weights import load_weights
    from reproduce.training import convert as conversion
    from reproduce.training import imagenet

    recipe = conversion.fine_tuning(imagenet.recipe_for(arch), settings.epochs or conversion.FINE_TUNE_EPOCHS)
    about = {"arch": arch, "variant": "x", "width": settings.width, "from": str(weights)}
    with started(settings) as (rank, shared):
        folders = settings.folders()
        net = load_weights(settings.net(arch, "regular", folders.classes), weights)
        rows = conversion.convert(net, folders, settings.out, settings.changed(recipe), about, **shared)
    if rank.first:
        rows.to_csv(settings.out / "convert.csv", index=False)
        shown = table(f"{arch}: {settings.out / 'best.pth.tar'}", *rows.columns)
        for row in rows.itertuples(index=False):
            shown.add_row(*(value if isinstance(value, str) else f"{value:.4g}" for value in row))
        console.print(shown)
