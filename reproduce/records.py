"""What result files say: a study's record is its ``<study>.json``."""

import json
from pathlib import Path
from typing import Any

from reproduce.errors import UserError

OF_A_CLAIM = ("id", "study", "text", "kind", "outcome")  # what every reader of results asks of one
ALL = "all"  # in the column ``training`` of rows: over all trainings together, which tables and claims use


def read_records(folder: Path) -> dict[str, dict[str, Any]]:
    """Study -> its record, in the order of the report.

    Raises:
        UserError: no results there, or a file that is not a study's record.
    """
    out = {}
    for path in sorted(folder.glob("*.json")):
        try:
            record = json.loads(path.read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path} cannot be read ({error}); remove it and run the study again") from error
        if reason := _no_record(record):
            raise UserError(f"{path} is not the record of a study: {reason}; remove it and run the study again")
        out[path.stem] = record
    if not out:
        raise UserError(f"no results in {folder}; `make reproduce-all` makes some")
    return dict(sorted(out.items(), key=lambda entry: entry[1].get("order", len(out))))


def _no_record(found: Any) -> str | None:
    """Why this is not the record of a study; None where it is one."""
    if not isinstance(found, dict) or not isinstance(found.get("claims"), list):
        return "it has no claims"
    if not isinstance(found.get("order", 0), int | float):
        return f"its order is {found['order']!r}, not a number"
    for claim in found["claims"]:
        missing = [name for name in OF_A_CLAIM if name not in claim] if isinstance(claim, dict) else [*OF_A_CLAIM]
        if missing:
            return f"one of its claims has no {', '.join(missing)}"
    return None
