"""Add-ons without touching the package: methods, models, metrics, data sets, scales and studies from a user's own file.

A plugin is a Python file with any of the dicts METHODS, MODELS, PREPROCESSING, METRICS (against a true mask, as
``metrics.localisation`` has them), DATASETS, SCALES and STUDIES, each from a name to what the registry of that name holds.
Everything that reads the registries sees its entries.
"""

import hashlib
import importlib.util
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from reproduce.errors import UserError

LOADED: dict[str, str] = {}  # path -> sha256 of the file: part of the key of what is measured while it is loaded
_ADDED: dict[str, list[str]] = {}  # registry -> names that plugins added


def registries() -> dict[str, MutableMapping[str, Any]]:
    """What a plugin may add to."""
    from reproduce.attributions import METHODS
    from reproduce.datasets import DATASETS
    from reproduce.metrics.localisation import METRICS
    from reproduce.models import MODELS, PREPROCESSING
    from reproduce.scales import SCALES
    from reproduce.studies import STUDIES

    return {
        "METHODS": METHODS, "MODELS": MODELS, "PREPROCESSING": PREPROCESSING, "METRICS": METRICS, "DATASETS": DATASETS,
        "SCALES": SCALES, "STUDIES": STUDIES,
    }  # fmt: skip


def load(path: Path) -> dict[str, list[str]]:
    """Run the file and add its entries; loading it again does nothing.

    Returns:
        Registry -> names that were added.

    Raises:
        UserError: no such file, a file that fails, that adds nothing, or that takes a name which is there already.
    """
    path = path.resolve()
    if str(path) in LOADED:
        return {}
    if not path.is_file() or path.suffix != ".py":
        raise UserError(f"plugin {path} is not a Python file")
    added = {}
    module = _module(path)
    for kind, registry in registries().items():
        entries = getattr(module, kind, {})
        if taken := sorted(entries.keys() & registry.keys()):
            raise UserError(f"plugin {path}: {kind} already has {taken[0]!r}; choose another name")
        if entries:
            added[kind] = list(entries)
    if not added:
        raise UserError(f"plugin {path} adds nothing: it has none of {', '.join(registries())}")
    for kind in added:
        registries()[kind].update(getattr(module, kind))
        _ADDED.setdefault(kind, []).extend(added[kind])
    LOADED[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return added


def _module(path: Path) -> Any:
    name = f"reproduce_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # a .py file always has both
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # before it runs: its dataclasses look it up
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a user's file fails in any way; the line is what helps
        del sys.modules[name]
        raise UserError(f"plugin {path} cannot be run: {type(error).__name__}: {error}") from error
    return module


def added(kind: str) -> list[str]:
    """The names that plugins added to a registry: a net among them is trained anew when its plugin changes."""
    return _ADDED.get(kind, [])


def key() -> dict[str, list[str]]:
    """What a cell adds to its key while plugins are loaded: nothing where there are none, so that no cell is lost."""
    return {"plugins": sorted(LOADED.values())} if LOADED else {}
