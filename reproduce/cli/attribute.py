"""`attribute`: pictures of the user's explained by a net of theirs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reproduce.cli import options, user_net
from reproduce.cli.console import console, interruptible, say, table
from reproduce.cli.context import set_up

if TYPE_CHECKING:
    from reproduce.attribute import Explained


def attribute(
    pictures: Annotated[list[Path], typer.Argument(help="PNG, JPEG or WebP files, or folders of them")],
    net: user_net.NetOptions,
    model: Annotated[str, typer.Option(help=user_net.NAMES)] = "efficientnet_lite0",
    method: Annotated[str, typer.Option(help="names from `list`, separated by commas; a beginning is enough")] = (
        "input_x_gradient,integrated_gradients"
    ),
    out: Annotated[Path, typer.Option(help="folder for maps and pictures")] = Path("attributions"),
    variant: Annotated[
        str, typer.Option(help="regular, x (without biases) or wrapped (homogeneous, any net)")
    ] = "regular",
    target: Annotated[int | None, typer.Option(help="class to explain; default: the predicted one")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="of Integrated Gradients and its kin; default: 128")] = None,
    references: Annotated[
        Path | None, typer.Option(help="folder of pictures, for methods that draw references")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="float32, or bf16: several times faster, and its error is printed")
    ] = "float32",
    device: options.Device = "cpu",
    threads: options.Threads = None,
    seed: Annotated[int, typer.Option(min=0, help="of methods that draw random numbers")] = 0,
    plugin: options.Plugins = None,
) -> None:
    """Explain pictures of yours by a net of yours.

    Writes each method's map as an array and all of them as a picture, and says passes, time and completeness gap.

    Example: python -m reproduce attribute photo.jpg --variant wrapped --method x_gradient,integrated_gradients
    """
    from reproduce.attribute import Request, explain

    found_device, _ = set_up(device, threads)
    methods = [name.strip() for name in method.split(",") if name.strip()]
    request = Request(
        pictures,
        net.choice(model, variant),
        methods,
        out,
        target,
        references,
        seed=seed,
        precision=precision,
        steps=steps,
        device=found_device,
    )
    made, explained = explain(request)
    user_net.say_of(made)
    with interruptible(f"the pictures that were finished are in {out}"):
        for one in explained:
            show(one, f"{one.picture.name}: {made.label(one.target)}", rounded=precision != "float32")
    say("gap: |sum - (F(x) - F(0))| / |F(x) - F(0)|, F the logit of that class, 0 the mean colour")


def show(one: "Explained", title: str, *, rounded: bool) -> None:
    """A picture's table, and where its files are."""
    shown = table(
        title, "method", "passes", "seconds", "sum", "completeness gap", *(["error of bf16"] if rounded else [])
    )
    for found in one.found:
        line = [
            found.label,
            str(found.passes),
            f"{found.seconds:.3f}",
            f"{found.total:.4g}",
            f"{100 * found.gap:.2g} %",
        ]
        shown.add_row(*line, *([f"{100 * found.error:.2g} %"] if rounded else []))
    console.print(shown)
    for path in one.files:
        say(f"wrote {path}")
