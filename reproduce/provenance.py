"""What produced a number: commit, versions, hardware, threads, seed."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "torchvision", "captum", "numpy", "scipy")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@lru_cache(maxsize=1)
def commit() -> dict[str, Any]:
    """The code's commit, and whether files differ from it; None where git cannot say."""
    head = _git("rev-parse", "HEAD")
    # Results are rewritten by every run: they do not make a commit dirty.
    changed = _git("status", "--porcelain", "--", ".", ":(exclude)results")
    return {"commit": head, "dirty": bool(changed) if changed is not None else None}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def provenance(*, device: torch.device, threads: int, seed: int) -> dict[str, Any]:
    """JSON for a result file; dates are UTC."""
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu()
    return commit() | {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "device": device.type,
        "hardware": hardware,
        "cores": os.cpu_count(),
        "threads": threads,
        "dtype": "float32",
        "tf32": torch.backends.cudnn.allow_tf32 if device.type == "cuda" else False,
        "seed": seed,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
