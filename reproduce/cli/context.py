"""From options to what a command works with: torch set up, the context of a run, studies, workers."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from reproduce.cli.options import Machine
from reproduce.errors import UserError
from reproduce.paths import CACHE, RESULTS

if TYPE_CHECKING:
    import torch

    from reproduce.context import Context
    from reproduce.engine import Workers
    from reproduce.study import Study


def find_device(name: str) -> "torch.device":
    """The device of that name. Raises UserError for one that there is not."""
    import torch

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"unknown device {name!r}; use cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise UserError(f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices; use --device cpu")
    return device


def set_up(device: str, threads: int | None) -> "tuple[torch.device, int]":
    """Set torch up for work in this process.

    Returns:
        The device, and the number of threads; where several processes share the machine, this one's.
    """
    import torch

    from reproduce.process_group import find_rank
    from xdnn.allocator import keep_freed_memory

    rank = find_rank()
    found = find_device(rank.device(device))
    if found.type == "cpu":
        keep_freed_memory()
    torch.set_num_threads(threads or max(1, (os.cpu_count() or 1) // rank.local_count))
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # it moves MARD by about a percent
    return found, torch.get_num_threads()


def make_context(
    scale: str,
    *,
    device: str = "cpu",
    seed: int = 0,
    seeds: int = 1,
    repetitions: int | None = None,
    most_images: int | None = None,
    results: Path = RESULTS,
    cache: Path = CACHE,
) -> "Context":
    """The context of a run. Its results go to ``results``/<scale>, or to <scale>-N where only N images are explained.

    Raises:
        UserError: an unknown scale or device, or a cache that cannot be written.
    """
    import torch

    from reproduce.cache import ResultCache
    from reproduce.context import Context
    from reproduce.scales import find_scale

    chosen = find_scale(scale)
    found = find_device(device)
    return Context(
        scale=chosen,
        cache=ResultCache(cache, {"torch": torch.__version__, "device": found.type}),
        results=results / (chosen.name if most_images is None else f"{chosen.name}-{most_images}"),
        device=found,
        seed=seed,
        seeds=seeds,
        repetitions=repetitions,
        most_images=most_images,
    )


def find_studies(names: list[str]) -> "list[Study]":
    """Each study that was named, once, in the order of the names; `all` stands for every one.

    Raises:
        UserError: an unknown name, with the nearest known one.
    """
    from reproduce.scales import nearest
    from reproduce.studies import STUDIES

    for name in names:
        if name not in STUDIES and name != "all":
            raise nearest("study", name, STUDIES | {"all": None})
    return [STUDIES[name] for name in (STUDIES if "all" in names else dict.fromkeys(names))]


def find_workers(machine: Machine) -> "Workers":
    """How the work of a run is spread over this machine, or over a cluster."""
    from reproduce.engine import choose_workers

    return choose_workers(machine.device, machine.workers, machine.threads, machine.scheduler)
