"""What README says of results and studies: blocks between comments, made from the published records. `make readme`

    <!-- findings -->   counts by kind and outcome, five findings in a line each, and every claim that was not reproduced
    <!-- studies -->    every study: what it shows, and of which paper

A test holds README against these functions, so a number in it cannot be older than the published one.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import pandas as pd

from reproduce.claims import Kind, Outcome
from reproduce.errors import UserError
from reproduce.paths import PUBLISHED, ROOT
from reproduce.records import read_records
from reproduce.report import findings, tables

README = ROOT / "README.md"
SCALE = "embedded"

# The findings that README tells, one for each question that a reader comes with. Ids of claims never change.
TOLD = (
    "table1/x-mard-float32",  # is it true?
    "table1/accuracy-cost",  # what does it cost?
    "one-pass/one-pass-kpm",  # must I retrain, or is one pass enough as it is?
    "nhanes/x-gradient-prior-helps",  # does the papers' application work?
    "mfaba-table2/big-equal",  # is the other road as fast as they say?
)
WORDS = {
    Outcome.REPRODUCED: "Holds",
    Outcome.NOT_REPRODUCED: "Does not hold",
    Outcome.INCONCLUSIVE: "Open",
    Outcome.NOT_RUN: "Not run",
}
PAPERS = {"X-DNN": "X-DNN", "IG paper": "IG", "MFABA": "MFABA"}  # first words of a source -> paper


class Listed(Protocol):
    """What README says of a study."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def source(self) -> str: ...


# --- findings ---


def findings_block(claims: Sequence[findings.Record], told: Sequence[str] = TOLD) -> str:
    """What holds and what does not, as Markdown.

    Raises:
        UserError: a claim that is to be told is not among the published ones.
    """
    by_id = {claim["id"]: claim for claim in claims}
    absent = [name for name in told if name not in by_id]
    if absent:
        raise UserError(f"README tells of {', '.join(absent)}, and no published claim has this id; see {__name__}.TOLD")
    lines = "\n".join(f"- {_line(by_id[name])}" for name in told)
    return "\n\n".join([tables.markdown(_counts(claims)), lines, _failures(claims)])


def _counts(claims: Sequence[findings.Record]) -> pd.DataFrame:
    found = findings.counts(claims)
    lines = [[findings.KIND_NAMES[kind], *(str(found[kind][outcome]) for outcome in Outcome)] for kind in Kind]
    return pd.DataFrame(lines, columns=["claims", *map(str, Outcome)])


def _line(claim: findings.Record) -> str:
    outcome = Outcome(claim["outcome"])
    measured = claim["reason"] if outcome is Outcome.NOT_RUN else findings.measured(claim)
    return f"**{WORDS[outcome]}.** {claim['text']}. *{measured}.*"


def _failures(claims: Sequence[findings.Record]) -> str:
    """Every claim that was not reproduced, by its id under its study; theorems apart, because there the code is at fault."""
    parts = []
    for kind, lead in (
        (Kind.THEOREM, "Theorems that the code breaks"),
        (Kind.EMPIRICAL, "Not reproduced"),
        (Kind.SPEED, "Not as fast here"),
    ):
        failed = [c for c in claims if (c["kind"], c["outcome"]) == (kind, Outcome.NOT_REPRODUCED)]
        by_study: dict[str, list[str]] = {}
        for claim in failed:
            by_study.setdefault(claim["study"], []).append(claim["id"].partition("/")[2])
        named = "; ".join(f"{study}: {', '.join(f'`{name}`' for name in ids)}" for study, ids in by_study.items())
        parts += [f"{lead} ({len(failed)}): {named}."] if failed else []
    return "\n\n".join(parts) or "No claim failed."


# --- studies ---


def studies_block(studies: Iterable[Listed]) -> str:
    """A line for each study: the target of make, what it shows, and the paper whose table or figure it reproduces."""
    lines = [[f"`make {study.name}`", study.title, paper_of(study.source)] for study in studies]
    return tables.markdown(pd.DataFrame(lines, columns=["command", "what it shows", "paper"]))


def paper_of(source: str) -> str:
    """The paper of a study's source; "" where the study asks more than that."""
    return next((paper for start, paper in PAPERS.items() if source.startswith(start)), "")


# --- the file ---


def published_claims(folder: Path = PUBLISHED / SCALE) -> list[findings.Record]:
    """The claims of every published study, in the order of the report.

    Raises:
        UserError: nothing is published there, or by another version of the suite.
    """
    claims = [claim for record in read_records(folder).values() for claim in record["claims"]]
    if any("id" not in claim or "outcome" not in claim for claim in claims):
        raise UserError(f"{folder} was written by another version of the suite; make it again with `make publish`")
    return claims


def block(text: str, name: str) -> str:
    """What stands in a document between ``<!-- name -->`` and ``<!-- /name -->``. Raises UserError where it has no such block."""
    start, stop = _place(text, name)
    return text[start:stop]


def refreshed(text: str, blocks: Mapping[str, str]) -> str:
    """The document with these blocks in place of what they held."""
    for name, content in blocks.items():
        start, stop = _place(text, name)
        text = text[:start] + content + text[stop:]
    return text


def _place(text: str, name: str) -> tuple[int, int]:
    found = re.search(rf"<!-- {name}[^>]*-->\n(.*?)\n<!-- /{name} -->", text, re.DOTALL)
    if found is None:
        raise UserError(f"the document has no block {name}")
    return found.span(1)


def main() -> None:
    """Refresh README.md."""
    from reproduce.studies import STUDIES  # what exists, run or not; the functions above know result files only

    blocks = {"findings": findings_block(published_claims()), "studies": studies_block(STUDIES.values())}
    README.write_text(refreshed(README.read_text(), blocks))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
