"""`attribute`: a picture of the user's explained by a net of theirs."""

from pathlib import Path
from typing import Annotated

import typer

from reproduce.cli import options
from reproduce.cli.console import console, say, table
from reproduce.cli.context import set_up


def attribute(
    picture: Annotated[Path, typer.Argument(help="a PNG or JPEG")],
    model: Annotated[str, typer.Option(help="a name from `list`, or FILE.py:factory")] = "efficientnet_lite0",
    method: Annotated[str, typer.Option(help="names from `list`, separated by commas; a beginning is enough")] = (
        "input_x_gradient,integrated_gradients"
    ),
    out: Annotated[Path, typer.Option(help="folder for maps and pictures")] = Path("attributions"),
    variant: Annotated[
        str, typer.Option(help="regular, x (without biases) or wrapped (homogeneous, any net)")
    ] = "regular",
    weights: Annotated[Path | None, typer.Option(help="a state dict for the net")] = None,
    target: Annotated[int | None, typer.Option(help="class to explain; default: the predicted one")] = None,
    size: Annotated[int | None, typer.Option(min=8, help="side of the net's input in px; default: its own")] = None,
    references: Annotated[
        Path | None, typer.Option(help="folder of pictures, for methods that draw references")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="float32, or bf16: several times faster, and its error is printed")
    ] = "float32",
    threads: options.Threads = None,
    seed: Annotated[int, typer.Option(min=0, help="of methods that draw random numbers")] = 0,
    plugin: options.Plugins = None,
) -> None:
    """Explain a picture of yours by a net of yours.

    Writes each method's map as an array and all of them as a picture, and says passes, time and completeness gap.

    Example: python -m reproduce attribute photo.jpg --variant wrapped --method x_gradient,integrated_gradients
    """
    from reproduce.attribute import Request, explain

    set_up("cpu", threads)
    methods = [name.strip() for name in method.split(",") if name.strip()]
    request = Request(
        picture, model, methods, out, variant, weights, target, size, references, seed=seed, precision=precision
    )
    explained, found, paths = explain(request)
    rounded = ["error of bf16"] if precision != "float32" else []
    shown = table(f"class {explained}", "method", "passes", "seconds", "sum", "completeness gap", *rounded)
    for one in found:
        line = [one.label, str(one.passes), f"{one.seconds:.3f}", f"{one.total:.4g}", f"{100 * one.gap:.2g} %"]
        shown.add_row(*line, *(f"{100 * one.error:.2g} %" for _ in rounded))
    console.print(shown)
    say("gap: |sum - (F(x) - F(0))| / |F(x) - F(0)|, F the logit of that class, 0 the mean colour")
    for path in paths:
        say(f"wrote {path}")
