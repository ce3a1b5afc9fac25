"""Seeds that depend on what they are for, not on what ran before."""

import hashlib

import torch


def seed_for(*purpose: object) -> int:
    """A seed below 2^48 that depends on everything that is named."""
    return int.from_bytes(hashlib.sha256(":".join(map(str, purpose)).encode()).digest()[:6])


def generator(*purpose: object) -> torch.Generator:
    """A CPU generator for a purpose; name the run's seed first."""
    return torch.Generator().manual_seed(seed_for(*purpose))
