"""Runs studies: their unfinished cells with progress, then tables, figures and verdicts into the results folder."""

import hashlib
import inspect
import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from rich.console import Console

from reproduce.cells import Cell, Cells, Value, pieces
from reproduce.errors import UserError
from reproduce.progress import CellProgress
from reproduce.provenance import provenance
from reproduce.ranks import Rank
from reproduce.report import figures, page, tables
from reproduce.run import Run
from reproduce.studies import STUDIES
from reproduce.studies.study import NOT_REPRODUCED, REPRODUCED, NotRun, Study


def run_studies(
    studies: Sequence[Study], run: Run, console: Console, *, force: bool = False, rank: Rank | None = None
) -> None:
    """Compute what is not there yet and write each study's files as soon as its cells are finished.

    Several processes on one folder of cells (torchrun, a job array) share the work: each claims the next cell that nobody
    has claimed, and the first process writes the results. What a cell holds does not depend on who computes it, nor into
    how many processes the work is split, so the tables are the same for any number of them. There is nothing to gather and
    nobody to wait for but the cells themselves; what a process that ends has claimed is free again.

    Args:
        force: compute the studies' own cells again; trained nets and data that they need are kept.
        rank:  which process this is.

    Raises:
        UserError: nothing can be run at this scale, results cannot be written, or several processes are asked for what is
            finished to be computed again.
    """
    rank = rank or Rank()
    if force and rank.count > 1:
        raise UserError(
            "--force with several processes cannot tell what is new; name a fresh folder with --cells instead"
        )
    try:
        run.results.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write results to {run.results}: {error.strerror}") from error
    if rank.first:
        say_what_is_missing(run, console)
    own = {study.name: study.cells(run) for study in studies}
    again = {cell.digest for cells in own.values() for cell in cells} if force else set()
    wanted = pieces(cell for cells in own.values() for cell in cells)
    waiting = {cell.digest: cell for cell in wanted if cell.digest in again or not run.cells.has(cell)}
    unwritten = list(studies)
    with CellProgress(list(waiting.values()), console) as progress:
        while True:
            while rank.first and unwritten and not any(c.digest in waiting for c in pieces(own[unwritten[0].name])):
                write_study(study := unwritten.pop(0), own[study.name], run, console)
            if not waiting or not _compute_one(waiting, again, run.cells, progress, rank):
                break
    if rank.first:
        page.write(run.results)


def say_what_is_missing(run: Run, console: Console) -> None:
    """A sentence for each part of the scale that cannot be run, with the way out."""
    for name, reason in run.missing_parts().items():
        console.print(f"not run on {name}: {reason}", markup=False, highlight=False)


def _compute_one(waiting: dict[str, Cell], again: set[str], cells: Cells, progress: CellProgress, rank: Rank) -> bool:
    """Take the first cell that nobody has claimed off ``waiting``, its needs first. False where there is none left to take."""
    claimed: list[Cell] = []
    for cell in list(waiting.values()):
        if cell.digest not in again and cells.has(cell):
            progress.done_elsewhere(waiting.pop(cell.digest))
        elif any(need.digest in waiting for need in cell.needs):
            continue
        elif _try(cell, again, cells, progress, wait=False):
            del waiting[cell.digest]
            return True
        else:
            claimed.append(cell)
    if not waiting:
        return True
    if not rank.first and len(claimed) == len(waiting):
        return False  # others are at work on all that is left, and the first process waits for them
    if claimed and _try(claimed[0], again, cells, progress, wait=True):
        del waiting[claimed[0].digest]
    return True


def _try(cell: Cell, again: set[str], cells: Cells, progress: CellProgress, *, wait: bool) -> bool:
    """Compute ``cell`` unless another process is at it."""
    with cells.claim(cell, wait=wait) as ours:
        if not ours or (cell.digest not in again and cells.has(cell)):
            return False
        progress.begin(cell)
        cells.get(cell, partial(progress.tick, cell), force=True)
        progress.end(cell)
        return True


def write_study(study: Study, cells: Sequence[Cell], run: Run, console: Console) -> None:
    """Write ``<study>.{csv,json,md,tex,png,pdf}`` unless they are there and made from the same cells and code."""
    stem = run.results / study.name
    digest = _digest(study, cells, run)
    if _is_current(stem, digest):
        return
    start = time.perf_counter()
    values = [run.cells.get(cell) for cell in cells]
    rows = study.rows(values) if values else pd.DataFrame()
    if "reported" in rows:
        # A reported value stands beside what estimates it: not beside nets trained here on other data.
        if not run.scale.estimates_paper:
            rows = rows.drop(columns="reported")
        elif "weights" in rows:
            rows = rows.assign(reported=rows["reported"].where(rows["weights"] != "trained"))
    claims = _judge(study, rows, run)
    table = study.table(rows) if len(rows) else pd.DataFrame()
    try:
        tables.write_csv(rows, stem.with_suffix(".csv"))
        stem.with_suffix(".md").write_text(page.study_markdown(study, table, claims))
        stem.with_suffix(".tex").write_text(tables.latex(table) if len(table) else "% not run\n")
        if len(rows):
            figures.save(study.figure(rows, values), stem)
        _write_json(study, values, table, claims, run, digest, stem)
    except OSError as error:
        raise UserError(f"cannot write {stem}.*: {error.strerror}") from error
    console.print(f"{study.name}: {stem}.md ({time.perf_counter() - start:.0f} s)", markup=False, highlight=False)


def _judge(study: Study, rows: pd.DataFrame, run: Run) -> list[dict[str, str]]:
    out = []
    for claim in study.claims:
        try:
            holds, measured = claim.judge(rows)
            verdict = REPRODUCED if holds else NOT_REPRODUCED
        except NotRun as reason:
            missing = run.missing_parts().values()
            measured, verdict = "", f"not run: {'; '.join(missing) or reason}"
        out.append(
            {"study": study.name, "claim": claim.text, "source": claim.source, "reported": claim.reported,
             "measured": measured, "verdict": verdict}
        )  # fmt: skip
    return out


def _digest(study: Study, cells: Sequence[Cell], run: Run) -> str:
    """What the files are made from: the cells' keys and when they were computed, and the code of the study and of the report.

    When: results that came with the repository are somebody else's, and those of an earlier run hold other seconds.
    """
    when = [f"{cell.digest} {run.cells.path(cell).stat().st_mtime_ns}" for cell in cells]
    code = [inspect.getsource(module) for module in (sys.modules[study.cells.__module__], figures, tables, page)]
    return hashlib.sha256("\n".join([*when, *code]).encode()).hexdigest()[:24]


def _is_current(stem: Path, digest: str) -> bool:
    try:
        made = json.loads(stem.with_suffix(".json").read_text())
    except (OSError, ValueError):
        return False
    return made.get("made_from") == digest and all(stem.with_suffix(s).is_file() for s in made["files"])


def _write_json(
    study: Study,
    values: Sequence[Value],
    table: pd.DataFrame,
    claims: list[dict[str, str]],
    run: Run,
    digest: str,
    stem: Path,
) -> None:
    record = {
        "study": study.name,
        "place": list(STUDIES).index(study.name) if study.name in STUDIES else len(STUDIES),
        "title": study.title,
        "question": study.question,
        "source": study.source,
        "protocol": study.protocol,
        "differs": study.differs,
        "scale": run.scale.name,
        "about": run.scale.about,
        "estimates_paper": run.scale.estimates_paper,
        "table": tables.record(table),
        "slides": study.slides(list(values)) if study.slides and values else [],
        "claims": claims,
        "provenance": provenance(device=run.device, threads=run.threads, seed=run.seed),
        "data": _fingerprints(values, run),
        "seconds": round(sum(value["seconds"] for value in values), 1),
        "files": [".csv", ".md", ".tex", *([".png", ".pdf"] if values else [])],
        "made_from": digest,
    }
    stem.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")


def _fingerprints(values: Sequence[Value], run: Run) -> dict[str, str]:
    """Data set -> sha256: of the nets' test images, or what a cell says itself of the data it read."""
    nets = {value["net"]["dataset"] for value in values if "net" in value}
    said = {name: digest for value in values for name, digest in value.get("data", {}).items()}
    return {name: run.images(name).fingerprint() for name in sorted(nets)} | said
