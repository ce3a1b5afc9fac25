"""Tables of people: rows of features, what was asked and measured, and one yes-or-no outcome.

Gaps stay NaN: what is put in their place is fitted on the training rows of each repetition, so it is no part of the data.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from reproduce.datasets.fetch import Store
from reproduce.datasets.manifest import manifest
from reproduce.errors import UserError

LEAST_ROWS = 201  # 100 to train on, 100 to validate on, and somebody to test on


@dataclass(frozen=True, eq=False)
class Table:
    """A data set of rows.

    Attributes:
        features: (n, d) float32, NaN where nothing was recorded
        labels: (n,) int64, 0 or 1
        columns: d names
    """

    name: str
    features: np.ndarray
    labels: np.ndarray
    columns: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def fingerprint(self) -> str:
        """sha256 of labels and features: what provenance calls the data."""
        return hashlib.sha256(self.labels.tobytes() + np.ascontiguousarray(self.features).tobytes()).hexdigest()


@dataclass(frozen=True)
class TableSource:
    """A table's entry.

    Attributes:
        load: from the installed package, the verified files of the store, or made here.
        key: store -> what decides its content besides the code of ``load``, as JSON.
        about: what it is, for people.
        files: names in the manifest; () where nothing is fetched.
    """

    load: Callable[[Store], Table]
    key: Callable[[Store], Mapping[str, str]]
    about: str
    files: tuple[str, ...] = ()

    def missing(self, store: Store) -> str | None:
        """Why it cannot be read, with the way out; None where it can."""
        absent = [name for name in self.files if not store.has(manifest()[0][name])]
        scale = manifest()[0][absent[0]].scales[0] if absent else ""
        return f"needs {', '.join(absent)} (make data SCALE={scale})" if absent else None


def checked(name: str, features: pd.DataFrame, labels: np.ndarray) -> Table:
    """A Table, refused where it cannot be split into training, validation and test rows with both outcomes.

    Raises:
        UserError: rows and labels do not match, too few rows, one outcome only, a column that is not numbers.
    """
    if len(features) != len(labels):
        raise UserError(f"{name}: {len(features)} rows of features and {len(labels)} labels; fetch both files again")
    if len(labels) < LEAST_ROWS:
        raise UserError(
            f"{name}: {len(labels)} rows; the split of the paper (100, 100, rest) needs at least {LEAST_ROWS}"
        )
    found = np.unique(labels)
    if found.tolist() != [0, 1]:
        raise UserError(
            f"{name}: the labels are {found.tolist()}; ROC-AUC needs both outcomes, 0 and 1, and nothing else"
        )
    words = [column for column in features if not pd.api.types.is_numeric_dtype(features[column])]
    if words:
        raise UserError(
            f"{name}: column {words[0]!r} is not numbers; the file is not the published one, fetch it again"
        )
    values = features.to_numpy(dtype=np.float32)
    return Table(name, values, labels.astype(np.int64), tuple(map(str, features.columns)))


def verified(path: Path, sha256: str) -> Path:
    """The path, after comparing the file's hash.

    Raises:
        UserError: the file is not there, or other bytes than the published ones (cut short, changed).
    """
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if found != sha256:
        raise UserError(
            f"{path} is not the published file: sha256 {found[:12]}..., expected {sha256[:12]}...; get it again"
        )
    return path
