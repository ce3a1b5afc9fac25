"""What a worker process does: it is set up once, and then computes one task at a time."""

import pickle
import signal
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from distributed import Worker, get_worker

from reproduce import plugins
from reproduce.peak_memory import peak_bytes
from reproduce.tasks import Result, Task
from xdnn.allocator import keep_freed_memory

if TYPE_CHECKING:
    from reproduce.context import Context

PROGRESS = "reproduce-progress"  # the topic of the events that workers send to the main process
SECONDS_BETWEEN_EVENTS = 0.5


def dask_setup(worker: Worker) -> None:
    """Called by Dask when the process starts: Ctrl-C is for the main process, which ends its workers itself.

    The profiler, which counts bytes for study ``cost``, complains unless it is first used in this thread.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    peak_bytes(lambda: None)


def compute(work: bytes, threads: int, plugin_files: list[str]) -> Result[Any, Any]:
    """Compute a task.

    Args:
        work: pickled (context, task, values of what it needs); plugins are loaded before it is read, since it may hold
            what they define.
        threads: of this task; timed tasks have the whole machine, the others their share.
        plugin_files: what the main process has loaded.
    """
    load_plugins(tuple(plugin_files))
    set_up(threads)
    context, task, needed = cast("tuple[Context, Task[Any, Any], list[Any]]", pickle.loads(work))  # noqa: S301 - our own
    context = replace(context, device=_own_device(context.device), threads=threads)
    start = time.perf_counter()
    value = context.compute(_Reporter(task.digest), task, needed)
    return Result(task.about, value, time.perf_counter() - start, context.stamp())


def set_up(threads: int) -> None:
    """Torch's settings in this process: threads, no TF32 (it moves MARD by about a percent), freed memory kept."""
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    _keep_memory()


@lru_cache(maxsize=1)
def _keep_memory() -> None:
    keep_freed_memory()


@lru_cache(maxsize=1)
def load_plugins(files: tuple[str, ...]) -> None:
    if files:
        from reproduce.registries import REGISTRIES

        for file in files:
            plugins.load(Path(file), REGISTRIES)


def _own_device(device: torch.device) -> torch.device:
    """Of several GPUs of this machine the one of this worker's number."""
    if device.type != "cuda" or device.index is not None or torch.cuda.device_count() < 2:
        return device
    name = str(get_worker().name)
    return torch.device("cuda", int(name) % torch.cuda.device_count()) if name.isdigit() else device


class _Reporter:
    """The progress callback of a running task: its share goes to the main process, not more often than a person sees."""

    def __init__(self, digest: str) -> None:
        self.digest, self.last = digest, 0.0

    def __call__(self, share: float) -> None:
        now = time.monotonic()
        if now - self.last >= SECONDS_BETWEEN_EVENTS:
            self.last = now
            get_worker().log_event(PROGRESS, {"task": self.digest, "share": float(share)})
