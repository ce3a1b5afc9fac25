"""The report as one HTML file that opens anywhere and asks the network for nothing: what it shows is inlined."""

import base64
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

from reproduce.claims import Kind, Outcome
from reproduce.errors import UserError
from reproduce.report import findings, measuring, tables

HERE = Path(__file__).parent
INLINE_BYTES = 400_000  # a CSV above this is linked, not inlined: a page has to stay below 8 MB
PHOTO_BYTES = 300_000  # a picture above this is stored lossily
LOOKS = {  # outcome -> its class, which page.css gives a colour and a sign
    Outcome.REPRODUCED: "good",
    Outcome.NOT_REPRODUCED: "bad",
    Outcome.INCONCLUSIVE: "open",
    Outcome.NOT_RUN: "absent",
}
SAYS = {True: ("good", "supports it"), False: ("bad", "refutes it"), None: ("open", "leaves it open")}


@dataclass(frozen=True)
class Paper:
    """Who wrote it, and its number on arXiv."""

    who: str
    arxiv: str

    @property
    def link(self) -> str:
        return f"https://arxiv.org/abs/{self.arxiv}"


PAPERS = {  # the words that a source names it by
    "X-DNN": Paper(
        "Hesse, Schaub-Meyer, Roth: Fast Axiomatic Attribution for Neural Networks, NeurIPS 2021", "2111.07668"
    ),
    "IG paper": Paper("Sundararajan, Taly, Yan: Axiomatic Attribution for Deep Networks, ICML 2017", "1703.01365"),
    "MFABA": Paper(
        "Zhu et al.: MFABA: A More Faithful and Accelerated Boundary-based Attribution Method, AAAI 2024", "2312.13630"
    ),
    "Erion et al.": Paper(
        "Erion et al.: Improving performance of deep learning models with axiomatic attribution priors and expected "
        "gradients, Nature Machine Intelligence 2021",
        "1906.10670",
    ),
}
_NAMED = re.compile(rf"\b({'|'.join(re.escape(name) for name in PAPERS)})(?!\w)")


def html(results: Path, records: Sequence[Mapping[str, Any]]) -> str:
    """The page of a folder of results, from the studies' JSON records."""
    claims = [claim for record in records for claim in record["claims"]]
    criteria = {record["criteria"]["commit"]: record["criteria"]["dirty"] for record in records}
    seconds = {task["key"]: task["seconds"] for record in records for task in record["tasks"]}  # studies share tasks
    return (
        environment()
        .get_template("template.html")
        .render(
            scale=results.name,
            about=records[0]["about"] if records else "",
            estimates=all(record["estimates_paper"] for record in records),
            outcomes=[(str(outcome), LOOKS[outcome]) for outcome in Outcome],
            totals=Counter(claim["outcome"] for claim in claims),
            claims=len(claims),
            kinds=_kinds(claims),
            broken=[c for c in claims if (c["kind"], c["outcome"]) == (Kind.THEOREM, Outcome.NOT_REPRODUCED)],
            papers=PAPERS,
            studies=[_study(results, record) for record in records],
            span=measuring.whole_span(records),
            criteria=measuring.commits(list(criteria), dirty=any(criteria.values())),
            minutes=sum(seconds.values()) / 60,
        )
    )


@lru_cache(maxsize=1)
def environment() -> Environment:
    """What pages are made with: our templates, and what they may call."""
    found = Environment(
        loader=FileSystemLoader(HERE), undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    found.globals |= {
        "inline": lambda name: Markup((HERE / name).read_text(encoding="utf-8")),  # noqa: S704 - our own css and js
        "measuring": measuring,
        "linked": linked,
    }
    return found


def linked(source: str) -> Markup:
    """A source with each paper that it names linked to its page on arXiv."""
    parts = [
        Markup('<a href="{}">{}</a>').format(PAPERS[part].link, part) if part in PAPERS else escape(part)
        for part in _NAMED.split(source)
    ]
    return Markup("").join(parts)


# --- claims ---


def _kinds(claims: Sequence[findings.Record]) -> list[dict[str, Any]]:
    """The kinds of claims that there are, each with its counts and its claims, what does not hold first."""
    counts = findings.counts(claims)
    return [
        {
            "name": findings.KIND_NAMES[kind],
            "meaning": findings.KIND_MEANING[kind],
            "counts": {str(outcome): counts[kind][outcome] for outcome in Outcome},
            "claims": [_claim(claim) for claim in findings.ordered(claims, kind)],
        }
        for kind in findings.KINDS
        if counts[kind].total()
    ]


def _claim(claim: findings.Record) -> dict[str, Any]:
    """A claim in words, and its evidence line by line."""
    names = findings.row_names(claim["evidence"])
    return dict(claim) | {
        "look": LOOKS[Outcome(claim["outcome"])],
        "measured": findings.measured(claim),
        "allowed": findings.allowed(claim),
        "units": findings.units(claim),
        "verdict": findings.verdict(claim),
        "rows": [_evidence(name, row) for name, row in zip(names, claim["evidence"], strict=True)],
    }


def _evidence(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    entry = findings.entry(row)
    look, says = SAYS[row["says"]]
    return {
        "name": name,
        "value": tables.number(entry.value),
        "interval": tables.interval(entry),
        "unit": row.get("unit", ""),
        "n": entry.n,
        "trainings": entry.trainings,
        "look": look,
        "says": says,
    }


# --- studies ---


def _study(results: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    path = results / record["study"]
    figure = path.with_suffix(".png")
    table = tables.from_record(record["table"])
    return dict(record) | {
        "claims": [_claim(claim) for claim in record["claims"]],
        "table": in_words(table) if len(table) else None,
        "figure": picture(figure) if figure.is_file() and ".png" in record["files"] else "",
        "downloads": [
            (suffix[1:].upper(), f"{record['study']}{suffix}", address(path.with_suffix(suffix), kind))
            for suffix, kind in ((".csv", "text/csv"), (".tex", "text/x-tex"))
            if path.with_suffix(suffix).is_file()
        ],
        "command": f"make {record['study']}" + ("" if record["scale"] == "embedded" else f" SCALE={record['scale']}"),
    }


def in_words(table: tables.Table) -> dict[str, Any]:
    """A table in words, each entry with the number that it is sorted by, and whether it is the best."""
    marks = tables.best(table)
    lines = []
    for i, line in enumerate(table.lines):
        entries = [_entry(entry, table.intervals, best=(i, j) in marks) for j, entry in enumerate(line.entries)]
        lines.append({"ids": tables.labels(table, line), "entries": entries})
    return {
        "ids": [name.replace("_", " ") for name in table.ids],
        "columns": table.columns,
        "lines": lines,
        "marked": bool(marks),
        "legend": tables.legend(table),
    }


def _entry(entry: tables.Entry, intervals: bool, *, best: bool) -> dict[str, Any]:
    if not isinstance(entry, tables.Number):
        return {"value": entry or "", "interval": "", "key": "", "title": "", "best": False}
    of_trainings = f", {entry.trainings} trainings" if entry.trainings > 1 else ""
    return {
        "value": tables.words(entry, intervals=False),
        "interval": tables.interval(entry) if intervals else "",
        "key": repr(entry.value),
        "title": f"n = {entry.n}{of_trainings}" if entry.n else "",
        "best": best,
    }


def picture(path: Path) -> str:
    """A PNG as a data address: as WebP, which is smaller; lossless unless that is above PHOTO_BYTES.

    Raises:
        UserError: it is no picture.
    """
    try:
        image = Image.open(path).convert("RGB")
    except OSError as error:
        raise UserError(
            f"{path} cannot be read as a picture ({error}); make it again with `make {path.stem}`"
        ) from error
    for options in ({"lossless": True}, {"quality": 88}):
        file = io.BytesIO()
        image.save(file, "WEBP", **options)
        if file.tell() <= PHOTO_BYTES:
            break
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def address(path: Path, kind: str) -> str:
    """The file as a data address; its name, relative to the page, where it is large."""
    if path.stat().st_size > INLINE_BYTES:
        return path.name
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
