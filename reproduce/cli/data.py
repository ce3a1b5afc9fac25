"""`data`: what a scale needs is composed or fetched, and verified."""

from typing import TYPE_CHECKING, Annotated

import typer

from reproduce.cli import options
from reproduce.cli.console import console, say
from reproduce.cli.context import make_context
from reproduce.paths import CACHE

if TYPE_CHECKING:
    from reproduce.context import Context
    from reproduce.datasets import Store


def data(
    scale: options.Scale = "embedded",
    mirror: Annotated[
        str, typer.Option(envvar="DATA_MIRROR", help="folders or addresses to try first, separated by spaces")
    ] = "",
    offline: Annotated[bool, typer.Option("--offline", help="ask folders only")] = False,
    cache: options.Cache = CACHE,
    plugin: options.Plugins = None,
) -> None:
    """Fetch or compose what a scale needs, and verify it.

    Says what is missing, why, and what cannot run without it.

    Example: python -m reproduce data --scale subset --mirror /data/mirror
    """
    from reproduce.datasets import Store

    context = make_context(scale, cache=cache)
    store = Store(mirrors=tuple(mirror.split()), offline=offline, progress=console.is_terminal)
    say(f"data of scale {context.scale.name}, in {store.folder}")
    fetch(context.scale.name, store)
    verify(context)


def fetch(scale: str, store: "Store") -> None:
    """Fetch the files of a scale; a line per group of files, and per group the first reason why one is missing."""
    from reproduce.datasets.fetch import fetch_all
    from reproduce.datasets.manifest import manifest

    files, manual = manifest()
    wanted, failed = fetch_all(scale, list(files.values()), store, say)
    for group in dict.fromkeys(file.name.partition("/")[0] for file in wanted):
        names = [file.name for file in wanted if file.name.partition("/")[0] == group]
        reasons = [failed[name] for name in names if name in failed]
        say(f"{group}: {len(names) - len(reasons)} of {len(names)} files are there")
        if reasons:
            first, *answers = in_lines(reasons[0])
            say(f"  missing: {first}" + (f", and {len(reasons) - 1} more" if len(reasons) > 1 else ""))
            for answer in answers:
                say(f"    {answer}")
    for entry in manual.values():
        if scale in entry.scales:
            absent = [name for name in entry.files if not (store.folder / entry.name / name).is_file()]
            say(f"{entry.name}: {len(entry.files) - len(absent)} of {len(entry.files)} files are there")
            if absent:
                say(f"  to be put into {store.folder / entry.name}: {', '.join(absent)}: {entry.where}")


def in_lines(reason: str) -> list[str]:
    """Why a file is missing: what is said of it, then what each source answered."""
    said, fetched, answers = reason.partition(" could not be fetched. ")
    return [f"{said}{fetched.rstrip('. ')}", *answers.split("; ")] if fetched else [reason]


def verify(context: "Context") -> None:
    """Load every data set of the scale that is there, and say what cannot run without the others."""
    from reproduce.datasets import DATASETS
    from reproduce.studies import STUDIES

    for name in dict.fromkeys(group.dataset for group in context.groups().values()):
        if DATASETS[name].missing(context.store) is None:
            for split in DATASETS[name].splits:
                images = context.images(name, split)
                say(f"{name} {split}: {len(images)} images, sha256 {images.fingerprint()[:16]}")
    reasons: dict[str, str] = {}
    for study in STUDIES.values():
        reasons |= study.missing_at(context)
    for name, reason in reasons.items():
        say(f"cannot run on {name}: {reason}")
