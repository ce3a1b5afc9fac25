"""What a user sees while tasks are computed: a bar with one estimate on a terminal, a line per finished task elsewhere."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from reproduce.tasks import Result, Task

AnyTask = Task[Any, Any]


class TaskProgress:
    """Progress over tasks, weighted by their guessed seconds; what is left is scaled by how the guesses have held so far."""

    def __init__(self, tasks: Sequence[AnyTask], console: Console) -> None:
        self.console, self.count, self.finished = console, len(tasks), 0
        self.guess, self.done_guess = sum(task.seconds for task in tasks), 0.0
        self.running: dict[str, tuple[AnyTask, float]] = {}  # digest -> the task and the share that is done
        self.start = time.perf_counter()
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self.line = self.bar.add_task("starting workers", total=max(self.guess, 1e-9))

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def begin(self, task: AnyTask) -> None:
        """A worker has been sent the task."""
        self.running[task.digest] = (task, 0.0)
        self._show()

    def report(self, digest: str, share: float) -> None:
        """The running task's progress callback; a task that has just ended may still report."""
        if digest in self.running:
            self.running[digest] = (self.running[digest][0], min(1.0, share))
            self._show()

    def end(self, task: AnyTask, result: Result[Any, Any]) -> None:
        """The task's result is in the cache."""
        self.running.pop(task.digest, None)
        self.finished += 1
        self.done_guess += task.seconds
        elapsed = time.perf_counter() - self.start
        left = elapsed / self.done_guess * (self.guess - self.done_guess)
        line = f"[{self.finished}/{self.count}] {task.name}: {result.seconds:.0f} s"
        line += f", about {left / 60:.0f} min left" if left >= 30 else ""
        self.console.print(line, markup=False, highlight=False)
        self._show()

    def _show(self) -> None:
        names = " | ".join(task.name for task, _ in self.running.values())
        done = self.done_guess + sum(task.seconds * share for task, share in self.running.values())
        self.bar.update(self.line, completed=done, description=f"[{self.finished}/{self.count}] {names}")
