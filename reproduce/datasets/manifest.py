"""The manifest: which files can be fetched, from where, with what hash; and which only the user can get."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from reproduce.errors import UserError
from reproduce.paths import DATA

MANIFEST = DATA / "manifest.toml"


@dataclass(frozen=True)
class Remote:
    """One file that can be fetched.

    Attributes:
        name: its path below the data folder.
        hash: algorithm:digest as its publisher gives it, or "lock" where none is given.
        archives: mirrors may offer it inside one of these tars.
        instead_of: a mirror's copy that makes the file of this name unnecessary.
    """

    name: str
    urls: tuple[str, ...]
    hash: str
    licence: str
    bytes: int | None = None
    scales: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()
    instead_of: str = ""


@dataclass(frozen=True)
class Manual:
    """What only the user can get, after agreeing to its terms."""

    name: str
    files: tuple[str, ...]
    where: str
    licence: str
    scales: tuple[str, ...] = ()


@lru_cache(maxsize=4)
def manifest(path: Path = MANIFEST) -> tuple[dict[str, Remote], dict[str, Manual]]:
    """The files that can be fetched and those that only the user can get, by name.

    Raises:
        UserError: no manifest there, or a name that would leave the data folder.
    """
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise UserError(f"cannot read the list of files {path}: {error.strerror}; run from a checkout") from error
    files = [Remote(**_tuples(entry)) for entry in table.get("file", [])]
    for entry in table.get("list", []):
        files += _listed(entry, path.parent)
    for file in files:
        if PurePosixPath(file.name).is_absolute() or ".." in PurePosixPath(file.name).parts:
            raise UserError(f"{path}: {file.name!r} would leave the data folder")
    return {file.name: file for file in files}, {m["name"]: Manual(**_tuples(m)) for m in table.get("manual", [])}


def _listed(entry: dict[str, Any], folder: Path) -> Iterator[Remote]:
    """The files of a data set whose names, sizes and hashes stand in a table of their own."""
    for row in pd.read_csv(folder / entry["list"]).to_dict("records"):
        yield Remote(
            name=f"{entry['name']}/{row['file']}",
            urls=(f"{entry['base']}{row['file']}",),
            hash=f"sha256:{row['sha256']}",
            licence=entry["licence"],
            bytes=int(row["bytes"]),
            scales=tuple(entry["scales"]),
            archives=tuple(entry["archives"]),
        )


def _tuples(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
