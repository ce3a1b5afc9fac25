"""`estimate`: how long the rest of a scale will take on this machine."""

from typing import Annotated

import typer

from reproduce.cli import options
from reproduce.cli.console import console, interruptible, say, table
from reproduce.cli.context import find_studies, find_workers, make_context
from reproduce.cli.run import KEPT
from reproduce.paths import CACHE

HOUR = 3600


def estimate(
    studies: options.Studies,
    machine: options.Machine,
    scale: options.Scale = "embedded",
    seeds: options.Seeds = 1,
    images: Annotated[int, typer.Option(min=1, help="images per net to measure on; then twice as many")] = 16,
    cache: options.Cache = CACHE,
    plugin: options.Plugins = None,
) -> None:
    """Say how long the rest of a scale will take on this machine.

    Each study is measured on a few images and on twice as many, and the line through both is drawn on.

    Example: python -m reproduce estimate all --scale paper --device cuda --images 64
    """
    from reproduce.estimate import estimate as measured

    found = find_studies(studies)
    context = make_context(scale, device=machine.device, seeds=seeds, cache=cache)
    workers = find_workers(machine)
    with interruptible(KEPT):
        estimates = measured(found, context, images, workers, console)
    shown = table(f"what is left of {scale}, in hours of one worker", "study", "images", "hours", "+ guessed")
    for one in estimates:
        shown.add_row(one.study, f"{one.images:,}", f"{one.seconds / HOUR:.2g}", f"{one.guessed / HOUR:.2g}")
    console.print(shown)
    say(f"{sum(one.seconds for one in estimates) / HOUR:.2g} hours of one worker, less what studies share; {workers}.")
    say("Guessed, for 2 cores: training, and what does not depend on images.")
