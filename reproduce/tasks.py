"""Tasks: the pieces that a study is computed in. A task's key is everything that decides its value.

The key holds the protocol, what is measured (``about``), the keys of the data and of the tasks that it needs, and the
fingerprint of the code that computes it. Nothing in it is raised by hand, so a stale value cannot be read.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar, cast

import cattrs
import torch
from torch import Tensor

from reproduce import plugins
from reproduce.fingerprint import fingerprint

Value = TypeVar("Value")
About = TypeVar("About")
Progress = Callable[[float], None]  # a running task reports the share of its work that is done, 0..1
Provenance = Mapping[str, Any]

# Dataclasses to plain dicts and back; tensors stay what they are.
converter = cattrs.Converter()
converter.register_unstructure_hook(Tensor, lambda tensor: tensor)
converter.register_structure_hook(Tensor, lambda tensor, _: tensor)


def no_progress(share: float) -> None:
    """The progress callback of whoever does not look."""


@dataclass(frozen=True)
class Result(Generic[About, Value]):
    """A finished task's value with what it is about, the seconds that it took, and its provenance at measuring."""

    about: About
    value: Value
    seconds: float
    provenance: Provenance


@dataclass(frozen=True, eq=False)
class Task(Generic[About, Value]):
    """One piece of work.

    Attributes:
        name: what the progress line says.
        type: the dataclass of the value; its fields are tensors, numbers, strings, and lists, dicts and dataclasses of them.
        compute: ``compute(experiment, *values of needs) -> value``; a module's function or a partial of some.
        about: a frozen dataclass that says what is measured, e.g. which net; the rows' ids come from it.
        protocol: a frozen dataclass of all constants that decide the value; None where there are none.
        data: keys of the data that ``compute`` reads.
        needs: tasks whose values it is computed from.
        seconds: a guess on 2 cores; only the progress bar's estimate uses it.
        images: that its time grows with; 0 where it does not grow so. Only estimates use it.
        alone: its value holds times on the clock, so nothing else may run on the machine meanwhile.
    """

    name: str
    type: type[Value]
    compute: Callable[..., Value]
    about: About
    protocol: Any = None
    data: Mapping[str, Any] = field(default_factory=dict)
    needs: "tuple[Task[Any, Any], ...]" = ()
    seconds: float = 5.0
    images: int = 0
    alone: bool = False

    @cached_property
    def key(self) -> dict[str, Any]:
        """What decides the value, as JSON."""
        return {
            "about": _described(self.about),
            "protocol": _described(self.protocol),
            "data": dict(self.data),
            "needs": [need.digest for need in self.needs],
            "code": fingerprint(self.compute, self.type),
        } | plugins.key()

    @cached_property
    def digest(self) -> str:
        """Hash of the key: the name of the task's file in the result cache."""
        text = json.dumps(self.key, sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:24]


def _described(part: Any) -> Any:
    """A dataclass as JSON, with the name of its type."""
    return None if part is None else {"type": type(part).__qualname__, **converter.unstructure(part)}


def in_order(tasks: "Iterable[Task[Any, Any]]") -> "list[Task[Any, Any]]":
    """These tasks and all that they need, needs first, each once."""
    found: dict[str, Task[Any, Any]] = {}
    for task in tasks:
        found |= {need.digest: need for need in in_order(task.needs)} | {task.digest: task}
    return list(found.values())


def join_shards(experiment: Any, *parts: Value) -> Value:
    """The values of consecutive shards as the value of the whole: lists and tensors one after the other.

    Raises:
        TypeError: a number or another thing that cannot be put together so.
    """
    return cast(Value, _joined(type(parts[0]).__name__, parts))


def _joined(name: str, parts: Sequence[Any]) -> Any:
    first = parts[0]
    if is_dataclass(first) and not isinstance(first, type):
        whole = {f.name: _joined(f"{name}.{f.name}", [getattr(p, f.name) for p in parts]) for f in fields(first)}
        return type(first)(**whole)
    if isinstance(first, dict):
        return {key: _joined(f"{name}[{key!r}]", [part[key] for part in parts]) for key in first}
    if isinstance(first, list):
        return [item for part in parts for item in part]
    if isinstance(first, Tensor) and first.ndim:
        return torch.cat(list(parts))
    raise TypeError(f"shards cannot be joined: {name} is a {type(first).__name__}, not a list or tensor over images")
