"""The command line: ``python -m reproduce list | run STUDY... | estimate | data | report | claims | compare | attribute``."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from reproduce.errors import UserError

app = typer.Typer(
    help="Reproduce the tables and figures of X-DNN, Integrated Gradients and MFABA, each number with its interval and verdict.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
console = Console()
ROOT = Path(__file__).resolve().parent.parent

ScaleOption = Annotated[str, typer.Option("--scale", envvar="SCALE", help="embedded, subset or paper")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")]
ThreadsOption = Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all cores")]
SeedOption = Annotated[int, typer.Option(min=0, help="seed of training and of all random draws")]
RepetitionsOption = Annotated[
    int | None, typer.Option(min=2, help="repetitions of study nhanes; default: the scale's (the paper: 200)")
]
ResultsOption = Annotated[Path, typer.Option(help="folder of tables and figures; the scale's name is added")]
CellsOption = Annotated[Path, typer.Option("--cells", envvar="CELLS", help="folder of finished cells and trained nets")]


def _load_plugins(paths: list[Path] | None) -> list[Path] | None:
    from reproduce import plugins

    for path in paths or []:
        plugins.load(path)
    return paths


PluginOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin", callback=_load_plugins, is_eager=True, help="a file with METHODS, MODELS, ... of your own"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]


def _hardware(device: str, threads: int | None):  # type: ignore[no-untyped-def]
    """The device and the number of threads of this process, after setting both up."""
    import torch

    from reproduce.attributions.engine import keep_freed_memory
    from reproduce.ranks import find_rank

    rank = find_rank()
    try:
        target = torch.device(rank.device(device))
    except RuntimeError as error:
        raise UserError(f"unknown device {device!r}; use cpu, cuda or cuda:N") from error
    if target.type == "cuda" and (not torch.cuda.is_available() or (target.index or 0) >= torch.cuda.device_count()):
        raise UserError(
            f"--device {device}: this machine has {torch.cuda.device_count()} CUDA devices; use --device cpu"
        )
    if target.type == "cpu":
        keep_freed_memory()
    torch.set_num_threads(threads or max(1, (os.cpu_count() or 1) // rank.local_count))
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # it moves MARD by about a percent
    return target, torch.get_num_threads()


def _prepare(  # type: ignore[no-untyped-def]
    scale: str, device: str, threads: int | None, seed: int, results: Path, cells: Path, repetitions: int | None = None
):
    """A Run, after checking every option before long work starts."""
    import torch

    from reproduce.cells import Cells
    from reproduce.run import Run
    from reproduce.scales import find_scale

    chosen = find_scale(scale)
    target, _ = _hardware(device, threads)
    store = Cells(cells, {"torch": torch.__version__, "device": target.type})
    return Run(chosen, store, results / chosen.name, target, torch.get_num_threads(), seed, repetitions=repetitions)


@app.command("list")
def list_(
    scale: ScaleOption = "embedded",
    cells: CellsOption = ROOT / ".cache",
    as_json: JsonOption = False,
    plugin: PluginOption = None,
) -> None:
    """Show studies, models, methods and data sets, and whether what each needs is there.

    Example: python -m reproduce list --scale paper
    """
    from reproduce.attributions import METHODS
    from reproduce.datasets import DATASETS
    from reproduce.models import MODELS
    from reproduce.scales import SCALES
    from reproduce.studies import STUDIES

    run = _prepare(scale, "cpu", None, 0, ROOT / "results", cells)
    if as_json:
        print(json.dumps(_listing(run), indent=1))
        return
    table = Table("study", "question", "needs", "cells done", title=f"studies at scale {scale}", title_justify="left")
    reasons = {f"{bed.dataset} ({bed.weights} weights)": run.missing(bed) for bed in run.scale.testbeds}
    needs = ", ".join(name + (" - missing" if reason else "") for name, reason in reasons.items())
    for study in STUDIES.values():
        done, count = _progress(study, run)
        table.add_row(study.name, study.question, needs, f"{done}/{count}")
    console.print(table)
    for name, reason in reasons.items():
        if reason:
            console.print(f"missing   {name}: {reason}", markup=False, highlight=False, soft_wrap=True)
    console.print("scales    " + "; ".join(f"{name}: {s.about}" for name, s in SCALES.items()), highlight=False)
    console.print("models    " + ", ".join(MODELS), highlight=False)
    console.print("methods   " + ", ".join(METHODS), highlight=False)
    console.print("data sets " + "; ".join(f"{name} ({d.source})" for name, d in DATASETS.items()), highlight=False)


def _progress(study, run) -> tuple[int, int]:  # type: ignore[no-untyped-def]
    """How many of a study's cells are finished, and how many there are."""
    from reproduce.cells import pieces

    found = pieces(study.cells(run))
    return sum(map(run.cells.has, found)), len(found)


def _listing(run) -> dict[str, object]:  # type: ignore[no-untyped-def]
    """What ``list`` shows, as JSON."""
    from reproduce.attributions import METHODS
    from reproduce.datasets import DATASETS
    from reproduce.models import MODELS
    from reproduce.scales import SCALES
    from reproduce.studies import STUDIES

    done = {name: _progress(study, run) for name, study in STUDIES.items()}
    return {
        "scale": run.scale.name,
        "studies": {
            name: {
                "question": study.question,
                "source": study.source,
                "cells_done": done[name][0],
                "cells": done[name][1],
            }
            for name, study in STUDIES.items()
        },
        "testbeds": {f"{bed.dataset}, {bed.weights}": run.missing(bed) for bed in run.scale.testbeds},
        "scales": {name: scale.about for name, scale in SCALES.items()},
        "models": list(MODELS),
        "methods": {name: method.label for name, method in METHODS.items()},
        "datasets": {name: data.source for name, data in DATASETS.items()},
    }


def _named(studies: list[str]) -> list[str]:
    """Each study that was named, once, `all` standing for every one. Raises UserError for an unknown name."""
    from reproduce.scales import nearest
    from reproduce.studies import STUDIES

    unknown = [name for name in studies if name not in STUDIES and name != "all"]
    if unknown:
        raise nearest("study", unknown[0], STUDIES | {"all": None})
    return list(STUDIES) if "all" in studies else list(dict.fromkeys(studies))


@contextmanager
def _interruptible(kept: str, say: Callable[[str], None] = console.print) -> Iterator[None]:
    """Ctrl-C, or a scheduler's SIGTERM, ends the block with a sentence and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"interrupted; {kept}")
        raise typer.Exit(130) from None


@app.command()
def run(
    studies: Annotated[list[str], typer.Argument(help="names from `list`, or `all`")],
    scale: ScaleOption = "embedded",
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    seed: SeedOption = 0,
    repetitions: RepetitionsOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="compute the studies' cells again; trained nets are kept")
    ] = False,
    images: Annotated[
        int | None, typer.Option(help="only the first N images of each study; results go to <scale>-N")
    ] = None,
    results: ResultsOption = ROOT / "results",
    cells: CellsOption = ROOT / ".cache",
    plugin: PluginOption = None,
) -> None:
    """Run studies: what is finished is kept, what is missing is computed, then tables, figures and verdicts are written.

    Example: python -m reproduce run table1 contrast --threads 2
    """
    from dataclasses import replace

    from reproduce.ranks import find_rank
    from reproduce.runner import run_studies
    from reproduce.studies import STUDIES

    names = _named(studies)
    prepared = _prepare(scale, device, threads, seed, results, cells, repetitions)
    if images is not None:
        folder = prepared.results.with_name(f"{prepared.scale.name}-{images}")
        prepared = replace(prepared, scale=prepared.scale.first(images), results=folder)
    rank = find_rank()
    with _interruptible("finished cells are kept, the same command goes on from there"):
        run_studies([STUDIES[name] for name in names], prepared, console, force=force, rank=rank)
    if rank.first:
        _summary(prepared.results, names)


@app.command()
def estimate(
    studies: Annotated[list[str], typer.Argument(help="names from `list`, or `all`")],
    scale: ScaleOption = "embedded",
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    images: Annotated[int, typer.Option(min=1, help="images per net to measure on; then twice as many")] = 16,
    cells: CellsOption = ROOT / ".cache",
    plugin: PluginOption = None,
) -> None:
    """Say how long the rest of a scale will take here, from each study on a few images and on twice as many.

    Example: python -m reproduce estimate all --scale paper --device cuda --images 64
    """
    from reproduce.estimate import estimate as measured
    from reproduce.studies import STUDIES

    named = [STUDIES[name] for name in _named(studies)]
    prepared = _prepare(scale, device, threads, 0, ROOT / "results", cells)
    with _interruptible("finished cells are kept, the same command goes on from there"):
        found = measured(named, prepared, images, console)
    table = Table("study", "images", "hours", "+ guessed", title=f"what is left of {scale}", title_justify="left")
    for e in found:
        table.add_row(e.study, f"{e.images:,}", f"{e.seconds / 3600:.2g}", f"{e.guessed / 3600:.2g}")
    console.print(table)
    console.print(
        f"{sum(e.seconds for e in found) / 3600:.2g} hours on one {device}, less what studies share; guessed, "
        "for 2 cores: training, and what does not depend on images",
        highlight=False,
    )


@app.command()
def report(scale: ScaleOption = "embedded", results: ResultsOption = ROOT / "results") -> None:
    """Join the result files of a scale into report.html, report.md and claims.csv, without computing anything.

    Example: python -m reproduce report --scale subset
    """
    from reproduce.report import page
    from reproduce.scales import find_scale

    folder = results / find_scale(scale).name
    if not any(folder.glob("*.json")):
        raise UserError(f"no results in {folder}; make some with `make reproduce-all SCALE={scale}`")
    page.write(folder)
    _summary(folder, [])


@app.command()
def claims(
    scale: ScaleOption = "embedded", results: ResultsOption = ROOT / "results", as_json: JsonOption = False
) -> None:
    """Show each claim of the papers with its verdict, from the result files.

    Example: python -m reproduce claims --json
    """
    import pandas as pd

    folder = results / scale
    if not (folder / "claims.csv").is_file():
        raise UserError(f"no results in {folder}; make some with `make reproduce-all SCALE={scale}`")
    if as_json:
        found = pd.read_csv(folder / "claims.csv", keep_default_na=False, dtype=str)
        print(json.dumps(found.to_dict("records"), indent=1))
    else:
        _summary(folder, [])


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(help="a folder of results, e.g. results/embedded")],
    after: Annotated[Path, typer.Argument(help="another one")],
    check: Annotated[bool, typer.Option("--check", help="exit with 3 where something moved")] = False,
) -> None:
    """Show what moved between two folders of results beyond its interval, and which verdicts changed.

    Example: python -m reproduce compare results/embedded /tmp/other/embedded
    """
    from reproduce.compare import compare as hold_against

    found = hold_against(before, after)
    for title, rows in (("moved beyond its interval", found.moved), ("verdict changed", found.claims)):
        if len(rows):
            table = Table(*rows.columns, title=title, title_justify="left")
            for line in rows.itertuples(index=False):
                table.add_row(*map(str, line))
            console.print(table)
    for line in found.only:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"{len(found.moved)} of {found.rows} rows moved, {len(found.claims)} verdicts changed", highlight=False
    )
    if check and not found.same:
        raise typer.Exit(3)


@app.command()
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
    size: Annotated[int, typer.Option(min=8, help="side of the net's input in px")] = 224,
    references: Annotated[
        Path | None, typer.Option(help="folder of pictures, for methods that draw references")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="float32, or bf16: several times faster, and its error is printed")
    ] = "float32",
    seed: SeedOption = 0,
    plugin: PluginOption = None,
) -> None:
    """Explain a picture of yours by a net of yours: maps as arrays and pictures, with passes, time and completeness gap.

    Example: python -m reproduce attribute photo.jpg --variant wrapped --method x_gradient,integrated_gradients
    """
    from reproduce.attribute import run as explain

    names = [name.strip() for name in method.split(",") if name.strip()]
    explained, found, paths = explain(
        picture, model, names, out, variant=variant, weights=weights, target=target, size=size, references=references, seed=seed,
        precision=precision,
    )  # fmt: skip
    rounded = ["error of bf16"] if precision != "float32" else []
    heads = ("method", "passes", "seconds", "sum", "completeness gap", *rounded)
    table = Table(*heads, title=f"class {explained}", title_justify="left")
    for a in found:
        line = [a.label, str(a.passes), f"{a.seconds:.3f}", f"{a.total:.4g}", f"{100 * a.gap:.2g} %"]
        table.add_row(*line, *(f"{100 * a.error:.2g} %" for _ in rounded))
    console.print(table)
    console.print(
        "gap: |sum - (F(x) - F(0))| / |F(x) - F(0)|, F the logit of that class, 0 the mean colour", highlight=False
    )
    for path in paths:
        console.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def data(
    scale: ScaleOption = "embedded",
    mirror: Annotated[
        str, typer.Option(envvar="DATA_MIRROR", help="folders or addresses to try first, separated by spaces")
    ] = "",
    offline: Annotated[bool, typer.Option("--offline", help="ask folders only")] = False,
    cells: CellsOption = ROOT / ".cache",
) -> None:
    """Compose or fetch what a scale needs, verify it, and say what is missing, why, and what cannot run for it.

    Example: python -m reproduce data --scale subset --mirror /data/mirror
    """
    from reproduce.datasets.fetch import Store, fetch_all, manifest

    prepared = _prepare(scale, "cpu", None, 0, ROOT / "results", cells)
    store = Store(mirrors=tuple(mirror.split()), offline=offline, progress=console.is_terminal)
    files, manual = manifest()
    wanted, failed = fetch_all(
        prepared.scale.name,
        list(files.values()),
        store,
        lambda name: console.print(name, markup=False, highlight=False),
    )
    table = Table("data", "there", "missing", "why", title=f"data of scale {scale}", title_justify="left")
    for group in dict.fromkeys(file.name.split("/")[0] for file in wanted):
        count = sum(file.name.split("/")[0] == group for file in wanted)
        lost = [reason for name, reason in failed.items() if name.split("/")[0] == group]
        table.add_row(group, str(count - len(lost)), str(len(lost)), lost[0] if lost else "")
    for entry in manual.values():
        if prepared.scale.name in entry.scales:
            there = sum((store.folder / entry.name / file).is_file() for file in entry.files)
            table.add_row(
                entry.name, str(there), str(len(entry.files) - there), f"{', '.join(entry.files)}: {entry.where}"
            )
    if table.row_count:
        console.print(table)
    for name in prepared.scale.priors.tables:
        reason = prepared.missing_table(name)
        line = f"cannot run on {name}: {reason}" if reason else f"{name}: {len(prepared.table(name))} rows"
        console.print(line, markup=False, highlight=False)
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


FolderOption = Annotated[Path, typer.Option("--data", help="folder with train/<class>/<image> and val/<class>/<image>")]
ImagePxOption = Annotated[int, typer.Option(min=64, help="side of the crops")]
WidthOption = Annotated[float, typer.Option(help="channel multiplier; 1 is the papers' network")]
EpochsOption = Annotated[int | None, typer.Option(min=1, help="default: the recipe's")]
BatchOption = Annotated[int | None, typer.Option(min=1, help="over all processes; default: the recipe's 256")]
RateOption = Annotated[float | None, typer.Option("--learning-rate", help="default: the recipe's")]
WorkersOption = Annotated[
    int | None, typer.Option(min=0, help="processes that decode images; default: this process's cores")
]
Bfloat16Option = Annotated[
    bool, typer.Option("--bfloat16", help="training passes in bfloat16 (the authors used float32)")
]


def _train(  # type: ignore[no-untyped-def]
    kind: str, model: str, weights: Path | None, out: Path, data: Path, image_px: int, width: float, variant: str, epochs: int | None,
    batch: int | None, rate: float | None, workers: int | None, bfloat16: bool, device: str, threads: int | None, seed: int,
):  # fmt: skip
    """What `train` and `convert` share: check every option, join the other processes, build the net, run."""
    from dataclasses import replace

    import torch

    from reproduce.models import build
    from reproduce.models.weights import load_weights
    from reproduce.ranks import find_rank, group
    from reproduce.training import convert, imagenet
    from reproduce.training.folders import Folders

    rank = find_rank()
    target, cores = _hardware(device, threads)
    folders = Folders(data, image_px)
    recipe = imagenet.recipe_for(model)
    recipe = convert.fine_tuning(recipe, epochs or convert.FINE_TUNE_EPOCHS) if kind == "convert" else recipe
    recipe = replace(
        recipe, epochs=epochs or recipe.epochs, batch=batch or recipe.batch, learning_rate=rate or recipe.learning_rate
    )
    about = {"arch": model, "variant": variant, "width": width} | ({"from": str(weights)} if weights else {})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = build(
            model, "regular" if weights else variant, classes=len(folders.val.classes), width=width, image_px=image_px
        )
        net = load_weights(net, weights) if weights else imagenet.initialise_(net)
    say = (
        (lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True))
        if rank.first
        else (lambda line: None)
    )
    work = convert.convert if kind == "convert" else imagenet.train
    with _interruptible("the same command goes on after the last finished epoch", say), group(rank, target):
        result = work(net, folders, out, recipe, about, seed=seed, device=target, rank=rank,
                      workers=cores if workers is None else workers, bfloat16=bfloat16, say=say)  # fmt: skip
    return result, rank


@app.command()
def train(
    model: Annotated[str, typer.Argument(help="a model of `list`, e.g. alexnet")],
    data: FolderOption,
    out: Annotated[Path, typer.Option(help="folder of checkpoints and curves; the same command goes on from there")],
    variant: Annotated[str, typer.Option(help="regular or x")] = "regular",
    epochs: EpochsOption = None,
    batch: BatchOption = None,
    learning_rate: RateOption = None,
    image_px: ImagePxOption = 224,
    width: WidthOption = 1.0,
    workers: WorkersOption = None,
    bfloat16: Bfloat16Option = False,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    seed: SeedOption = 0,
) -> None:
    """Train a net from scratch by the X-DNN authors' recipe; under torchrun on several devices."""
    _train("train", model, None, out, data, image_px, width, variant, epochs, batch, learning_rate, workers, bfloat16,
           device, threads, seed)  # fmt: skip


@app.command()
def convert(
    weights: Annotated[
        Path, typer.Argument(help="checkpoint of a trained regular net: a state dict, or one under `state_dict`")
    ],
    arch: Annotated[str, typer.Option(help="its architecture, a model of `list`")],
    data: FolderOption,
    out: Annotated[Path, typer.Option(help="folder of the X-net, its curves and the comparison")],
    epochs: EpochsOption = None,
    batch: BatchOption = None,
    learning_rate: RateOption = None,
    image_px: ImagePxOption = 224,
    width: WidthOption = 1.0,
    workers: WorkersOption = None,
    bfloat16: Bfloat16Option = False,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    seed: SeedOption = 0,
) -> None:
    """Make an X-net of a trained net: remove its biases, fine-tune, report accuracy before and after, homogeneity and MARD."""
    rows, rank = _train("convert", arch, weights, out, data, image_px, width, "x", epochs, batch, learning_rate, workers, bfloat16,
                        device, threads, seed)  # fmt: skip
    if rank.first:
        rows.to_csv(out / "convert.csv", index=False)
        table = Table(*rows.columns, title=f"{arch}: {out / 'best.pth.tar'}", title_justify="left")
        for row in rows.itertuples(index=False):
            table.add_row(*(value if isinstance(value, str) else f"{value:.4g}" for value in row))
        console.print(table)


def _summary(folder: Path, names: list[str]) -> None:
    """The verdicts of ``names`` (all where empty), and where the report is."""
    import pandas as pd

    claims = pd.read_csv(folder / "claims.csv", keep_default_na=False, dtype=str)
    if names:
        claims = claims[claims["study"].isin(names)]
    table = Table("study", "claim", "measured", "verdict")
    for _, row in claims.iterrows():
        colour = {"reproduced": "green", "not reproduced": "red"}.get(row["verdict"], "yellow")
        table.add_row(row["study"], row["claim"], row["measured"], f"[{colour}]{row['verdict']}[/]")
    console.print(table)
    console.print(f"report: {folder / 'report.html'}", highlight=False, soft_wrap=True)


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


if __name__ == "__main__":
    main()
