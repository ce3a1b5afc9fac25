"""What a user sees while cells are computed: a bar with an estimate on a terminal, a line per cell elsewhere."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from reproduce.cells import Cell


class CellProgress:
    """Progress over cells, weighted by their guessed seconds; what is left is scaled by how the guesses have held so far."""

    def __init__(self, cells: Sequence[Cell], console: Console) -> None:
        self.console, self.count, self.number = console, len(cells), 0
        self.guess, self.done_guess = sum(cell.seconds for cell in cells), 0.0
        self.start = self.cell_start = time.perf_counter()
        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(compact=True), console=console, disable=not console.is_terminal, transient=True,
        )  # fmt: skip
        self.task = self.bar.add_task("starting", total=max(self.guess, 1e-9))

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def begin(self, cell: Cell) -> None:
        self.number += 1
        self.cell_start = time.perf_counter()
        self.bar.update(self.task, description=f"[{self.number}/{self.count}] {cell.name}")

    def done_elsewhere(self, cell: Cell) -> None:
        """Another process has finished it."""
        self.number += 1
        self.done_guess += cell.seconds
        self.bar.update(self.task, completed=self.done_guess)

    def tick(self, cell: Cell, share: float) -> None:
        self.bar.update(self.task, completed=self.done_guess + min(1.0, share) * cell.seconds)

    def end(self, cell: Cell) -> None:
        now = time.perf_counter()
        self.done_guess += cell.seconds
        self.bar.update(self.task, completed=self.done_guess)
        left = (now - self.start) / self.done_guess * (self.guess - self.done_guess)
        self.console.print(
            f"[{self.number}/{self.count}] {cell.name}: {now - self.cell_start:.0f} s"
            + (f", about {left / 60:.0f} min left" if left >= 30 else ""),
            markup=False, highlight=False,
        )  # fmt: skip
