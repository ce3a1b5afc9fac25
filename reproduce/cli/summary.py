"""What a user reads at the end of a run: how many claims have which outcome, which failed, and where the report is."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reproduce.cli.console import console, say, table
from reproduce.errors import UserError
from reproduce.records import read_records

MOST_FAILURES = 10


def folder_of(scale: str, results: Path) -> Path:
    """The folder of a scale's results. Raises UserError where it holds none."""
    from reproduce.scales import find_scale

    folder = results / find_scale(scale).name
    if not any(folder.glob("*.json")):
        raise UserError(f"no results in {folder}; make some with `make reproduce-all SCALE={scale}`")
    return folder


def read_claims(folder: Path, studies: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The claims of ``studies`` (all where none is named) with their outcomes, in the order of the report."""
    records = read_records(folder)
    named = [name for name in records if name in studies or not studies]
    return [claim for name in named for claim in records[name]["claims"]]


def print_summary(folder: Path, studies: Sequence[str] = ()) -> None:
    """Counts by kind and outcome, the first failures, and the report's path; theorems first, whose failure is a fault."""
    from reproduce.claims import Kind, Outcome

    claims = read_claims(folder, studies)
    counts = Counter((claim["kind"], claim["outcome"]) for claim in claims)
    shown = table("claims", "kind", *Outcome)
    for kind in Kind:
        shown.add_row(kind, *(str(counts[kind, outcome]) for outcome in Outcome))
    console.print(shown)
    failed = [
        claim
        for kind in Kind
        for claim in claims
        if (claim["kind"], claim["outcome"]) == (kind, Outcome.NOT_REPRODUCED)
    ]
    for claim in failed[:MOST_FAILURES]:
        say(f"not reproduced ({claim['kind']}): {claim['id']}: {claim['text']}")
    if len(failed) > MOST_FAILURES:
        say(f"and {len(failed) - MOST_FAILURES} more; `python -m reproduce claims` shows all")
    say(f"report: {folder / 'report.html'}")
