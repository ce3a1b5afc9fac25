"""`train`: a net from scratch by the X-DNN authors' recipe."""

from typing import Annotated

import typer

from reproduce.cli import options, user_net
from reproduce.cli.training import Settings, started
from reproduce.errors import UserError

VARIANTS = ("regular", "x")


def train(
    model: Annotated[str, typer.Argument(help="a model of `list`, e.g. alexnet; or " + user_net.OWN)],
    settings: Settings,
    variant: Annotated[str, typer.Option(help="regular or x")] = "regular",
    plugin: options.Plugins = None,
) -> None:
    """Train a net from scratch by the X-DNN authors' recipe.

    Under torchrun on several devices. Goes on after the last finished epoch.

    Example: python -m reproduce train resnet50 --variant x --data imagenet --out x-resnet50 --device cuda
    """
    from reproduce.training import imagenet

    if variant not in VARIANTS:
        raise UserError(f"unknown variant {variant!r}; there are: {', '.join(VARIANTS)}")
    recipe = settings.changed(settings.recipe(model))
    about = {"arch": model, "variant": variant, "width": settings.width}
    with started(settings) as (rank, shared):
        folders = settings.folders()
        net = settings.net(model, variant, folders.classes)
        if rank.first:
            user_net.say_normalised(model)
        imagenet.train(net, folders, settings.out, recipe, about, **shared)
