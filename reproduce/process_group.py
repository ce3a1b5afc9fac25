"""The process group of a training under torchrun: which of several processes this is, and sums over all of them."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor
from torch import distributed as dist

from reproduce.errors import UserError

PATIENCE = timedelta(minutes=30)  # for the slowest process's validation or checkpoint; a dead one is noticed at once


@dataclass(frozen=True)
class Rank:
    """Process ``number`` of ``count``; ``local`` of ``local_count`` on this machine."""

    number: int = 0
    count: int = 1
    local: int = 0
    local_count: int = 1

    @property
    def first(self) -> bool:
        """Is it this process that writes what is written once?"""
        return self.number == 0

    def device(self, name: str) -> str:
        """``cuda`` means this process's own GPU where several processes share a machine."""
        return f"cuda:{self.local}" if name == "cuda" and self.local_count > 1 else name


def find_rank(environ: Mapping[str, str] = os.environ) -> Rank:
    """From torchrun's variables, else alone."""
    if "RANK" in environ and "WORLD_SIZE" in environ:
        local, local_count = environ.get("LOCAL_RANK", "0"), environ.get("LOCAL_WORLD_SIZE", "1")
        return Rank(int(environ["RANK"]), int(environ["WORLD_SIZE"]), int(local), int(local_count))
    return Rank()


@contextmanager
def group(rank: Rank, device: torch.device) -> Iterator[None]:
    """The torch.distributed group of torchrun's processes (gloo on CPU, nccl on CUDA); nothing where there is one process.

    Raises:
        UserError: another process of the group has ended.
    """
    if rank.count == 1 or "MASTER_ADDR" not in os.environ:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield
    except RuntimeError as error:  # gloo raises a plain RuntimeError, nccl a DistError, which is one
        if isinstance(error, dist.DistError) or "gloo" in str(error) or "peer" in str(error):
            raise UserError(
                "another process of this run has ended; the last checkpoint is kept and the same command goes on from there"
            ) from error
        raise
    finally:
        dist.destroy_process_group()


def total(*parts: Tensor) -> Tensor:
    """Sums over all processes of one number each, as float64: counts stay exact up to 2^53. (len(parts),)."""
    sums = torch.stack([part.detach().double() for part in parts])
    if dist.is_initialized():
        dist.all_reduce(sums)
    return sums
