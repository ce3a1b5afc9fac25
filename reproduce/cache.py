"""The result cache: each finished task's value and provenance in a file named by the task's key.

A file is written under a temporary name, flushed, and renamed: what lies under a task's name is whole. Killing the process
at any moment loses the running task and nothing else; the same command goes on from there.
"""

import fcntl
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from reproduce.errors import UserError
from reproduce.files import save_atomically
from reproduce.tasks import About, Provenance, Result, Task, Value, converter

AnyTask = Task[Any, Any]


class ResultCache:
    """The folder of finished tasks.

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
            raise UserError(f"cannot keep finished tasks in {self.folder}: {error.strerror}") from error

    def path(self, task: AnyTask) -> Path:
        return self.folder / f"{task.digest}.pt"

    def has(self, task: AnyTask) -> bool:
        return self.path(task).is_file()

    def read(self, task: Task[About, Value]) -> Result[About, Value] | None:
        """The finished result, or None. A file that does not read (a damaged disk) is put aside and counts as missing."""
        try:
            held: dict[str, Any] = torch.load(self.path(task), weights_only=True)
            value = converter.structure(held["value"], task.type)
        except FileNotFoundError:
            return None
        except Exception:  # a damaged archive fails in many ways; each means the same: compute it again
            self.path(task).rename(self.path(task).with_suffix(".damaged"))
            return None
        return Result(task.about, value, held["seconds"], held["provenance"])

    def write(self, task: Task[About, Value], result: Result[About, Value]) -> None:
        """Keep a result. Raises UserError where the folder cannot be written."""
        held = {
            "value": converter.unstructure(result.value),
            "seconds": result.seconds,
            "provenance": dict(result.provenance),
        }
        save_atomically(held, self.path(task))

    def get(
        self,
        task: Task[About, Value],
        compute: Callable[[Task[About, Value], list[Any]], Value],
        provenance: Callable[[], Provenance],
        *,
        force: bool = False,
    ) -> Result[About, Value]:
        """The task's result, from disk or computed now, what it needs first.

        Args:
            compute:    (task, values of its needs) -> value.
            provenance: asked when the value has just been measured.
            force:      compute it in any case.
        """
        result = None if force else self.read(task)
        if result is None:
            needed = [self.get(need, compute, provenance).value for need in task.needs]
            start = time.perf_counter()
            value = compute(task, needed)
            result = Result(task.about, value, time.perf_counter() - start, provenance())
            self.write(task, result)
        return result

    @contextmanager
    def claim(self, task: AnyTask, *, wait: bool = False) -> Iterator[bool]:
        """Keep other processes from computing ``task`` meanwhile; yields whether the claim is ours.

        The operating system drops the claim of a process that ends in any way, so a killed one leaves nothing behind. On a
        file system without locks two machines may compute one task twice: wasted, and still right.

        Args:
            wait: until the other process is done, or has ended, instead of giving up at once.
        """
        with self.path(task).with_suffix(".claim").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            try:
                yield True
            finally:
                self.path(task).with_suffix(".claim").unlink(missing_ok=True)
