"""The command line: ``python -m reproduce list | run STUDY... | data | report``."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from reproduce.errors import UserError

app = typer.Typer(
    help="Reproduce the tables and figures of X-DNN, Integrated Gradients and MFABA, each number with its interval and verdict.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
console = Console()
ROOT = Path(__file__).resolve().parent.parent

ScaleOption = Annotated[str, typer.Option("--scale", envvar="SCALE", help="embedded, subset or paper")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")]
ThreadsOption = Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all cores")]
SeedOption = Annotated[int, typer.Option(min=0, help="seed of training and of all random draws")]
ResultsOption = Annotated[Path, typer.Option(help="folder of tables and figures; the scale's name is added")]
CellsOption = Annotated[Path, typer.Option("--cells", envvar="CELLS", help="folder of finished cells and trained nets")]


def _prepare(scale: str, device: str, threads: int | None, seed: int, results: Path, cells: Path):  # type: ignore[no-untyped-def]
    """A Run, after checking every option before long work starts."""
    import torch

    from reproduce.cells import Cells
    from reproduce.run import Run
    from reproduce.scales import find_scale

    chosen = find_scale(scale)
    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"unknown device {device!r}; use cpu, cuda or cuda:N") from error
    if target.type == "cuda" and (not torch.cuda.is_available() or (target.index or 0) >= torch.cuda.device_count()):
        raise UserError(
            f"--device {device}: this machine has {torch.cuda.device_count()} CUDA devices; use --device cpu"
        )
    torch.set_num_threads(threads or os.cpu_count() or 1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # it moves MARD by about a percent
    store = Cells(cells, {"torch": torch.__version__, "device": target.type})
    return Run(chosen, store, results / chosen.name, target, torch.get_num_threads(), seed)


@app.command("list")
def list_(
    scale: ScaleOption = "embedded",
    cells: CellsOption = ROOT / ".cache",
) -> None:
    """Show studies, models, methods and data sets, and whether what each needs is there."""
    from reproduce.attributions import METHODS
    from reproduce.datasets import DATASETS
    from reproduce.models import MODELS
    from reproduce.scales import SCALES
    from reproduce.studies import STUDIES

    run = _prepare(scale, "cpu", None, 0, ROOT / "results", cells)
    table = Table("study", "question", "needs", "cells done", title=f"studies at scale {scale}", title_justify="left")
    reasons = {f"{bed.dataset} ({bed.weights} weights)": run.missing(bed) for bed in run.scale.testbeds}
    needs = ", ".join(name + (" - missing" if reason else "") for name, reason in reasons.items())
    for study in STUDIES.values():
        pieces = {c.digest: c for cell in study.cells(run) for c in cell.closure()}
        done = sum(run.cells.has(cell) for cell in pieces.values())
        table.add_row(study.name, study.question, needs, f"{done}/{len(pieces)}")
    console.print(table)
    for name, reason in reasons.items():
        if reason:
            console.print(f"missing   {name}: {reason}", markup=False, highlight=False, soft_wrap=True)
    console.print("scales    " + "; ".join(f"{name}: {s.about}" for name, s in SCALES.items()), highlight=False)
    console.print("models    " + ", ".join(MODELS), highlight=False)
    console.print("methods   " + ", ".join(METHODS), highlight=False)
    console.print("data sets " + "; ".join(f"{name} ({d.source})" for name, d in DATASETS.items()), highlight=False)


@app.command()
def run(
    studies: Annotated[list[str], typer.Argument(help="names from `list`, or `all`")],
    scale: ScaleOption = "embedded",
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    seed: SeedOption = 0,
    force: Annotated[
        bool, typer.Option("--force", help="compute the studies' cells again; trained nets are kept")
    ] = False,
    results: ResultsOption = ROOT / "results",
    cells: CellsOption = ROOT / ".cache",
) -> None:
    """Run studies: what is finished is kept, what is missing is computed, then tables, figures and verdicts are written."""
    from reproduce.runner import run_studies
    from reproduce.scales import nearest
    from reproduce.studies import STUDIES

    unknown = [name for name in studies if name not in STUDIES and name != "all"]
    if unknown:
        raise nearest("study", unknown[0], STUDIES | {"all": None})
    names = list(STUDIES) if "all" in studies else studies
    prepared = _prepare(scale, device, threads, seed, results, cells)
    try:
        run_studies([STUDIES[name] for name in dict.fromkeys(names)], prepared, console, force=force)
    except KeyboardInterrupt:
        console.print("interrupted; finished cells are kept, the same command goes on from there")
        raise typer.Exit(130) from None
    _summary(prepared.results, names)


@app.command()
def report(scale: ScaleOption = "embedded", results: ResultsOption = ROOT / "results") -> None:
    """Join the result files of a scale into report.md and claims.csv, without computing anything."""
    from reproduce.report import page
    from reproduce.scales import find_scale

    folder = results / find_scale(scale).name
    if not any(folder.glob("*.json")):
        raise UserError(f"no results in {folder}; make some with `make reproduce-all SCALE={scale}`")
    page.write(folder)
    _summary(folder, [])


@app.command()
def data(
    scale: ScaleOption = "embedded",
    mirror: Annotated[
        str, typer.Option(envvar="DATA_MIRROR", help="folders or addresses to try first, separated by spaces")
    ] = "",
    offline: Annotated[bool, typer.Option("--offline", help="ask folders only")] = False,
    cells: CellsOption = ROOT / ".cache",
) -> None:
    """Compose or fetch what a scale needs, verify it, and say what is missing, why, and what cannot run for it."""
    from reproduce.datasets.fetch import Store, manifest, needed

    prepared = _prepare(scale, "cpu", None, 0, ROOT / "results", cells)
    store = Store(mirrors=tuple(mirror.split()), offline=offline, progress=console.is_terminal)
    files, manual = manifest()
    wanted = needed(prepared.scale.name, list(files.values()))
    failed: dict[str, list[str]] = {}
    for number, file in enumerate(wanted, start=1):
        group = file.name.split("/")[0]
        try:
            fresh = not store.has(file)
            store.fetch(file)
            if fresh:
                console.print(f"[{number}/{len(wanted)}] {file.name}", markup=False, highlight=False)
        except UserError as error:
            failed.setdefault(group, []).append(str(error))
    table = Table("data", "there", "missing", "why", title=f"data of scale {scale}", title_justify="left")
    for group in dict.fromkeys(file.name.split("/")[0] for file in wanted):
        count = sum(file.name.split("/")[0] == group for file in wanted)
        lost = failed.get(group, [])
        table.add_row(group, str(count - len(lost)), str(len(lost)), lost[0] if lost else "")
    for entry in manual.values():
        if prepared.scale.name in entry.scales:
            there = sum((store.folder / entry.name / file).is_file() for file in entry.files)
            table.add_row(
                entry.name, str(there), str(len(entry.files) - there), f"{', '.join(entry.files)}: {entry.where}"
            )
    if table.row_count:
        console.print(table)
    for bed in prepared.scale.testbeds:
        if reason := prepared.missing(bed):
            console.print(
                f"cannot run on {bed.dataset} with {bed.weights} weights: {reason}", markup=False, highlight=False
            )
            continue
        for split in ("train", "test") if bed.weights == "trained" else ("test",):
            images = prepared.images(bed.dataset, split)
            console.print(
                f"{bed.dataset} {split}: {len(images)} images, sha256 {images.fingerprint()[:16]}", highlight=False
            )


def _summary(folder: Path, names: list[str]) -> None:
    """The verdicts of ``names`` (all where empty), and where the report is."""
    import pandas as pd

    claims = pd.read_csv(folder / "claims.csv", keep_default_na=False)
    if names:
        claims = claims[claims["study"].isin(names)]
    table = Table("study", "claim", "measured", "verdict")
    for _, row in claims.iterrows():
        colour = {"reproduced": "green", "not reproduced": "red"}.get(row["verdict"], "yellow")
        table.add_row(row["study"], row["claim"], row["measured"], f"[{colour}]{row['verdict']}[/]")
    console.print(table)
    console.print(f"report: {folder / 'report.md'}", highlight=False, soft_wrap=True)


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 a UserError (printed as a sentence), 2 wrong usage, 130 interrupted."""
    try:
        app()
    except UserError as error:
        Console(stderr=True).print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
