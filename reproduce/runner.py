"""Runs studies: their unfinished tasks on the engine's workers, each study's files as soon as its tasks are finished."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from reproduce.context import Context
from reproduce.engine import Engine, Workers, choose_workers, connected
from reproduce.errors import UserError
from reproduce.progress import TaskProgress
from reproduce.report import page
from reproduce.results import write_study
from reproduce.study import Study
from reproduce.tasks import Result, Task, in_order

AnyTask = Task[Any, Any]


def run_studies(
    studies: Sequence[Study],
    context: Context,
    console: Console,
    *,
    workers: Workers | None = None,
    force: bool = False,
    clean: bool = False,
) -> None:
    """Compute what is not there yet, and write each study's files as soon as its tasks are finished.

    What a task holds does not depend on who computes it, so the tables are the same for any number of workers.

    Args:
        workers: how the work is spread; default: what suits this machine.
        force:   compute the studies' own tasks again; trained nets and data that they need are kept.
        clean:   compute again what was measured on a tree that differed from its commit.

    Raises:
        UserError: results cannot be written, or a task's worker was killed again and again.
    """
    try:
        context.results.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write results to {context.results}: {error.strerror}") from error
    say_what_is_missing(studies, context, console)
    own = {study.name: study.at(context) for study in studies}
    waiting = _unfinished(own, context, force=force, clean=clean)
    unwritten = list(studies)

    def write_finished() -> None:
        while unwritten and not any(t.digest in waiting for t in in_order(own[unwritten[0].name])):
            study = unwritten.pop(0)
            write_study(study, own[study.name], context, console)

    def done(task: AnyTask, result: Result[Any, Any]) -> None:
        del waiting[task.digest]
        progress.end(task, result)
        write_finished()

    write_finished()
    if waiting:
        workers = workers or choose_workers(context.device.type)
        console.print(f"{len(waiting)} tasks on {workers}", markup=False, highlight=False)
        with TaskProgress(list(waiting.values()), console) as progress, connected(workers) as client:
            Engine(client, context, workers, progress.begin, done, progress.report).compute(list(waiting.values()))
    page.write(context.results)


def _unfinished(own: dict[str, list[AnyTask]], context: Context, *, force: bool, clean: bool) -> dict[str, AnyTask]:
    """The tasks to compute by their digests, needs first."""
    wanted = in_order(task for tasks in own.values() for task in tasks)
    again = {task.digest for tasks in own.values() for task in tasks} if force else set()
    if clean:
        for task in wanted:  # needs come first: what is measured from a number that is measured again is too
            if _is_dirty(task, context) or any(need.digest in again for need in task.needs):
                again.add(task.digest)
    return {task.digest: task for task in wanted if task.digest in again or not context.cache.has(task)}


def say_what_is_missing(studies: Sequence[Study], context: Context, console: Console) -> None:
    """A sentence for each part of the scale that cannot be run, with the way out."""
    reasons = {name: reason for study in studies for name, reason in study.missing_at(context).items()}
    for name, reason in reasons.items():
        console.print(f"not run on {name}: {reason}", markup=False, highlight=False)


def _is_dirty(task: AnyTask, context: Context) -> bool:
    result = context.cache.read(task)
    return result is not None and result.provenance["dirty"] is not False  # None: git could not say
