"""What a scale will cost on this device: each study run on a few images and on twice as many, and the line drawn on."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console

from reproduce.context import Context
from reproduce.engine import Engine, Workers, connected
from reproduce.progress import TaskProgress
from reproduce.runner import say_what_is_missing
from reproduce.study import Study
from reproduce.tasks import Task, in_order

AnyTask = Task[Any, Any]
Points = list[tuple[int, float]]  # images and seconds of one piece of work, few images first


@dataclass(frozen=True)
class Estimate:
    """What is left of a study.

    Attributes:
        images: of all its tasks that are not finished; a net's images count for each task that looks at them.
        seconds: of these, by the line through what was measured here.
        guessed: of tasks that do not depend on images, such as training: their authors' guess on 2 cores.
    """

    study: str
    images: int
    seconds: float
    guessed: float


def estimate(
    studies: Sequence[Study], context: Context, images: int, workers: Workers, console: Console
) -> list[Estimate]:
    """Measure ``studies`` on ``images`` and twice as many images per net, and say what the rest of the scale costs.

    Only what depends on the number of images is measured, and what that needs. The measured tasks are kept as those of
    ``run --images`` are. A device that takes larger batches than ``images`` is faster than the estimate: take as many as fit
    in its batch, or more.
    """
    say_what_is_missing(studies, context, console)
    measured: dict[str, Points] = defaultdict(list)
    for count in (images, 2 * images):
        few = replace(context, most_images=count)
        tasks = [task for study in studies for task in in_order(study.at(few)) if task.images]
        compute(tasks, few, workers, console)
        for task in tasks:
            measured[identity(task)].append((task.images, few.result(task).seconds))
    return [_estimate(study, context, measured) for study in studies]


def compute(tasks: Sequence[AnyTask], context: Context, workers: Workers, console: Console) -> None:
    """Compute what is not finished of the tasks and of what they need."""
    waiting = [task for task in in_order(tasks) if not context.cache.has(task)]
    if waiting:
        with TaskProgress(waiting, console) as progress, connected(workers) as client:
            Engine(client, context, workers, progress.begin, progress.end, progress.report).compute(waiting)


def _estimate(study: Study, context: Context, measured: dict[str, Points]) -> Estimate:
    images, seconds, guessed = 0, 0.0, 0.0
    for task in in_order(study.at(context)):
        if context.cache.has(task):
            continue
        if task.images:
            images += task.images
            seconds += on_the_line(measured[identity(task)], task.images)
        else:
            guessed += task.seconds
    return Estimate(study.name, images, seconds, guessed)


def on_the_line(points: Points, images: int) -> float:
    """Seconds for ``images``, by the line through the first and the last point; never less than the last one says."""
    (few, quick), (many, slow) = points[0], points[-1]
    if many == few:  # as many as there are
        return slow * images / many
    return slow + max(0.0, slow - quick) / (many - few) * (images - many)


def identity(task: AnyTask) -> str:
    """What a task measures, on however many images."""
    protocol = {name: value for name, value in (task.key["protocol"] or {}).items() if name != "images"}
    return json.dumps([task.key["about"], protocol, task.key["code"]], sort_keys=True)
