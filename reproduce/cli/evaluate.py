"""`evaluate`: methods by metrics on a net and a folder of pictures of the user's."""

from pathlib import Path
from typing import Annotated, Any

import typer

from reproduce.cli import options
from reproduce.cli.console import console, interruptible, say, table
from reproduce.cli.context import set_up
from reproduce.errors import UserError

PICTURES = (".png", ".jpg", ".jpeg")


def evaluate(
    model: Annotated[str, typer.Argument(help="FILE.py:factory, torchvision:NAME, timm:NAME or a name from `list`")],
    data: Annotated[Path, typer.Option("--data", help="folder of PNG and JPEG; subfolders are looked into")],
    methods: Annotated[str, typer.Option(help="names from `list`, separated by commas, or `all`")] = "",
    metrics: Annotated[str, typer.Option(help="names of metrics, separated by commas; default: all that apply")] = "",
    count: Annotated[int, typer.Option(min=1, help="pictures at most")] = 20,
    weights: Annotated[Path | None, typer.Option(help="a state dict for the net")] = None,
    size: Annotated[int | None, typer.Option(min=8, help="side of the net's input in px; default: its own")] = None,
    output: Annotated[Path, typer.Option(help="folder of the table")] = Path("evaluation"),
    device: options.Device = "cpu",
    threads: options.Threads = None,
    seed: Annotated[int, typer.Option(min=0, help="of methods and metrics that draw random numbers")] = 0,
    plugin: options.Plugins = None,
) -> None:
    """Hold methods against each other on your net and pictures.

    The class that the net predicts is explained. Writes evaluation.csv and evaluation.md.

    Example: python -m reproduce evaluate squeezenet --data photos --count 20
    """
    from reproduce import attribute
    from reproduce.evaluate import DEFAULT_METHODS, evaluation_rows, find_methods, find_metrics
    from xdnn import METHODS

    found_device, _ = set_up(device, threads)
    chosen = find_methods(_words(methods) or DEFAULT_METHODS)
    measured = find_metrics(_words(metrics) or None)
    files = sorted(path for path in data.rglob("*") if path.suffix.lower() in PICTURES)[:count]
    if not files:
        raise UserError(f"no PNG or JPEG in {data}; name a folder of pictures")
    net, preprocessing = attribute.prepared_net(model, "regular", weights, size)
    if weights is None and ":" in model and model.partition(":")[0] in ("torchvision", "timm"):
        console.print(f"{model} has random weights: what follows says nothing of a trained net; --weights", style="red")
    batches = [(attribute.read_picture(path, preprocessing)[1], None) for path in files]
    rows: list[dict[str, Any]] = []
    try:
        with interruptible(f"the methods that were finished are in {output}"):
            for row in evaluation_rows(net, _joined(batches), chosen, measured, seed=seed, device=found_device):
                if not rows or rows[-1]["method"] != row["method"]:
                    say(f"measured {METHODS[row['method']].label}")
                rows.append(row)
    finally:
        if rows:
            write(output, rows)
    show(rows)
    say(f"wrote {output / 'evaluation.csv'} and {output / 'evaluation.md'}")


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _joined(batches: list[Any], together: int = 8) -> list[Any]:
    import torch

    parts = [batches[first : first + together] for first in range(0, len(batches), together)]
    return [(torch.cat([inputs for inputs, _ in part]), None) for part in parts]


def write(folder: Path, rows: list[dict[str, Any]]) -> None:
    """The long table as CSV, and what has a value as Markdown. Raises UserError where the folder cannot be written."""
    import pandas as pd

    from reproduce.evaluate import COLUMNS
    from reproduce.report import tables
    from xdnn import METRICS

    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    headings = {name: METRICS[name].label for name in dict.fromkeys(frame["metric"])}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tables.write_csv(frame, folder / "evaluation.csv")
        text = tables.markdown(tables.wide(frame, ["method"], headings))
        (folder / "evaluation.md").write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}; choose another --output") from error


def show(rows: list[dict[str, Any]]) -> None:
    """A line for each value, metric by metric, and each reason once."""
    from reproduce.report import tables
    from xdnn import METHODS, METRICS

    shown = table("means over pictures, with 95 % interval", "metric", "method", "value", "interval", "n")
    for metric in dict.fromkeys(row["metric"] for row in rows):
        for row in (row for row in rows if row["metric"] == metric and not row["reason"]):
            entry = tables.Number(row["value"], row["low"], row["high"])
            heading = tables.heading(tables.Column(METRICS[metric].label, row["better"]))
            label = METHODS[row["method"]].label
            shown.add_row(heading, label, tables.number(row["value"]), tables.interval(entry), str(row["n"]))
    console.print(shown)
    for line in unmeasured(rows):
        console.print(line)


def unmeasured(rows: list[dict[str, Any]]) -> list[str]:
    """Why values are missing: a line for each reason, with its metrics and methods."""
    from xdnn import METHODS

    reasons: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for row in (row for row in rows if row["reason"]):
        metrics, methods = reasons.setdefault(row["reason"], ({}, {}))
        metrics[row["metric"]] = methods[METHODS[row["method"]].label] = None
    found = []
    for reason, (metrics, methods) in reasons.items():
        found.append(f"not measured: {', '.join(metrics)} of {', '.join(methods)}: {reason}")
    return found
