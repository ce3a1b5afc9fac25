"""What produced a number, stamped when the number was measured: time, commit, hardware, threads, versions, seed."""

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from reproduce.paths import ROOT

PACKAGES = ("torch", "torchvision", "captum", "numpy", "scipy")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.rstrip()


@lru_cache(maxsize=1)
def commit() -> dict[str, Any]:
    """The code's commit when this process first asked, and whether files differed from it; None where git cannot say."""
    changed = changed_files()
    return {"commit": _git("rev-parse", "HEAD"), "dirty": None if changed is None else bool(changed)}


def changed_files() -> list[str] | None:
    """The files that differ from the commit, new ones among them; None where git cannot say.

    Published results are rewritten while they are made, so they do not count.
    """
    status = _git("status", "--porcelain", "--", ".", ":(exclude)results/published")
    return None if status is None else [line[3:] for line in status.splitlines()]


@lru_cache(maxsize=1)
def cpu() -> str:
    """The name of this machine's CPU, as the system gives it; several kinds may share one."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


@lru_cache(maxsize=1)
def _packages() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


def stamp(*, device: torch.device, threads: int, seed: int) -> dict[str, Any]:
    """The provenance of a number that has just been measured, as JSON; dates are UTC."""
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu()
    return commit() | {
        "python": platform.python_version(),
        "packages": _packages(),
        "device": device.type,
        "hardware": hardware,
        "cores": os.cpu_count(),
        "threads": threads,
        "dtype": "float32",
        "tf32": torch.backends.cudnn.allow_tf32 if device.type == "cuda" else False,
        "seed": seed,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def span(stamps: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What several stamps have in common: each field's different values, and the first and the last date.

    Returns:
        ``dirty``: true where any of the numbers was measured on a tree that differed from its commit; ``first``, ``last``:
        dates; every other field: the list of its different values.
    """
    if not stamps:
        return {}
    dates = sorted(stamp["date"] for stamp in stamps)
    out: dict[str, Any] = {"first": dates[0], "last": dates[-1], "dirty": any(stamp["dirty"] for stamp in stamps)}
    for name in stamps[0].keys() - {"date", "dirty"}:
        out[name] = []
        for stamp in stamps:
            if stamp[name] not in out[name]:
                out[name].append(stamp[name])
    return dict(sorted(out.items()))
