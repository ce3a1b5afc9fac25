"""The command line, one file per command: ``python -m reproduce COMMAND``, or ``reproduce COMMAND`` where it is installed.

Each command imports what it needs when it is called, so that ``--help`` takes no longer than Python and typer.
"""

import signal
import sys

import typer
from rich.console import Console

from reproduce.cli import (
    attribute,
    claims,
    compare,
    convert,
    data,
    estimate,
    evaluate,
    list,
    publish,
    report,
    run,
    train,
)
from reproduce.cli.options import flat
from reproduce.errors import UserError

COMMANDS = (
    list.list_,
    run.run,
    claims.claims,
    compare.compare,
    report.report,
    estimate.estimate,
    data.data,
    attribute.attribute,
    evaluate.evaluate,
    train.train,
    convert.convert,
    publish.publish,
)

app = typer.Typer(
    help="Reproduce the tables and figures of X-DNN, Integrated Gradients and MFABA, each number with its interval and claim.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in COMMANDS:
    app.command(command.__name__.rstrip("_"))(flat(command))


def main() -> None:
    """Run the command line.

    Exit codes: 0 done, 1 a UserError (printed as a sentence), 2 wrong usage, 3 ``compare --check`` found a move, 130 interrupted.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # torchrun and job schedulers end a process so
    try:
        app()
    except UserError as error:
        Console(stderr=True).print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
