"""The report: what holds and what does not, then each study, joined from the result files of one scale.

As Markdown, as one HTML file, and the claims as CSV.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from reproduce.claims import Kind, Outcome
from reproduce.errors import UserError
from reproduce.records import read_records
from reproduce.report import findings, measuring, tables, web

StudyRecord = Mapping[str, Any]  # a study's JSON

NEEDED = {
    "study",
    "title",
    "question",
    "source",
    "method",
    "differs",
    "shows",
    "scale",
    "about",
    "estimates_paper",
    "slides",
    "criteria",
    "provenance",
    "tasks",
    "data",
    "seconds",
    "table",
    "claims",
    "files",
}
CLAIM_COLUMNS = ("id", "study", "kind", "claim", "source", "reported", "measured", "n", "outcome")


def write(results: Path) -> None:
    """Join what the folder holds: ``claims.csv``, ``report.md`` and ``report.html``. Studies that were not run do not appear.

    Raises:
        UserError: there are no results, a file is broken or of another version of the suite, or the folder cannot be
            written.
    """
    found = read_records(results)
    for name, record in found.items():
        _check(record, results / f"{name}.json")
    records = list(found.values())
    claims = pd.DataFrame([_row(claim) for record in records for claim in record["claims"]], columns=CLAIM_COLUMNS)
    texts = {"report.md": report_markdown(results.name, records), "report.html": web.html(results, records)}
    try:
        claims.to_csv(results / "claims.csv", index=False, lineterminator="\n")
        for name, text in texts.items():
            (results / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write the report to {results}: {error.strerror}") from error


def _check(record: StudyRecord, path: Path) -> None:
    missing = sorted(NEEDED - record.keys())
    if missing:
        raise UserError(
            f"{path} was written by another version of the suite (it lacks {', '.join(missing)}); "
            f"remove it, and make it again with `make {path.stem}`"
        )


def _row(claim: findings.Record) -> dict[str, str]:
    """A claim as a line of ``claims.csv``."""
    same = {name: claim[name] for name in ("id", "study", "kind", "source", "reported", "outcome")}
    return same | {"claim": claim["text"], "measured": findings.measured(claim), "n": findings.units(claim)}


# --- Markdown ---


def report_markdown(scale: str, records: Sequence[StudyRecord]) -> str:
    """Counts by kind and outcome, every claim in a line, then the studies."""
    claims = [claim for record in records for claim in record["claims"]]
    found = findings.counts(claims)
    counts = pd.DataFrame(
        [[findings.KIND_NAMES[kind], *(str(found[kind][outcome]) for outcome in Outcome)] for kind in findings.KINDS],
        columns=["", *map(str, Outcome)],
    )
    parts = [f"# Results at scale {scale}", tables.markdown(counts)]
    for kind in findings.KINDS:
        if any(found[kind].values()):
            parts += [f"## {findings.KIND_NAMES[kind]}", findings.KIND_MEANING[kind], _claims_of(claims, kind)]
    parts += [study_markdown(record).rstrip() for record in records]
    return "\n\n".join(parts) + "\n"


def _claims_of(claims: Sequence[findings.Record], kind: Kind) -> str:
    return _claims_markdown(
        findings.ordered(claims, kind), ["outcome", "claim", "measured", "reported", "source", "id"]
    )


def _claims_markdown(claims: Sequence[findings.Record], columns: list[str]) -> str:
    lines = [_row(claim) | {"measured": findings.measured(claim) or claim["reason"]} for claim in claims]
    return tables.markdown(pd.DataFrame(lines, columns=CLAIM_COLUMNS)[columns])


def study_markdown(record: StudyRecord) -> str:
    """One study for people: question, outcomes, table, figure, method, what differs, provenance."""
    table = tables.from_record(record["table"])
    parts = [
        f"## {record['title']}",
        f"{record['question']} ({record['source']}; `make {record['study']}`)",
        _claims_markdown(record["claims"], ["claim", "kind", "reported", "measured", "outcome"]),
        tables.markdown(table) or "Not run at this scale.",
        tables.legend(table),
        f"![{record['title']}: {record['shows']}]({record['study']}.png)" if ".png" in record["files"] else "",
        *(f"**What these accuracies mean.** {note}" for note in record.get("notes", ())),
        f"**Method.** {record['method']}",
        f"**What differs from the paper.** {record['differs']}",
        _provenance_line(record),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _provenance_line(record: StudyRecord) -> str:
    if not record["provenance"]:
        return ""
    data = ", ".join(f"{name} {digest[:12]}" for name, digest in record["data"].items())
    of_data = f" Data (sha256): {data}." if data else ""
    return f"*{measuring.sentence(record['provenance'])}{of_data} {record['seconds']:.0f} s of measuring.*"
