"""The fingerprint of the code that computes a value: a change of that code, and of nothing else, changes it.

From the functions that compute the value on, every definition of our own modules that they name is followed, and what those
name in turn, across imports. The fingerprint is a hash of the syntax trees of all that was reached, without docstrings and
comments, so neither a reworded comment nor the figure that a study draws makes a measured number stale, while a changed
constant three imports away does. The search reads source files and runs nothing. It errs on the side of too much: names are
followed whether or not they are local variables, statements that run at import count wherever one of their module's
definitions is reached, a module that is used as a whole counts as a whole, and a registry made by ``discover`` counts every
module of its package.

What the search cannot see is behaviour chosen by a string with ``getattr`` or ``exec``; the packages have none. It stops at
CARRIERS, which hand values on and decide none; what they look up by name (data sets, architectures) enters a task's key with
a fingerprint of its own.

The search takes half a second, so what it found is remembered beside the result cache, under a hash of every source file of
our packages: one changed byte in any of them, and all is searched again.
"""

import ast
import hashlib
import importlib.util
import json
import pkgutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from reproduce.paths import CACHE

OWN_PACKAGES = ("xdnn", "reproduce")
CARRIERS = frozenset(
    f"reproduce.{name}"
    for name in (
        "cache",
        "context",
        "datasets.fetch",  # files are verified against hashes, and those are in the keys
        "datasets.manifest",
        "errors",
        "files",
        "fingerprint",
        "paths",
        "plugins",
        "progress",
        "provenance",
        "tasks",
    )
)
EFFECTS = ""  # the name under which statements that only run at import are listed

Definition = tuple[str, str]  # module, name


def fingerprint(*functions: Callable[..., Any]) -> str:
    """Hash of all of our code that the functions (or classes, or partials of them) reach; 24 hex digits.

    A function without a name at the top of its module, such as a lambda, counts as the whole module.
    """
    return _fingerprint(tuple(sorted({start for function in functions for start in _starts(function)})))


@lru_cache(maxsize=1024)
def _fingerprint(starts: tuple[Definition, ...]) -> str:
    ours = all(module.partition(".")[0] in OWN_PACKAGES for module, _ in starts)
    if not ours:  # a plugin's, whose file is none of our packages'
        return _searched(starts)
    remembered, key = _remembered(), json.dumps(starts)
    if key not in remembered:
        remembered[key] = _searched(starts)
        _remember(remembered)
    return remembered[key]


def _searched(starts: tuple[Definition, ...]) -> str:
    digest = hashlib.sha256()
    for module, name in reached(*(found for start in starts for found in _defined(*start))):
        digest.update(f"{module}\0{name}\0{_source(module).trees(name)}\0".encode())
    return digest.hexdigest()[:24]


def reached(*starts: Definition) -> list[Definition]:
    """Every (module, name) that the definitions reach, themselves among them, in order."""
    found: set[Definition] = set()
    waiting = list(starts)
    while waiting:
        module, name = waiting.pop()
        if module in CARRIERS:
            continue
        source = _source(module)
        if name in source.imports:
            waiting += _imported(*source.imports[name])
        elif (module, name) not in found and name in source.definitions:
            found.add((module, name))
            waiting += source.named(name)
            waiting += [(module, EFFECTS)]
    return sorted(found)


def _starts(function: Callable[..., Any]) -> Iterator[Definition]:
    if isinstance(function, partial):
        for part in (function.func, *function.args, *function.keywords.values()):
            if callable(part):
                yield from _starts(part)
        return
    kind = function if hasattr(function, "__qualname__") else type(function)
    yield kind.__module__, kind.__qualname__.partition(".")[0]


def _defined(module: str, name: str) -> list[Definition]:
    """The definition of that name, or all of the module where it has none, as of a lambda."""
    return [(module, name)] if name in _source(module).definitions else _whole(module)


# --- what is remembered ---


@lru_cache(maxsize=1)
def _memory() -> Path:
    """The file for the sources as they are."""
    digest = hashlib.sha256(sys.version.encode())
    for package in OWN_PACKAGES:
        folder = _file(package).parent
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{package}/{path.relative_to(folder)}\0".encode() + path.read_bytes() + b"\0")
    return CACHE / "fingerprints" / f"{digest.hexdigest()[:24]}.json"


@lru_cache(maxsize=1)
def _remembered() -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads(_memory().read_text())
    except (OSError, ValueError):
        return {}
    return found


def _remember(found: dict[str, str]) -> None:
    """Write it down, in place of what was found in other sources; where it cannot be written, it is searched again."""
    try:
        _memory().parent.mkdir(parents=True, exist_ok=True)
        for old in _memory().parent.glob("*.json"):
            if old != _memory():
                old.unlink(missing_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=_memory().parent, suffix=".tmp", delete=False) as file:
            json.dump(found, file)
        Path(file.name).replace(_memory())
    except OSError:
        return


# --- the search ---


@dataclass
class _Source:
    """The top level of a module: what each name is defined by, and what it is imported from."""

    module: str
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, Definition] = field(default_factory=dict)
    _trees: dict[str, str] = field(default_factory=dict)
    _named: dict[str, list[Definition]] = field(default_factory=dict)

    def trees(self, name: str) -> str:
        """The syntax trees of one of this module's definitions, as text."""
        if name not in self._trees:
            self._trees[name] = "".join(ast.dump(node) for node in self.definitions[name])
        return self._trees[name]

    def named(self, name: str) -> list[Definition]:
        """The definitions that one of this module's definitions names."""
        if name not in self._named:
            self._named[name] = self._find_named(name)
        return self._named[name]

    def _find_named(self, name: str) -> list[Definition]:
        out: list[Definition] = []
        for node in (part for statement in self.definitions[name] for part in ast.walk(statement)):
            if isinstance(node, ast.Name):
                out.append((self.module, node.id))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
                out.append((self.module, node.value))  # an annotation in quotes
            elif isinstance(node, ast.Import | ast.ImportFrom):  # within a function
                for target in _targets(node, self.module).values():
                    out += _imported(*target)
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "discover":
                out += _package(self.module)
        return [(module, name) for module, name in out if name]


@lru_cache(maxsize=1024)
def _source(module: str) -> _Source:
    source = _Source(module, {EFFECTS: []})
    tree = ast.parse(_file(module).read_text())
    _strip(tree)
    for statement in tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            source.imports |= _targets(statement, module)
        elif not _only_for_types(statement):
            for name in _bound(statement) or {EFFECTS}:
                source.definitions.setdefault(name, []).append(statement)
    return source


def _file(module: str) -> Path:
    place = getattr(sys.modules.get(module), "__file__", None)
    if place is None:
        spec = importlib.util.find_spec(module)
        place = spec.origin if spec else None
    if place is None:
        raise ValueError(f"module {module} has no source file to take a fingerprint of")
    return Path(place)


def _bound(statement: ast.stmt) -> set[str]:
    """The names that a statement at the top level of a module binds or changes."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    loops = [part.target for part in ast.walk(statement) if isinstance(part, ast.comprehension)]
    own = {id(name) for target in loops for name in ast.walk(target)}  # a comprehension's variables end with it
    names = [part for part in ast.walk(statement) if isinstance(part, ast.Name) and id(part) not in own]
    stored = {name.id for name in names if isinstance(name.ctx, ast.Store)}
    if isinstance(statement, ast.Assign | ast.AugAssign):  # registry["name"] = ... changes the registry
        for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
            while isinstance(target, ast.Subscript | ast.Attribute):
                target = target.value
            stored |= {target.id} if isinstance(target, ast.Name) else set()
    return stored


def _only_for_types(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and getattr(statement.test, "id", "") == "TYPE_CHECKING"


def _targets(statement: ast.Import | ast.ImportFrom, module: str) -> dict[str, Definition]:
    """Name that an import binds -> (module, name in it), the latter empty for a module as a whole; only our own."""
    if isinstance(statement, ast.Import):
        found = {alias.asname or alias.name.partition(".")[0]: (alias.name, "") for alias in statement.names}
    else:
        origin = statement.module or ""
        if statement.level:
            package = module if _is_package(module) else module.rpartition(".")[0]
            origin = ".".join([*package.split(".")[: len(package.split(".")) - statement.level + 1], origin]).strip(".")
        found = {alias.asname or alias.name: (origin, alias.name) for alias in statement.names}
    return {name: target for name, target in found.items() if target[0].partition(".")[0] in OWN_PACKAGES}


def _imported(module: str, name: str) -> list[Definition]:
    """What an import brings: one definition, or all of a module."""
    if name and importlib.util.find_spec(module) and (module, name) != (module, ""):
        submodule = f"{module}.{name}"
        if _is_package(module) and name not in _source(module).definitions and importlib.util.find_spec(submodule):
            module, name = submodule, ""
    return [(module, name)] if name else _whole(module)


def _whole(module: str) -> list[Definition]:
    source = _source(module)
    return [(module, name) for name in (*source.definitions, *source.imports)]


def _package(module: str) -> list[Definition]:
    """All of every module of a package."""
    folder = str(_file(module).parent)
    names = [f"{module}.{found.name}" for found in pkgutil.iter_modules([folder])] if _is_package(module) else []
    return [definition for name in names for definition in _whole(name)]


def _is_package(module: str) -> bool:
    return _file(module).name == "__init__.py"


def _strip(node: ast.AST) -> None:
    """Take out docstrings: statements that are nothing but a string. Expressions hold no statements and are passed over."""
    for part in ("body", "orelse", "finalbody", "handlers", "cases"):
        inner = getattr(node, part, None)
        if isinstance(inner, list):
            inner[:] = [ast.Pass() if _is_text(statement) else statement for statement in inner]
            for statement in inner:
                _strip(statement)


def _is_text(statement: ast.AST) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)
