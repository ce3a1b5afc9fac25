"""What was found about each claim, as JSON with its numbers, and the words that people read: made last, from those numbers."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from reproduce.claims import Finding, Kind, Outcome
from reproduce.report import style, tables
from reproduce.report.tables import Number, number, plain, words

Record = Mapping[str, Any]  # of one claim, as ``record`` makes it

KINDS = (Kind.EMPIRICAL, Kind.SPEED, Kind.THEOREM)  # in the order that people read them
KIND_NAMES = {
    Kind.EMPIRICAL: "Empirical findings",
    Kind.SPEED: "Speed on this machine",
    Kind.THEOREM: "Theorems",
}
KIND_MEANING = {
    Kind.EMPIRICAL: "One that is not reproduced does not carry over to these nets and data.",
    Kind.SPEED: "Ratios of times measured in one run on this machine.",
    Kind.THEOREM: "One that is not reproduced fails by rounding, at a point where a map jumps, or the code is broken.",
}
OUTCOMES = (Outcome.NOT_REPRODUCED, Outcome.INCONCLUSIVE, Outcome.REPRODUCED, Outcome.NOT_RUN)

# Columns of evidence that are no ids.
_NUMBERS = ("value", "low", "high", "n", "trainings", "spread", "reported", "sem")
_WORDS = ("unit", "better", "reason", "says", "training", "weights", "width", "p_t", "p_wilcoxon")
FEW = 3  # so many rows of evidence are named one by one


# --- JSON ---


def record(study: str, finding: Finding, missing: Sequence[str] = ()) -> dict[str, Any]:
    """A finding as JSON.

    Args:
        missing: what the study needs at this scale and is not there: why a claim was not run.
    """
    claim, criterion = finding.claim, finding.claim.criterion
    reason = "; ".join(missing) if finding.outcome is Outcome.NOT_RUN and missing else finding.reason
    rows = finding.evidence.drop(columns="training", errors="ignore").to_dict("records")
    return {
        "id": f"{study}/{claim.id}",
        "study": study,
        "kind": str(claim.kind),
        "text": claim.text,
        "source": claim.source,
        "reported": claim.reported,
        "effect": claim.effect,
        "metric": claim.metric,
        "criterion": {
            "low": _finite(criterion.low),
            "high": _finite(criterion.high),
            "margin": criterion.margin,
            "smallest": criterion.smallest,
        },
        "every": claim.every,
        "n_chosen": claim.n_chosen,
        "outcome": str(finding.outcome),
        "reason": reason,
        "evidence": [_evidence(row) | {"says": says} for row, says in zip(rows, finding.says, strict=True)],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _evidence(row: Mapping[Any, Any]) -> dict[str, Any]:
    found = {str(name): plain(value) for name, value in row.items()}
    return {name: value for name, value in found.items() if value not in (None, "")}


def counts(claims: Sequence[Record]) -> dict[Kind, Counter[Outcome]]:
    """How many claims of each kind have which outcome."""
    return {
        kind: Counter(Outcome(claim["outcome"]) for claim in claims if claim["kind"] == str(kind)) for kind in KINDS
    }


def ordered(claims: Sequence[Record], kind: Kind) -> list[Record]:
    """The claims of a kind, what does not hold first, else as the studies have them."""
    own = [claim for claim in claims if claim["kind"] == str(kind)]
    return sorted(own, key=lambda claim: OUTCOMES.index(Outcome(claim["outcome"])))


# --- words ---


def measured(claim: Record) -> str:
    """What was measured of a claim: each row of its evidence, or their range and the one that is nearest to the limit."""
    evidence = claim["evidence"]
    if not evidence:
        return ""
    names = row_names(evidence)
    if len(evidence) <= FEW:
        return "; ".join(f"{name} {_value(row)}".strip() for name, row in zip(names, evidence, strict=True))
    nets = len({tuple(row.get(name) for name in ("dataset", "model", "variant")) for row in evidence})
    over = f"over {nets} nets" if nets == len(evidence) else f"in {len(evidence)} comparisons on {nets} nets"
    if nets == 1:
        over = f"in {len(evidence)} comparisons"
    support = sum(row["says"] is True for row in evidence)
    parts = [f"{_range(evidence)} {over}".strip()]
    if support < len(evidence):
        parts.append(f"{support} of {len(evidence)} support it")
    place = nearest(claim)
    if place is not None:
        parts.append(
            f"{'nearest to the limit' if claim['every'] else 'best'}: {names[place]} {_value(evidence[place])}"
        )
    return "; ".join(parts)


def _range(evidence: Sequence[Mapping[str, Any]]) -> str:
    """From the smallest value to the largest; "" where they are not of one kind."""
    if len({(row.get("metric"), row.get("unit")) for row in evidence}) > 1:
        return ""
    values = [float(row["value"]) for row in evidence if "value" in row]
    return f"{number(min(values))} to {_with_unit(number(max(values)), evidence[0])}" if values else ""


def nearest(claim: Record) -> int | None:
    """The row that is nearest to the criterion's limit, or furthest outside of it; where one is enough, the best one.

    None where the rows' units differ, so that they cannot be ordered.
    """
    evidence = claim["evidence"]
    if len({row.get("unit") for row in evidence}) > 1:
        return None
    low, high = (claim["criterion"][side] for side in ("low", "high"))
    slack = []
    for row in evidence:
        value = float(row.get("value", math.nan))
        ends = [float(row.get("low", value)) - low] if low is not None else []
        ends += [high - float(row.get("high", value))] if high is not None else []
        least = min(ends, default=0.0)
        slack.append(-math.inf if math.isnan(least) else least)
    return (min if claim["every"] else max)(range(len(evidence)), key=slack.__getitem__)


def row_names(evidence: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each row by its net and what else tells it from the others."""
    ids = [name for name in dict.fromkeys(key for row in evidence for key in row) if name not in _NUMBERS + _WORDS]
    varying = [name for name in ids if len({row.get(name) for row in evidence}) > 1]
    return [" ".join(filter(None, [_net(row), *(_id(n, row) for n in varying)])) for row in evidence]


def _net(row: Mapping[str, Any]) -> str:
    """The net's name, or the data set's where there is no net."""
    if "model" in row and "dataset" in row:
        return style.net(row["model"], row["dataset"])
    name = "model" if "model" in row else "dataset"
    return style.text(name, row.get(name))


def _id(column: str, row: Mapping[str, Any]) -> str:
    """An id in words; a number says of what."""
    value = row.get(column)
    if value is None or column in ("model", "dataset"):
        return ""
    if isinstance(value, bool):
        return column if value else f"not {column}"
    if column in ("against", "versus"):
        *before, name = str(value).split()
        return " ".join(["against", *before, style.method(name).label])
    text = style.text(column, value)
    return f"{column} {text}" if isinstance(value, int | float) else text


def _value(row: Mapping[str, Any]) -> str:
    return _with_unit(words(entry(row)), row) if "value" in row else "not measured"


def _with_unit(text: str, row: Mapping[str, Any]) -> str:
    return f"{text} {row['unit']}" if row.get("unit") else text


def entry(row: Mapping[str, Any]) -> Number:
    """A row of evidence as a table has it."""
    return tables.measured(row)


def units(claim: Record) -> str:
    """How many units stand behind the numbers, e.g. "1000" or "5 to 80"; "" where nothing was measured."""
    found = sorted({int(row["n"]) for row in claim["evidence"] if "n" in row})
    if not found:
        return ""
    return str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"


def allowed(claim: Record) -> str:
    """The criterion in words."""
    low, high, smallest = (claim["criterion"][name] for name in ("low", "high", "smallest"))
    units = {row.get("unit", "") for row in claim["evidence"]}
    unit = f" {units.pop()}" if len(units) == 1 and units != {""} else ""
    if low is None:
        text = f"at most {high:g}{unit}"
    elif high is None:
        text = f"at least {low:g}{unit}" if low else "above 0"
    else:
        text = f"{low:g} to {high:g}{unit}"
    if smallest:
        text += f"; less than {smallest:g}{unit} with certainty refutes it"
    return f"{style.text('metric', claim['metric'])} {text}, in {'every row' if claim['every'] else 'one row'}"


def verdict(claim: Record) -> str:
    """One sentence: what was found, or why nothing was."""
    outcome, found = Outcome(claim["outcome"]), measured(claim)
    if outcome is Outcome.NOT_RUN:
        return f"Not run: {claim['reason']}."
    start = {
        Outcome.REPRODUCED: "Holds",
        Outcome.NOT_REPRODUCED: "Does not hold here",
        Outcome.INCONCLUSIVE: f"Left open ({claim['reason']})",
    }[outcome]
    return f"{start}: {found}."
