"""A study's files, ``<study>.{csv,json,md,tex,png,pdf}``: numbers from the result cache become rows, and rows become text."""

import hashlib
import inspect
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from reproduce import provenance
from reproduce.claims import Claim, judge
from reproduce.context import Context
from reproduce.datasets import DATASETS
from reproduce.errors import UserError
from reproduce.fingerprint import fingerprint
from reproduce.nets import Net
from reproduce.records import ALL
from reproduce.report import figures, findings, page, tables
from reproduce.study import Study
from reproduce.tasks import Result, Task, in_order

AnyTask = Task[Any, Any]
AnyResult = Result[Any, Any]


def write_study(study: Study, tasks: Sequence[AnyTask], context: Context, console: Console) -> None:
    """Write the study's files unless they are there and made from the same results and code."""
    path = context.results / study.name
    made_from = _made_from(study, tasks, context)
    if _is_current(path, made_from):
        return
    start = time.perf_counter()
    results = [context.result(task) for task in tasks]
    everything = _comparable(all_rows(study, results), context)
    rows = everything[everything["training"] == ALL] if len(everything) else everything
    table = study.table(rows) if len(rows) else tables.Table((), ())
    missing = list(study.missing_at(context).values())
    record = _record(study, tasks, results, context) | {
        "table": tables.record(table),
        "claims": [findings.record(study.name, finding, missing) for finding in judge(study.claims, rows)],
        "files": [".csv", ".md", ".tex", *([".png", ".pdf"] if len(rows) else [])],
        "made_from": made_from,
    }
    try:
        tables.write_csv(everything, path.with_suffix(".csv"))
        path.with_suffix(".md").write_text(page.study_markdown(record), encoding="utf-8")
        path.with_suffix(".tex").write_text(tables.latex(table) if len(rows) else "% not run\n", encoding="utf-8")
        if len(rows):
            figures.save(study.figure(rows, results), path)
        path.with_suffix(".json").write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {path}.*: {error.strerror}") from error
    console.print(f"{study.name}: {path}.md ({time.perf_counter() - start:.0f} s)", markup=False, highlight=False)


def all_rows(study: Study, results: Sequence[AnyResult]) -> pd.DataFrame:
    """The study's rows over all trainings together, then of the nets that were trained several times over each training alone.

    The column ``training`` says which: ALL, or the seed of the training.
    """
    if not results:
        return pd.DataFrame()
    return pd.concat(
        [study.rows(results).assign(training=ALL), *_rows_of_each_training(study, results)], ignore_index=True
    )


def _rows_of_each_training(study: Study, results: Sequence[AnyResult]) -> Iterator[pd.DataFrame]:
    nets = [result.about for result in results if isinstance(result.about, Net)]
    seeds: dict[Net, set[int]] = {}
    for net in nets:
        seeds.setdefault(replace(net, seed=0), set()).add(net.seed)
    several = {net for net, found in seeds.items() if len(found) > 1}
    for seed in sorted({net.seed for net in nets if replace(net, seed=0) in several}):
        own = [result for result in results if not _of_another_training(result, several, seed)]
        rows = study.rows(own)
        ids = [name for name in nets[0].ids() if name in rows]
        names = {tuple(getattr(net, name) for name in ids) for net in several}
        of_several = [tuple(row[name] for name in ids) in names for row in rows.to_dict("records")]
        yield rows[of_several].assign(training=str(seed))


def _of_another_training(result: AnyResult, several: set[Net], seed: int) -> bool:
    net = result.about
    return isinstance(net, Net) and replace(net, seed=0) in several and net.seed != seed


def _comparable(rows: pd.DataFrame, context: Context) -> pd.DataFrame:
    """Rows with a reported value only beside what estimates it: not beside nets trained here on other data."""
    if "reported" not in rows:
        return rows
    if not context.scale.estimates_paper:
        return rows.drop(columns="reported")
    return rows.assign(reported=rows["reported"].where(rows["weights"] != "trained")) if "weights" in rows else rows


def _record(study: Study, tasks: Sequence[AnyTask], results: Sequence[AnyResult], context: Context) -> dict[str, Any]:
    """What the page says of a study besides its table and claims."""
    measured = {task.digest: (task, context.result(task)) for task in in_order(tasks)}
    return {
        "study": study.name,
        "order": study.order,
        "title": study.title,
        "question": study.question,
        "source": study.source,
        "method": study.method,
        "differs": study.differs,
        "shows": (inspect.getdoc(study.figure) or "").partition("\n\n")[0].replace("\n", " "),
        "scale": context.scale.name,
        "about": context.scale.about,
        "estimates_paper": context.scale.estimates_paper,
        "slides": study.slides(results) if study.slides and results else [],
        "criteria": provenance.commit(),  # of the code that held the numbers against the claims
        "provenance": provenance.span([dict(result.provenance) for _, result in measured.values()]),
        "tasks": [
            {"task": task.name, "key": digest, "seconds": round(result.seconds, 1), **result.provenance}
            for digest, (task, result) in measured.items()
        ],
        "data": _fingerprints(results, context),
        "notes": _notes(results),
        "seconds": round(sum(result.seconds for _, result in measured.values()), 1),
    }


def _notes(results: Sequence[AnyResult]) -> list[str]:
    """What accuracies on the data sets of these nets mean, where that is not plain."""
    datasets = {result.about.dataset for result in results if isinstance(result.about, Net)}
    return list(dict.fromkeys(note for name in sorted(datasets) if (note := DATASETS[name].note)))


def _fingerprints(results: Sequence[AnyResult], context: Context) -> dict[str, str]:
    """Data set -> sha256: of the nets' test images, or what a value says itself of the data that it was measured on."""
    datasets = {result.about.dataset for result in results if isinstance(result.about, Net)}
    said = {name: digest for result in results for name, digest in getattr(result.value, "data", {}).items()}
    return {name: context.images(name).fingerprint() for name in sorted(datasets)} | said


def _made_from(study: Study, tasks: Sequence[AnyTask], context: Context) -> str:
    """What the files are made from: the tasks' keys and when they were computed, and the code from rows to pages.

    When: results of an earlier run hold other seconds.
    """
    when = [f"{task.digest} {context.cache.path(task).stat().st_mtime_ns}" for task in tasks]
    functions: list[Callable[..., Any]] = [study.rows, study.table, study.figure, write_study]
    functions += [claim.evidence for claim in study.claims] + ([study.slides] if study.slides else [])
    code = fingerprint(*functions)
    words = [study.title, study.question, study.source, study.method, study.differs, *map(_as_text, study.claims)]
    words += [f"{name}: {reason}" for name, reason in study.missing_at(context).items()]
    return hashlib.sha256("\n".join([*when, code, *words]).encode()).hexdigest()[:24]


def _as_text(claim: Claim) -> str:
    """All of a claim that decides its outcome, but for the code of ``evidence``, which has its fingerprint."""
    bound = (claim.evidence.args, claim.evidence.keywords) if isinstance(claim.evidence, partial) else ()
    return repr([*(getattr(claim, field.name) for field in fields(claim) if field.name != "evidence"), bound])


def _is_current(path: Path, made_from: str) -> bool:
    try:
        made = json.loads(path.with_suffix(".json").read_text())
    except (OSError, ValueError):
        return False
    current = isinstance(made, dict) and made.get("made_from") == made_from
    return current and all(path.with_suffix(s).is_file() for s in made["files"])
