"""`claims`: every claim of the papers with its outcome, from the result files."""

import json
from typing import Any

from rich.text import Text

from reproduce.cli import options
from reproduce.cli.console import console, table
from reproduce.cli.summary import folder_of, print_summary, read_claims
from reproduce.paths import RESULTS

COLOURS = {"reproduced": "green", "not reproduced": "red"}


def claims(
    scale: options.Scale = "embedded", results: options.Results = RESULTS, as_json: options.Json = False
) -> None:
    """Show each claim of the papers with its outcome.

    Example: python -m reproduce claims --json
    """
    folder = folder_of(scale, results)
    found = read_claims(folder)
    if as_json:
        print(json.dumps([as_record(claim) for claim in found], indent=1))
        return
    shown = table(str(folder), "study", "claim", "kind", "outcome")
    for claim in found:
        colour = COLOURS.get(claim["outcome"], "yellow")
        shown.add_row(claim["study"], claim["text"], claim["kind"], Text(claim["outcome"], colour))
    console.print(shown)
    print_summary(folder)


def as_record(claim: dict[str, Any]) -> dict[str, Any]:
    """A claim for programs: what it says, what it allows, and what was found; ``n`` are the units behind its rows."""
    from reproduce.report import findings

    return claim | {
        "margin": claim["criterion"]["margin"],
        "n": sorted({row["n"] for row in claim["evidence"] if "n" in row}),
        "measured": findings.measured(claim),
    }
