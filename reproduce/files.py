"""Files that are whole or not there."""

import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from reproduce.errors import UserError


def save_atomically(value: Any, path: Path) -> None:
    """``torch.save`` under a temporary name beside ``path``, flushed to the disk, then renamed.

    Killing the process at any moment leaves what was there before, and at most a file that ends in .tmp.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            try:
                torch.save(value, file)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise UserError(f"cannot write to {path.parent}: {error.strerror}") from error
