"""`publish`: the tracked results of a scale, measured on a clean tree."""

from typing import Annotated

import typer

from reproduce.cli import options
from reproduce.cli.console import console, interruptible, say
from reproduce.cli.context import find_studies, find_workers, make_context
from reproduce.cli.run import KEPT
from reproduce.cli.summary import print_summary
from reproduce.errors import UserError
from reproduce.paths import CACHE, PUBLISHED

MOST_NAMES = 5


def publish(
    machine: options.Machine,
    studies: Annotated[list[str] | None, typer.Argument(help="names from `list`; default: all")] = None,
    scale: options.Scale = "embedded",
    seeds: options.Seeds = 1,
    repetitions: options.Repetitions = None,
    cache: options.Cache = CACHE,
) -> None:
    """Measure the tracked results of a scale on a clean tree.

    Writes results/published; what was measured on a changed tree is measured again. Nothing is committed.

    Example: python -m reproduce publish --scale embedded --seeds 5 --repetitions 200
    """
    refuse_changes()
    from reproduce.runner import run_studies

    found = find_studies(studies or ["all"])
    context = make_context(
        scale, device=machine.device, seeds=seeds, repetitions=repetitions, results=PUBLISHED, cache=cache
    )
    with interruptible(KEPT):
        run_studies(found, context, console, workers=find_workers(machine), clean=True)
    print_summary(context.results)
    say(f"look at the difference (git diff {context.results}), then `make readme`, then commit both")


def refuse_changes() -> None:
    """Raises UserError where the tree differs from its commit, with the names of the files, or where git cannot say."""
    from reproduce import provenance

    changed = provenance.changed_files()
    if changed is None:
        raise UserError("results are published from a git checkout only, and git says that this is none")
    if changed:
        more = f" and {len(changed) - MOST_NAMES} more" if len(changed) > MOST_NAMES else ""
        raise UserError(
            f"results are published from a clean tree only, and {len(changed)} files differ from the commit: "
            f"{', '.join(changed[:MOST_NAMES])}{more}; commit or remove them first"
        )
