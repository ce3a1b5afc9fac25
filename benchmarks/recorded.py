"""Baselines of the regression check, as JSON: passes and peak bytes that hold on every CPU, and ratios of each CPU."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import cattrs

from reproduce.errors import UserError
from reproduce.paths import ROOT


@dataclass(frozen=True)
class Timed:
    """A case on one CPU: its ratio in each measurement, and the fewest seconds, which nothing is compared with."""

    ratios: list[float]
    seconds_for_the_record: float


@dataclass(frozen=True)
class Recorded:
    """What a file of baselines holds.

    Attributes:
        threads, rounds: of the measurements, for the record.
        cases: case -> its passes and peak bytes on every CPU; empty in the file of first runs.
        machines: CPU, by the name that provenance gives it -> case -> its times.
    """

    threads: int
    rounds: int
    cases: dict[str, dict[str, int]]
    machines: dict[str, dict[str, Timed]]

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def read(path: Path, way_out: str) -> Recorded:
    """The baselines in an existing file.

    Args:
        way_out: what to do about a file that cannot be used, for the message.

    Raises:
        UserError: the file is damaged, or was written before baselines were kept per CPU.
    """
    try:
        return cattrs.structure(json.loads(path.read_text()), Recorded)
    except (ValueError, cattrs.BaseValidationError) as error:
        raise UserError(f"{shown(path)} is damaged, or from before baselines were kept per CPU; {way_out}") from error


def shown(path: Path) -> str:
    """A path as a person in the checkout would type it."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
