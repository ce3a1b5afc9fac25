"""The report: claims first, then each study, joined from the result files of one scale; as Markdown and as one HTML file."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from reproduce.report import web
from reproduce.report.tables import markdown

if TYPE_CHECKING:
    from reproduce.studies.study import Study

CLAIM_COLUMNS = ["study", "claim", "source", "reported", "measured", "verdict"]


def study_markdown(study: "Study", table: pd.DataFrame, claims: Sequence[dict[str, str]]) -> str:
    """One study for people: question, verdicts, table, figure, protocol, what differs."""
    shown = pd.DataFrame(claims, columns=CLAIM_COLUMNS)[["claim", "reported", "measured", "verdict"]]
    figure = f"![{study.title}]({study.name}.png)\n\n" if len(table) else ""
    return (
        f"## {study.title}\n\n{study.question} ({study.source}; `make {study.name}`)\n\n"
        f"{markdown(shown)}\n\n{markdown(table) if len(table) else 'not run'}\n\n{figure}"
        f"**Protocol.** {study.protocol}\n\n**What differs from the paper.** {study.differs}\n"
    )


def write(results: Path) -> None:
    """Join what the folder holds: ``claims.csv``, ``report.md`` and ``report.html``. Studies that have not been run do not appear."""
    records = [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
    # Not by date: a study that is run again stays in its place.
    records.sort(key=lambda record: record.get("place", len(records)))
    claims = pd.DataFrame([claim for record in records for claim in record["claims"]], columns=CLAIM_COLUMNS)
    claims.to_csv(results / "claims.csv", index=False, lineterminator="\n")
    counts = Counter(verdict.partition(":")[0] for verdict in claims["verdict"])
    summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) or "no study has been run"
    parts = [f"# Results at scale {results.name}\n\nClaims: {summary}.\n\n{markdown(claims)}\n"]
    for record in records:
        parts.append((results / f"{record['study']}.md").read_text())
        p = record["provenance"]
        commit = f"{(p['commit'] or 'unknown')[:12]}{' with local changes' if p['dirty'] else ''}"
        versions = ", ".join(f"{name} {version}" for name, version in p["packages"].items())
        data = ", ".join(f"{name} {digest[:12]}" for name, digest in record["data"].items())
        parts.append(
            f"*Measured {p['date']} at commit {commit}: {p['hardware']}, {p['threads']} threads, {p['dtype']}, seed {p['seed']}, "
            f"Python {p['python']}, {versions}; data {data}; {record['seconds']:.0f} s.*\n"
        )
    (results / "report.md").write_text("\n".join(parts))
    (results / "report.html").write_text(web.html(results, records))
