"""What commands print: lines and tables on the terminal, and the one sentence of an interrupted run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.table import Table

console = Console(markup=False, highlight=False)  # what is printed quotes brackets and numbers of its own


def say(line: str) -> None:
    """A line as it is, not broken where a path is long."""
    console.print(line, soft_wrap=True)


def table(title: str, *columns: str) -> Table:
    return Table(*columns, title=title, title_justify="left")


@contextmanager
def interruptible(kept: str, tell: Callable[[str], None] = say) -> Iterator[None]:
    """Ctrl-C, or a scheduler's SIGTERM, ends the block with a sentence and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        tell(f"interrupted; {kept}")
        raise typer.Exit(130) from None
