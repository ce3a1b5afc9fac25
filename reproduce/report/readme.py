"""What README and the pages of docs/ say of results, studies and methods: blocks between comments. `make readme`

    README.md         findings   counts by kind and outcome, five findings in a line each, and every claim that failed
                      peers      how fast IG is beside captum's, a row per machine
                      run        how long a run takes
                      studies    every study: what it shows, and of which paper
    docs/methods.md   methods    the registry of methods
                      quality    findings about methods, a line each
                      cost       time, memory and distance to IG of each method
    docs/measured.md  measured   of each published scale: when, where and with what

Numbers come from the published records. A test holds the documents against these functions, so no number in them can be
older than the published one.
"""

import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from reproduce.claims import Kind, Outcome
from reproduce.errors import UserError
from reproduce.paths import PUBLISHED, ROOT
from reproduce.records import ALL, read_records
from reproduce.report import findings, measuring, style, tables
from xdnn import METHODS
from xdnn.attributions import Method

README = ROOT / "README.md"
DOCS = ROOT / "docs"
SCALE = "embedded"
LARGER = ("subset", "paper")

# The findings that README tells, one for each question that a reader comes with. Ids of claims never change.
TOLD = (
    "table1/x-mard-float32",  # is it true?
    "table1/accuracy-cost",  # what does it cost?
    "one-pass/one-pass-kpm",  # must I retrain, or is one pass enough as it is?
    "nhanes/x-gradient-prior-helps",  # does the papers' application work?
    "mfaba-table2/big-equal",  # is the other road as fast as they say?
)
# Those that docs/methods.md tells: what one pass, few and many are worth.
ON_METHODS = (
    "table2/x-gradient-is-ig",
    "one-pass/one-pass-kpm",
    "one-pass/own-radius-kpm",
    "one-pass/few-steps-kpm",
    "conversion/stripping-cost",
    "steps/paper-range",
    "steps/adaptive-saves",
)
COSTS = {  # metric of the study cost -> heading
    "relative_time": "time / gradient",
    "peak_mib": "peak MiB",
    "error": "relative L1 distance to IG (300)",
}
WORDS = {
    Outcome.REPRODUCED: "Holds",
    Outcome.NOT_REPRODUCED: "Does not hold",
    Outcome.INCONCLUSIVE: "Open",
    Outcome.NOT_RUN: "Not run",
}
CAPTUM = "captum"  # how the lines of benchmarks/peers.py begin
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
    return "\n\n".join([tables.markdown(_counts(claims)), told_block(claims, told), _failures(claims)])


def told_block(claims: Sequence[findings.Record], told: Sequence[str]) -> str:
    """These claims, a line each. Raises UserError for one that is not among ``claims``."""
    by_id = {claim["id"]: claim for claim in claims}
    absent = [name for name in told if name not in by_id]
    if absent:
        raise UserError(
            f"the documents tell of {', '.join(absent)}, and no published claim has this id; see {__name__}"
        )
    return "\n".join(f"- {_line(by_id[name])}" for name in told)


def _counts(claims: Sequence[findings.Record]) -> pd.DataFrame:
    found = findings.counts(claims)
    lines = [[findings.KIND_NAMES[kind], *(str(found[kind][outcome]) for outcome in Outcome)] for kind in Kind]
    return pd.DataFrame(lines, columns=["claims", *map(str, Outcome)])


def _line(claim: findings.Record) -> str:
    outcome = Outcome(claim["outcome"])
    measured = claim["reason"] if outcome is Outcome.NOT_RUN else findings.measured(claim)
    return f"**{WORDS[outcome]}.** {claim['text']}. *{measured}.*"


def _failures(claims: Sequence[findings.Record]) -> str:
    """Every claim that was not reproduced, by its id under its study; theorems apart, where rounding or the code is at fault."""
    parts = []
    for kind, lead in (
        (Kind.THEOREM, "Theorems that [rounding](docs/theory.md#what-rounding-does) or the code breaks"),
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


# --- runs ---


def run_block(records: Iterable[findings.Record]) -> str:
    """How long a run with one training of each net takes where the published one was measured.

    Of the trainings of one net and what is measured on each, which have one name, the median counts once. Workers of one
    thread share the tasks; what ran with more threads ran alone.
    """
    tasks = {task["key"]: task for record in records for task in record["tasks"]}
    by_name: dict[str, list[float]] = {}
    for task in tasks.values():
        by_name.setdefault(task["task"], []).append(task["seconds"] * task["threads"] / task["cores"])
    minutes = sum(map(statistics.median, by_name.values())) / 60
    some = next(iter(tasks.values()))
    return (
        f"The first takes about {math.ceil(minutes)} minutes on {some['cores']} cores ({some['hardware']}) and writes "
        "`results/embedded/report.html`; the second checks the code."
    )


def measured_block(scales: Mapping[str, Sequence[findings.Record]]) -> str:
    """Of each scale: a sentence on when and where, and the seconds of each study."""
    parts = []
    for scale, records in scales.items():
        lines = [[record["study"], f"{record['seconds']:.0f}", str(len(record["tasks"]))] for record in records]
        study_table = tables.markdown(pd.DataFrame(lines, columns=["study", "seconds of measuring", "tasks"]))
        parts += [f"**Scale {scale}.** {measuring.sentence(measuring.whole_span(records))}", study_table]
    return "\n\n".join(parts)


# --- peers ---


def peers_block(folder: Path) -> str:
    """Times as fast as captum at its best, of each net on each machine that was measured: median and range of the rounds.

    Args:
        folder: of the tables that ``benchmarks/peers.py`` writes.

    Raises:
        UserError: no machine was measured.
    """
    files = sorted(folder.glob("*.csv"))
    if not files:
        raise UserError(f"{folder} holds no table; measure this machine with `make peers`")
    rows = pd.concat([pd.read_csv(path) for path in files])
    best = rows[rows["against"].str.startswith(f"{CAPTUM} at its best")]
    said = [f"{one.ratio:.2f} ({one.smallest:.2f} to {one.largest:.2f})" for one in best.itertuples()]
    machine = best["cpu"] + ", " + best["threads"].astype(str) + " threads"
    named = best.assign(machine=machine, said=said, net=[style.model(name).label for name in best["net"]])
    found = named.pivot(index="machine", columns="net", values="said").reindex(columns=named["net"].unique())
    return tables.markdown(found.fillna("").rename_axis(columns=None).reset_index())


# --- methods ---


def methods_block(methods: Mapping[str, Method]) -> str:
    """The registry: what each method costs, what its sum is counted from, and what it needs."""
    lines = []
    for name, method in methods.items():
        needs = ["an X-net"] * method.needs_x + ["references"] * method.references + ["a generator"] * method.stochastic
        needs += ["batch mates"] * method.ties_batch_mates
        passes = "by the image" if method.passes is None else str(method.passes)
        lines.append([method.label, f"`{name}`", passes, method.baseline or "", ", ".join(needs)])
    return tables.markdown(pd.DataFrame(lines, columns=["method", "name", "passes", "sums from baseline", "needs"]))


def cost_block(rows: pd.DataFrame) -> str:
    """Of the first regular net of the study cost: each method's time, memory and distance to IG."""
    rows = rows[(rows["training"] == ALL) & (rows["variant"] == "regular") & rows["reason"].isna()]
    first = rows[(rows["model"] == rows["model"].iloc[0]) & (rows["dataset"] == rows["dataset"].iloc[0])]
    return tables.markdown(tables.wide(first, ["method"], COSTS, intervals=False))


# --- studies ---


def studies_block(studies: Iterable[Listed]) -> str:
    """A line for each study: the target of make, what it shows, and the paper whose table or figure it reproduces."""
    return "\n".join(f"- `{study.name}`: {study.title}{_of(paper_of(study.source))}" for study in studies)


def _of(paper: str) -> str:
    return f" ({paper})" if paper else ""


def paper_of(source: str) -> str:
    """The paper of a study's source; "" where the study asks more than that."""
    return next((paper for start, paper in PAPERS.items() if source.startswith(start)), "")


# --- the files ---


def published_records(folder: Path = PUBLISHED / SCALE) -> list[dict[str, Any]]:
    """The records of every published study, in the order of the report.

    Raises:
        UserError: nothing is published there, or by another version of the suite.
    """
    records = list(read_records(folder).values())
    if any("id" not in claim or "outcome" not in claim for record in records for claim in record["claims"]):
        raise UserError(f"{folder} was written by another version of the suite; make it again with `make publish`")
    return records


def claims_of(records: Iterable[findings.Record]) -> list[findings.Record]:
    return [claim for record in records for claim in record["claims"]]


def documents(published: Path, studies: Iterable[Listed]) -> dict[Path, dict[str, str]]:
    """File -> block -> what stands in it.

    Args:
        published: folder of the published scales.

    Raises:
        UserError: SCALE was not published by this version of the suite, or lacks a claim or study that is told of; no machine
            was measured beside captum.
    """
    scales = {SCALE: published_records(published / SCALE)}
    for scale in LARGER:
        with suppress(UserError):  # what was published by another version is not told of
            scales[scale] = published_records(published / scale)
    claims = claims_of(scales[SCALE])
    cost = published / SCALE / "cost.csv"
    if not cost.is_file():
        raise UserError(f"{cost} is not there; make it with `make publish`")
    return {
        README: {
            "findings": findings_block(claims),
            "peers": peers_block(published / "peers"),
            "run": run_block(scales[SCALE]),
            "studies": studies_block(studies),
        },
        DOCS / "methods.md": {
            "methods": methods_block(METHODS),
            "quality": told_block(claims, ON_METHODS),
            "cost": cost_block(pd.read_csv(cost)),
        },
        DOCS / "measured.md": {"measured": measured_block(scales)},
    }


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
    """Refresh README.md and the pages."""
    from reproduce.studies import STUDIES  # what exists, run or not; the functions above know result files only

    for path, blocks in documents(PUBLISHED, STUDIES.values()).items():
        path.write_text(refreshed(path.read_text(), blocks))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
