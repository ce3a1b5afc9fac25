"""`evaluate`: methods by metrics on a net and a folder of pictures of the user's."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reproduce.cli import options, user_net
from reproduce.cli.console import console, say, table
from reproduce.cli.context import set_up

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

TOGETHER = 8  # pictures of a batch


def evaluate(
    model: Annotated[str, typer.Argument(help=user_net.NAMES)],
    data: Annotated[Path, typer.Option("--data", help="folder of PNG, JPEG or WebP; subfolders are looked into")],
    net: user_net.NetOptions,
    methods: Annotated[str, typer.Option(help="names from `list`, separated by commas, or `all`")] = "",
    metrics: Annotated[str, typer.Option(help="names of metrics, separated by commas; default: all that apply")] = "",
    count: Annotated[int, typer.Option(min=1, help="pictures at most")] = 20,
    output: Annotated[Path, typer.Option(help="folder of the table")] = Path("evaluation"),
    device: options.Device = "cpu",
    threads: options.Threads = None,
    seed: Annotated[int, typer.Option(min=0, help="of methods and metrics that draw random numbers")] = 0,
    plugin: options.Plugins = None,
) -> None:
    """Hold methods against each other on your net and pictures.

    The class that the net predicts is explained. Writes evaluation.html, evaluation.csv and evaluation.md. Ctrl-C keeps the
    methods that were finished.

    Example: python -m reproduce evaluate squeezenet --data photos --count 20
    """
    import pandas as pd

    from reproduce.evaluate import COLUMNS, DEFAULT_METHODS, evaluation_rows, find_methods, find_metrics
    from reproduce.pictures import find_pictures, read_picture
    from reproduce.report import evaluation
    from reproduce.user_nets import prepare

    found_device, _ = set_up(device, threads)
    chosen = find_methods(_words(methods) or DEFAULT_METHODS)
    measured = find_metrics(_words(metrics) or None)
    files = find_pictures([data])[:count]
    made = prepare(net.choice(model))
    user_net.say_of(made)
    inputs = [read_picture(path, made.preprocessing)[1] for path in files]
    rows, stopped = _until_stopped(
        evaluation_rows(made.net, _joined(inputs), chosen, measured, seed=seed, device=found_device)
    )
    if rows:
        frame = pd.DataFrame(rows, columns=list(COLUMNS))
        about = (
            f"{len(files)} pictures of {data.name}, {made.preprocessing['size']} px; explained is the class that the net "
            f"predicts; passes and seconds of an image on {found_device.type}."
        )
        show(frame)
        for path in evaluation.write(output, frame, model, about, made.warnings, interrupted=stopped):
            say(f"wrote {path}")
    if stopped:
        finished = len({row["method"] for row in rows})
        kept = f"they are in {output}" if finished else "nothing was written"
        say(f"interrupted; {finished} of {len(chosen)} methods were finished, {kept}")
        raise typer.Exit(130)


def _until_stopped(found: Any) -> tuple[list[dict[str, Any]], bool]:
    """The rows of finished methods, and whether Ctrl-C ended it before the last one."""
    from xdnn import METHODS

    rows: list[dict[str, Any]] = []
    try:
        for row in found:
            if not rows or rows[-1]["method"] != row["method"]:
                say(f"measured {METHODS[row['method']].label}")
            rows.append(row)
    except KeyboardInterrupt:
        return rows, True
    return rows, False


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _joined(inputs: "Sequence[Tensor]") -> list[tuple[Any, None]]:
    """Batches of inputs, whose targets are the predicted classes."""
    import torch

    parts = [inputs[first : first + TOGETHER] for first in range(0, len(inputs), TOGETHER)]
    return [(torch.cat(list(part)), None) for part in parts]


def show(rows: "pd.DataFrame") -> None:
    """A line for each value, metric by metric, and each reason once."""
    from reproduce.report import evaluation, tables
    from xdnn import METHODS, METRICS

    shown = table("means over pictures, with 95 % interval", "metric", "method", "value", "interval", "n")
    measured = rows[rows["reason"] == ""]
    for metric in dict.fromkeys(measured["metric"]):
        for row in measured[measured["metric"] == metric].to_dict("records"):
            entry = tables.Number(row["value"], row["low"], row["high"])
            heading = tables.heading(tables.Column(METRICS[metric].label, row["better"]))
            label = METHODS[row["method"]].label
            shown.add_row(heading, label, tables.number(row["value"]), tables.interval(entry), str(row["n"]))
    console.print(shown)
    for line in evaluation.reasons(rows):
        console.print(line)
