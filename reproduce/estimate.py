"""What a scale will cost on this device: each study run on a few images and on twice as many, and the line drawn on."""

import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from reproduce.cells import Cell
from reproduce.run import Run
from reproduce.runner import run_studies
from reproduce.studies.study import Study

Measured = dict[str, list[tuple[int, float]]]  # piece of work -> (images, seconds), few images first


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

    The measured cells are kept like those of ``run --images``. A device that takes larger batches than ``images`` is faster
    than the estimate: take as many as fit in its batch, or more.

    Raises:
        UserError: images below 1, or nothing can be run at this scale.
    """
    measured: Measured = defaultdict(list)
    with tempfile.TemporaryDirectory() as results:
        for count in (images, 2 * images):
            few = replace(run, scale=run.scale.first(count), results=Path(results) / str(count))
            run_studies(studies, few, console)
            for cell in {c.digest: c for study in studies for c in _pieces(study, few)}.values():
                if "study" in cell.key:
                    measured[_identity(cell)].append((_images(cell), few.cells.get(cell)["seconds"]))
    return [_estimate(study, run, measured) for study in studies]


def _estimate(study: Study, run: Run, measured: Measured) -> Estimate:
    images, seconds, guessed = 0, 0.0, 0.0
    for cell in _pieces(study, run):
        if run.cells.has(cell):
            continue
        if points := measured.get(_identity(cell)):
            images += _images(cell)
            seconds += _on_the_line(points, _images(cell))
        else:
            guessed += cell.seconds
    return Estimate(study.name, images, seconds, guessed)


def _on_the_line(points: list[tuple[int, float]], images: int) -> float:
    (few, quick), (many, slow) = points[0], points[-1]
    if many == few:  # as many as there are
        return slow * images / many
    return slow + max(0.0, slow - quick) / (many - few) * (images - many)


def _pieces(study: Study, run: Run) -> list[Cell]:
    return list({piece.digest: piece for cell in study.cells(run) for piece in cell.closure()}.values())


def _images(cell: Cell) -> int:
    count = cell.key["images"]
    return count if isinstance(count, int) else count[1] - count[0]


def _identity(cell: Cell) -> str:
    """The cell's key without how many images it looks at."""
    return json.dumps({name: value for name, value in cell.key.items() if name != "images"}, sort_keys=True)
