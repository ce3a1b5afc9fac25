"""Add-ons without touching the package: methods, models, metrics, data, nets, scales and studies from a user's own file.

A plugin is a Python file with any of the dicts METHODS, MODELS, PREPROCESSING, METRICS, DATASETS, NETS, SCALES, STUDIES and
PROTOCOLS (study -> scale -> group of nets -> protocol), each from a name to what the registry of that name holds.
Everything that reads the registries sees its entries. Which registries there are stands in ``reproduce/registries.py``.
"""

import hashlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from reproduce.errors import UserError


@dataclass(frozen=True)
class Registry:
    """Names that a plugin may add to.

    Attributes:
        entries: what is there: name -> value.
        type: what every value must be an instance of.
        nested: may a plugin add within an entry that is there? Entries are then dicts of dicts, down to values of one type
            for each top-level name.
    """

    entries: MutableMapping[str, Any]
    type: Any = object
    nested: bool = False


Registries = Mapping[str, Registry]

LOADED: dict[str, str] = {}  # path -> sha256 of the file: part of the key of what is measured while it is loaded
_ADDED: dict[str, list[str]] = {}  # registry -> names that plugins added


def load(path: Path, registries: Registries) -> dict[str, list[str]]:
    """Run the file and add its entries to the registries; loading it again does nothing.

    Returns:
        Registry -> names that were added.

    Raises:
        UserError: no such file, a file that fails, that adds nothing, that takes a name which is there already, or a value
            that its registry cannot hold. Nothing of the file is then added.
    """
    path = path.resolve()
    if str(path) in LOADED:
        return {}
    module = import_file(path, "plugin")
    found = {kind: getattr(module, kind) for kind in registries if hasattr(module, kind)}
    for kind, entries in found.items():
        if reason := _refused(kind, entries, registries[kind]):
            raise UserError(f"plugin {path}: {reason}")
    if not any(found.values()):
        raise UserError(f"plugin {path} adds nothing: it has none of {', '.join(registries)}")
    for kind, entries in found.items():
        _merge(registries[kind].entries, entries)
        _ADDED.setdefault(kind, []).extend(entries)
    LOADED[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return {kind: list(entries) for kind, entries in found.items() if entries}


def _refused(kind: str, entries: object, registry: Registry) -> str | None:
    """Why a registry cannot take these entries; None where it can."""
    if not isinstance(entries, Mapping):
        return f"{kind} is of type {type(entries).__name__}, not a dict of names"
    for name, value in entries.items():
        if not isinstance(name, str):
            return f"{kind} has the name {name!r}, which is of type {type(name).__name__}, not a word"
        there = registry.entries.get(name)
        if registry.nested:
            if there is None:
                return f"{kind} knows no {name!r}; there are: {', '.join(registry.entries)}"
            own, wanted = list(_leaves(value)), type(next(_leaves(there)))
            if taken := _taken(there, value):
                return f"{kind}[{name!r}] already has {taken}; choose another name"
        else:
            own, wanted = [value], registry.type
            if there is not None:
                return f"{kind} already has {name!r}; choose another name"
        for leaf in own:
            if not isinstance(leaf, wanted):
                return f"{kind}[{name!r}] is of type {type(leaf).__name__}, not {wanted.__name__}"
    return None


def _leaves(tree: object) -> Iterator[object]:
    if isinstance(tree, Mapping):
        for branch in tree.values():
            yield from _leaves(branch)
    else:
        yield tree


def _taken(there: object, added: object) -> str | None:
    """The first name of ``added``, down to its leaves, that is there already."""
    if not isinstance(there, Mapping) or not isinstance(added, Mapping):
        return "a value"
    for name in added:
        if name in there:
            both = isinstance(there[name], Mapping) and isinstance(added[name], Mapping)
            if not both:
                return repr(name)
            if found := _taken(there[name], added[name]):
                return found
    return None


def _merge(there: MutableMapping[str, Any], added: Mapping[str, Any]) -> None:
    for name, value in added.items():
        if name in there:
            _merge(there[name], value)
        else:
            there[name] = value


def import_file(path: Path, kind: str) -> ModuleType:
    """Run a user's Python file as a module.

    Args:
        kind: what the file is, for the messages.

    Raises:
        UserError: no such Python file, or one that fails when it is run; says how.
    """
    if not path.is_file() or path.suffix != ".py":
        raise UserError(f"{kind} {path} is not a Python file")
    name = f"reproduce_{kind.replace(' ', '_')}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # a .py file always has both
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # before it runs: its dataclasses look it up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a user's file fails in any way; the line is what helps
        del sys.modules[name]
        raise UserError(f"{kind} {path} cannot be run: {type(error).__name__}: {error}") from error
    return module


def added(kind: str) -> list[str]:
    """The names that plugins added to a registry."""
    return _ADDED.get(kind, [])


def key() -> dict[str, list[str]]:
    """What a task adds to its key while plugins are loaded: nothing where there are none."""
    return {"plugins": sorted(LOADED.values())} if LOADED else {}
