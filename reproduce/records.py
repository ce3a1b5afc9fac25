"""What result files say: a study's record is its ``<study>.json``."""

import json
from pathlib import Path
from typing import Any

from reproduce.errors import UserError

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
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}); remove it and run the study again") from error
        if not isinstance(record, dict) or not isinstance(record.get("claims"), list):
            raise UserError(f"{path} is not the record of a study: it has no claims; remove it and run the study again")
        out[path.stem] = record
    if not out:
        raise UserError(f"no results in {folder}; `make reproduce-all` makes some")
    return dict(sorted(out.items(), key=lambda entry: entry[1].get("order", len(out))))
