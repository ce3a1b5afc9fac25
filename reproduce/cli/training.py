"""What `train` and `convert` share: their options, and the process that they start from."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reproduce.cli import options
from reproduce.cli.console import interruptible, say
from reproduce.cli.context import set_up
from reproduce.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from reproduce.process_group import Rank
    from reproduce.training.folders import Folders
    from reproduce.training.imagenet import Recipe


@dataclass(frozen=True)
class Settings:
    """What is trained on, for how long, and on what machine."""

    data: Annotated[Path, typer.Option("--data", help="folder with train/<class>/<image> and val/<class>/<image>")]
    out: Annotated[Path, typer.Option(help="folder of checkpoints and curves; the same command goes on from there")]
    epochs: Annotated[int | None, typer.Option(min=1, help="default: the recipe's")] = None
    batch: Annotated[int | None, typer.Option(min=1, help="over all processes; default: the recipe's 256")] = None
    learning_rate: Annotated[float | None, typer.Option(help="default: the recipe's")] = None
    image_px: Annotated[int, typer.Option(min=64, help="side of the crops")] = 224
    width: Annotated[float, typer.Option(help="channel multiplier; 1 is the papers' network")] = 1.0
    workers: Annotated[
        int | None, typer.Option(min=0, help="processes that decode images; default: this process's cores")
    ] = None
    bfloat16: Annotated[
        bool, typer.Option("--bfloat16", help="training passes in bfloat16 (the authors used float32)")
    ] = False
    device: options.Device = "cpu"
    threads: options.Threads = None
    seed: options.Seed = 0

    def changed(self, recipe: "Recipe") -> "Recipe":
        """The recipe with what the options say otherwise."""
        return replace(
            recipe,
            epochs=self.epochs or recipe.epochs,
            batch=self.batch or recipe.batch,
            learning_rate=self.learning_rate or recipe.learning_rate,
        )

    def recipe(self, model: str) -> "Recipe":
        """The authors' recipe for an architecture of ours; for another net AlexNet's and VGG's."""
        from reproduce.training import imagenet

        return imagenet.ALEXNET_VGG if ":" in model else imagenet.recipe_for(model)

    def net(self, model: str, variant: str, classes: int) -> "nn.Module":
        """The net as it is initialised from the seed, or as a function of the user's gives it; with that many classes.

        Raises:
            UserError: an unknown net, one that cannot be made so, or that has no X-variant.
        """
        import torch

        from reproduce.models import build
        from reproduce.training.imagenet import initialise_

        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            if ":" in model:
                return self._of_the_user(model, variant, classes)
            net = build(model, variant, classes=classes, width=self.width, image_px=self.image_px)
            return initialise_(net)

    def _of_the_user(self, model: str, variant: str, classes: int) -> "nn.Module":
        from reproduce.user_nets import as_variant, make, with_classes

        if self.width != 1:
            raise UserError(f"--width is of the nets of `list`; {model} has the width that it is made with")
        return as_variant(with_classes(make(model), classes, self.image_px, model), variant, model)

    def folders(self) -> "Folders":
        """The image folder, which is looked at and not read yet."""
        from reproduce.training.folders import Folders

        folders = Folders(self.data, self.image_px)
        _ = folders.val  # says at once where a split is missing, or has other classes
        return folders


@contextmanager
def started(settings: Settings) -> "Iterator[tuple[Rank, dict[str, Any]]]":
    """Set this process up, join the others of a torchrun, and say where an interrupted training goes on.

    Yields:
        Which process this is, and the keyword arguments that ``imagenet.train`` and ``convert.convert`` share.
    """
    from reproduce.process_group import find_rank, group

    rank = find_rank()
    device, cores = set_up(settings.device, settings.threads)
    tell: Callable[[str], None] = say if rank.first else lambda line: None
    with interruptible("the same command goes on after the last finished epoch", tell), group(rank, device):
        yield (
            rank,
            {
                "seed": settings.seed,
                "device": device,
                "rank": rank,
                "workers": cores if settings.workers is None else settings.workers,
                "bfloat16": settings.bfloat16,
                "say": tell,
            },
        )
