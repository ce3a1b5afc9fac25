"""`run`: what of some studies is not finished is computed, then their tables, figures and claims are written."""

from typing import Annotated

import typer

from reproduce.cli import options
from reproduce.cli.console import console, interruptible
from reproduce.cli.context import find_studies, find_workers, make_context
from reproduce.cli.summary import print_summary
from reproduce.paths import CACHE, RESULTS

KEPT = "finished tasks are kept, the same command goes on from there"


def run(
    studies: options.Studies,
    machine: options.Machine,
    scale: options.Scale = "embedded",
    seed: options.Seed = 0,
    seeds: options.Seeds = 1,
    repetitions: options.Repetitions = None,
    images: Annotated[
        int | None, typer.Option(min=1, help="only the first N images of each study; results go to <scale>-N")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="compute the studies' tasks again; trained nets are kept")
    ] = False,
    results: options.Results = RESULTS,
    cache: options.Cache = CACHE,
    plugin: options.Plugins = None,
) -> None:
    """Compute studies, and write their results.

    What is finished is kept; what is missing is computed; then tables, figures and claims are written.

    Example: python -m reproduce run table1 contrast --seeds 5
    """
    from reproduce.runner import run_studies

    found = find_studies(studies)
    context = make_context(
        scale,
        device=machine.device,
        seed=seed,
        seeds=seeds,
        repetitions=repetitions,
        most_images=images,
        results=results,
        cache=cache,
    )
    with interruptible(KEPT):
        run_studies(found, context, console, workers=find_workers(machine), force=force)
    print_summary(context.results, [study.name for study in found])
