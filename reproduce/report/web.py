"""The report as one HTML file that opens anywhere and asks the network for nothing: what it shows is inlined."""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from reproduce.errors import UserError

HERE = Path(__file__).parent
INLINE_BYTES = 400_000  # a CSV above this is linked, not inlined: a page has to stay below 8 MB
PHOTO_BYTES = 300_000  # a picture above this is stored lossily
PAPERS = {  # word in a claim's source -> who wrote it
    "X-DNN": "Hesse, Schaub-Meyer, Roth: Fast Axiomatic Attribution for Neural Networks, NeurIPS 2021",
    "IG": "Sundararajan, Taly, Yan: Axiomatic Attribution for Deep Networks, ICML 2017",
    "MFABA": "Zhu et al.: MFABA: A More Faithful and Accelerated Boundary-based Attribution Method, AAAI 2024",
    "Erion": "Erion et al.: attribution priors and Expected Gradients, Nature Machine Intelligence 2021",
}
OTHER = "Beyond the papers"
VERDICTS = {"reproduced": "good", "not reproduced": "bad", "not run": "open"}
WHY = {"reproduced": "Holds: measured", "not reproduced": "Does not hold here: measured", "not run": "Not run:"}
ENTRY = re.compile(r"^(?P<value>\S+) \[(?P<low>\S+), (?P<high>\S+)\]$")


def html(results: Path, records: Sequence[Mapping[str, Any]]) -> str:
    """The page of a folder of results, from the studies' JSON records."""
    claims = [_claim(claim) for record in records for claim in record["claims"]]
    page = _environment().get_template("template.html")
    return page.render(
        scale=results.name,
        about=records[0].get("about", "") if records else "",
        estimates=all(record.get("estimates_paper", False) for record in records),
        counts={verdict: sum(claim["word"] == verdict for claim in claims) for verdict in VERDICTS},
        papers=by_paper(claims),
        studies=[_study(results, record) for record in records],
    )


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE), undefined=StrictUndefined, autoescape=True, trim_blocks=True
    )
    environment.globals["inline"] = lambda name: Markup((HERE / name).read_text())  # noqa: S704 - our own css and js
    return environment


def _claim(claim: Mapping[str, str]) -> dict[str, str]:
    """A claim with its verdict as a word, a class to colour it by, and one sentence why."""
    word, _, reason = claim["verdict"].partition(": ")
    return dict(claim) | {"word": word, "look": VERDICTS[word], "why": f"{WHY[word]} {claim['measured'] or reason}."}


def paper(source: str) -> str:
    """The key of PAPERS that a source names first; OTHER where it names none."""
    found = {match.start(): key for key in PAPERS if (match := re.search(rf"\b{re.escape(key)}\b", source))}
    return found[min(found)] if found else OTHER


def by_paper(claims: Sequence[dict[str, str]]) -> list[dict[str, Any]]:
    """Claims grouped by paper, in the order of PAPERS; papers without a claim are left out."""
    out = []
    for key in (*PAPERS, OTHER):
        own = [claim for claim in claims if paper(claim["source"]) == key]
        if own:
            held = sum(claim["word"] == "reproduced" for claim in own)
            out.append({"key": key, "who": PAPERS.get(key, ""), "claims": own, "held": held})
    return out


def _study(results: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    stem = results / record["study"]
    figure = stem.with_suffix(".png")
    return dict(record) | {
        "claims": [_claim(claim) for claim in record["claims"]],
        "slides": record.get("slides", []),
        "table": _table(record["table"]) if record.get("table", {}).get("rows") else None,
        "figure": picture(figure) if figure.is_file() and ".png" in record["files"] else "",
        "downloads": [
            (suffix[1:].upper(), f"{record['study']}{suffix}", address(stem.with_suffix(suffix), kind))
            for suffix, kind in ((".csv", "text/csv"), (".tex", "text/x-tex"))
            if stem.with_suffix(suffix).is_file()
        ],
        "command": f"make {record['study']}" + ("" if record["scale"] == "embedded" else f" SCALE={record['scale']}"),
    }  # fmt: skip


def _table(table: Mapping[str, Any]) -> dict[str, Any]:
    """Columns with their better direction, and rows of (value, interval, is it the best?)."""
    marks = best(table)
    rows = []
    for i, line in enumerate(table["rows"]):
        parts = [ENTRY.match(text) for text in line]
        rows.append(
            [
                {"value": m["value"], "interval": f"[{m['low']}, {m['high']}]", "best": (i, j) in marks}
                if m else {"value": text, "interval": "", "best": False}
                for j, (text, m) in enumerate(zip(line, parts, strict=True))
            ]
        )  # fmt: skip
    columns = [{"name": name, "better": table["better"].get(name, "")} for name in table["columns"]]
    return {"columns": columns, "ids": table["ids"], "rows": rows, "marked": bool(marks)}


def best(table: Mapping[str, Any]) -> set[tuple[int, int]]:
    """(row, column) of the entries that are best beyond doubt: their interval lies apart from that of each rival.

    Rivals are the rows that differ in the last id only, e.g. the variants of one net on one data set. An entry without an
    interval is never marked, and stops the marking of its rivals.
    """
    groups: dict[tuple[str, ...], list[int]] = {}
    for i, line in enumerate(table["rows"]):
        groups.setdefault(tuple(line[: max(0, table["ids"] - 1)]), []).append(i)
    marks = set()
    for j, name in enumerate(table["columns"]):
        side = table["better"].get(name)
        for rivals in groups.values() if side in ("higher", "lower") else ():
            entries = {i: ENTRY.match(table["rows"][i][j]) for i in rivals if table["rows"][i][j]}
            bounds = {i: (float(m["low"]), float(m["high"])) for i, m in entries.items() if m}
            if len(bounds) < 2 or len(bounds) < len(entries):
                continue
            first = max(bounds, key=lambda i: bounds[i][0]) if side == "higher" else min(bounds, key=lambda i: bounds[i][1])  # fmt: skip
            low, high = bounds[first]
            others = [bound for i, bound in bounds.items() if i != first]
            if all(low > other[1] if side == "higher" else high < other[0] for other in others):
                marks.add((first, j))
    return marks


def picture(path: Path) -> str:
    """A PNG as a data address: as WebP, which is smaller; lossless unless that is above PHOTO_BYTES."""
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
