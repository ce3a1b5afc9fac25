"""Options that several commands share: their types, names and help; and how a command takes a group of them at once."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import wraps
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer


def load_plugins(paths: list[Path] | None) -> list[Path] | None:
    """Add what the users' files define before any other option is looked at: it may name a scale of theirs."""
    if paths:
        from reproduce.registries import load_plugins as load

        load(paths)
    return paths


Scale = Annotated[str, typer.Option("--scale", envvar="SCALE", help="embedded, subset, paper or smoke")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all cores")]
Seed = Annotated[int, typer.Option(min=0, help="seed of the first training and of all random draws")]
Repetitions = Annotated[
    int | None,
    typer.Option(min=2, help="splits of the table in nhanes; default: the scale's (the paper: 200)"),
]
Seeds = Annotated[int, typer.Option(min=1, help="trainings of each net; the further ones take the seeds that follow")]
Results = Annotated[Path, typer.Option(help="folder of tables and figures; the scale's name is added")]
Cache = Annotated[Path, typer.Option(help="folder of finished tasks and trained nets")]
Json = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]
Studies = Annotated[list[str], typer.Argument(help="names from `list`, or `all`")]
Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugin", callback=load_plugins, is_eager=True, help="a file with METHODS, MODELS, ... of your own"),
]


@dataclass(frozen=True)
class Machine:
    """What the tasks of a run are computed on."""

    device: Device = "cpu"
    workers: Annotated[
        int | None, typer.Option(min=1, help="worker processes; default: by cores and memory, or a GPU each")
    ] = None
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of each worker")] = None
    scheduler: Annotated[str | None, typer.Option(help="address of a running Dask scheduler, e.g. tcp://host:8786")] = (
        None
    )


def flat(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the fields of each dataclass that it takes as options of its own, as typer reads them."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters: list[Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            parameters += _of_fields(groups[name])
        else:
            parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[name]))

    @wraps(command)
    def flattened(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        command(**values)

    flattened.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    flattened.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return flattened


def _of_fields(group: Any) -> list[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        Parameter(
            field.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]
