"""Cells: the pieces that a study is computed in, each kept on disk under a key of everything that decides its value.

A cell is written to a temporary file, flushed, and renamed: what is on disk under a cell's name is whole. Killing the
process at any moment loses the running cell and nothing else; running again goes on from there.
"""

import fcntl
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from reproduce.errors import UserError

Value = dict[
    str, Any
]  # tensors, numbers, strings, and lists and dicts of them: what torch.load(weights_only=True) reads
Tick = Callable[[float], None]  # a running cell reports the share of its work that is done, 0..1


@dataclass(frozen=True, eq=False)
class Cell:
    """One piece of work.

    Attributes:
        name: what the progress line says.
        key: JSON: protocol constants, data, model, seed, version; with the keys of ``needs`` it decides the value.
        compute: ``compute(tick, *values_of_needs) -> Value``.
        needs: cells whose values it is computed from.
        seconds: a guess on 2 cores; only the progress bar's time estimate uses it.
        images: that its time grows with; 0 where it does not grow so. Only estimates use it.
    """

    name: str
    key: Mapping[str, Any]
    compute: Callable[..., Value]
    needs: tuple["Cell", ...] = ()
    seconds: float = 5.0
    images: int = 0

    @cached_property
    def digest(self) -> str:
        """Hash of the key and of the needs' digests: the cell's file name."""
        text = json.dumps([dict(self.key), [cell.digest for cell in self.needs]], sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def closure(self) -> list["Cell"]:
        """This cell and all that it needs, needs first, each once."""
        return [*pieces(self.needs), self]


def pieces(cells: Iterable[Cell]) -> list[Cell]:
    """These cells and all that they need, needs first, each once."""
    return list({piece.digest: piece for cell in cells for piece in cell.closure()}.values())


def join(tick: Tick, *parts: Value) -> Value:
    """The values of consecutive parts as the value of the whole: lists and tensors one after the other, ``seconds`` summed.

    Raises:
        TypeError: a number or other thing that cannot be put together so.
    """
    return {name: _join(name, [part[name] for part in parts]) for name in parts[0]}


def _join(name: str, values: list[Any]) -> Any:
    first = values[0]
    if name == "seconds":
        return sum(values)
    if name == "net" and all(value == first for value in values):
        return first
    if isinstance(first, dict):
        return {key: _join(key, [value[key] for value in values]) for key in first}
    if isinstance(first, list):
        return [item for value in values for item in value]
    if isinstance(first, torch.Tensor) and first.ndim:
        return torch.cat(values)
    raise TypeError(f"parts cannot be joined: {name} is a {type(first).__name__}, not a list or tensor over images")


class Cells:
    """The folder of finished cells.

    Args:
        folder:      where they lie; made on first use.
        environment: what decides every value besides the keys, e.g. torch's version and the kind of device.

    Raises:
        UserError: the folder cannot be written.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        tag = hashlib.sha256(json.dumps(dict(environment), sort_keys=True).encode()).hexdigest()[:8]
        self.folder = folder / tag
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot keep finished cells in {self.folder}: {error.strerror}") from error

    def path(self, cell: Cell) -> Path:
        return self.folder / f"{cell.digest}.pt"

    def has(self, cell: Cell) -> bool:
        return self.path(cell).is_file()

    def read(self, cell: Cell) -> Value | None:
        """The finished value, or None. A file that does not read (a damaged disk) is put aside and counts as missing."""
        try:
            value: Value = torch.load(self.path(cell), weights_only=True)
        except FileNotFoundError:
            return None
        except Exception:  # a damaged archive fails in many ways; each means the same: compute it again
            self.path(cell).rename(self.path(cell).with_suffix(".damaged"))
            return None
        return value

    def write(self, cell: Cell, value: Value) -> None:
        with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".tmp", delete=False) as file:
            try:
                torch.save(value, file)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(self.path(cell))
            except BaseException as error:
                Path(file.name).unlink(missing_ok=True)
                if isinstance(error, OSError):
                    raise UserError(f"cannot write to {self.folder}: {error.strerror}") from error
                raise

    @contextmanager
    def claim(self, cell: Cell, *, wait: bool = False) -> Iterator[bool]:
        """Keep other processes from computing ``cell`` meanwhile; yields whether the claim is ours.

        The operating system drops the claim of a process that ends in any way, so a killed one leaves nothing behind. On a
        file system without locks (some network ones) two machines may compute one cell twice: wasted, and still right.

        Args:
            wait: until the other process is done, or has ended, instead of giving up at once.
        """
        with self.path(cell).with_suffix(".claim").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            try:
                yield True
            finally:
                self.path(cell).with_suffix(".claim").unlink(missing_ok=True)

    def get(self, cell: Cell, tick: Tick = lambda share: None, *, force: bool = False) -> Value:
        """The cell's value, from disk or computed now, its needs first; ``seconds`` is what computing it took."""
        value = None if force else self.read(cell)
        if value is None:
            needed = [self.get(need) for need in cell.needs]
            start = time.perf_counter()
            value = cell.compute(tick, *needed)
            value.setdefault("seconds", time.perf_counter() - start)  # a joined cell has the sum of its parts'
            self.write(cell, value)
        return value
