"""Registries that are written where their entries are: each module of a package adds its own dict."""

import importlib
import pkgutil
from typing import Any


def discover(package: str, name: str) -> dict[str, Any]:
    """The dicts called ``name`` of all modules of ``package``, joined in the alphabetical order of the modules.

    Raises:
        ValueError: two modules have an entry of the same key.
    """
    joined: dict[str, Any] = {}
    for found in pkgutil.iter_modules(importlib.import_module(package).__path__):
        entries = getattr(importlib.import_module(f"{package}.{found.name}"), name, {})
        for key in entries:
            if key in joined:
                raise ValueError(f"{package}.{found.name} has an entry {key!r} in {name} that another module has too")
        joined |= entries
    return joined
