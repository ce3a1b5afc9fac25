"""When, where and with what numbers were measured, in words, from the span of their tasks' provenance."""

from collections.abc import Mapping, Sequence
from typing import Any

from reproduce import provenance

Span = Mapping[str, Any]  # as reproduce.provenance.span makes it; empty where nothing was measured


def whole_span(records: Sequence[Mapping[str, Any]]) -> Span:
    """The span of everything that the studies' records were measured from."""
    own = ("task", "key", "seconds")
    stamps = [task for record in records for task in record["tasks"]]
    return provenance.span([{name: value for name, value in stamp.items() if name not in own} for stamp in stamps])


def dates(span: Span) -> str:
    """First and last, UTC."""
    first, last = (span[side][:16].replace("T", " ") for side in ("first", "last"))
    if first == last:
        return f"{first} UTC"
    return f"{first} to {last[11:] if first[:10] == last[:10] else last} UTC"


def commits(found: Sequence[str | None], *, dirty: bool | None) -> str:
    """Short hashes, and whether files differed from them."""
    names = ", ".join((commit or "unknown")[:12] for commit in found)
    return f"{names} with local changes" if dirty else names


def hardware(span: Span) -> str:
    threads = _several(span["threads"])
    return f"{'; '.join(map(str, span['hardware']))}, {threads} thread{'' if span['threads'] == [1] else 's'}"


def versions(span: Span) -> str:
    """Python's and the packages'; several where they changed between two measurements."""
    names = dict.fromkeys(name for packages in span["packages"] for name in packages)
    of_packages = (f"{name} {_several([p[name] for p in span['packages'] if name in p])}" for name in names)
    return ", ".join([f"Python {_several(span['python'])}", *of_packages])


def sentence(span: Span) -> str:
    """All of it; "" where nothing was measured."""
    if not span:
        return ""
    many = "s" if len(span["commit"]) > 1 else ""
    return (
        f"Measured {dates(span)} at commit{many} {commits(span['commit'], dirty=span['dirty'])}: {hardware(span)}, "
        f"{_several(span['dtype'])}, seed {_several(span['seed'])}, {versions(span)}."
    )


def _several(values: Sequence[object]) -> str:
    return " or ".join(str(value) for value in dict.fromkeys(values))
