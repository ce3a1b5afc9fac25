"""What a scale will cost on this device: each study run on a few images and on twice as many, and the line drawn on."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from rich.console import Console

from reproduce.cells import Cell, Cells, pieces
from reproduce.progress import CellProgress
from reproduce.run import Run
from reproduce.runner import say_what_is_missing
from reproduce.studies.study import Study

Points = list[tuple[int, float]]  # images and seconds of one piece of work, few images first


@dataclass(frozen=True)
class Estimate:
    """What is left of a study.

    Attributes:
        images: of all its cells that are not finished; a net's images count for each cell that looks at them.
        seconds: of these, by the line through what was measured here.
        guessed: of cells that do not depend on images, such as training: their authors' guess on 2 cores.
    """

    study: str
    images: int
    seconds: float
    guessed: float


def estimate(studies: Sequence[Study], run: Run, images: int, console: Console) -> list[Estimate]:
    """Measure ``studies`` on ``images`` and twice as many images per net, and say what the rest of the scale costs.

    Only what depends on the number of images is measured, and what that needs. The measured cells are kept like those of
    ``run --images``. A device that takes larger batches than ``images`` is faster than the estimate: take as many as fit in
    its batch, or more.

    Raises:
        UserError: images below 1.
    """
    say_what_is_missing(run, console)
    measured: dict[str, Points] = defaultdict(list)
    for count in (images, 2 * images):
        few = replace(run, scale=run.scale.first(count))
        cells = [cell for cell in pieces(cell for study in studies for cell in study.cells(few)) if cell.images]
        _compute(cells, run.cells, console)
        for cell in cells:
            measured[_identity(cell)].append((cell.images, run.cells.get(cell)["seconds"]))
    return [_estimate(study, run, measured) for study in studies]


def _compute(cells: Sequence[Cell], kept: Cells, console: Console) -> None:
    waiting = [cell for cell in pieces(cells) if not kept.has(cell)]
    with CellProgress(waiting, console) as progress:
        for cell in waiting:
            progress.begin(cell)
            kept.get(cell, partial(progress.tick, cell))
            progress.end(cell)


def _estimate(study: Study, run: Run, measured: dict[str, Points]) -> Estimate:
    images, seconds, guessed = 0, 0.0, 0.0
    for cell in pieces(study.cells(run)):
        if run.cells.has(cell):
            continue
        if cell.images:
            images += cell.images
            seconds += _on_the_line(measured[_identity(cell)], cell.images)
        else:
            guessed += cell.seconds
    return Estimate(study.name, images, seconds, guessed)


def _on_the_line(points: Points, images: int) -> float:
    (few, quick), (many, slow) = points[0], points[-1]
    if many == few:  # as many as there are
        return slow * images / many
    return slow + max(0.0, slow - quick) / (many - few) * (images - many)


def _identity(cell: Cell) -> str:
    """What it measures, on however many images."""
    return json.dumps([cell.key["study"], cell.key["net"]], sort_keys=True)
