"""The context of a run: a scale on a device with a seed. It finds nets, images, tables and finished tasks for the studies."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from reproduce import provenance
from reproduce.cache import ResultCache
from reproduce.datasets import DATASETS, NETS, TABLES, Images, Store, Table, load_table
from reproduce.datasets.manifest import manifest
from reproduce.errors import UserError
from reproduce.experiment import Experiment
from reproduce.fingerprint import fingerprint
from reproduce.models import build
from reproduce.models.weights import FILES
from reproduce.nets import FETCHED, Net, untaught
from reproduce.scales import NetGroup, Scale, nearest
from reproduce.tasks import About, Result, Task, Value, no_progress

Protocol = TypeVar("Protocol")

MOST_SPLITS = 3  # of data sets that stay in memory: the largest train split takes 400 MB
_SPLITS: dict[tuple[str, str, Path, Store], Images] = {}  # by process: a worker has a fresh context for each task


@dataclass(frozen=True, eq=False)
class Context:
    """What a run decides once for all studies.

    Attributes:
        results: the folder of the scale's tables and figures.
        seed: of all random draws, and of the first training.
        seeds: trainings of each net; the further ones take the seeds that follow.
        store: the data folder.
        repetitions: of the attribution priors, in place of their protocol's.
        most_images: explain at most so many images per net and study.
    """

    scale: Scale
    cache: ResultCache
    results: Path
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    threads: int = 2
    seed: int = 0
    seeds: int = 1
    store: Store = field(default_factory=Store)
    repetitions: int | None = None
    most_images: int | None = None

    # --- tasks ---

    def result(self, task: Task[About, Value], *, force: bool = False) -> Result[About, Value]:
        """A task's result, from the cache or computed now; of several processes that ask for it one computes it."""
        claimed = nullcontext() if force or self.cache.has(task) else self.cache.claim(task, wait=True)
        with claimed:
            return self.cache.get(task, partial(self.compute, no_progress), self.stamp, force=force)

    def compute(self, progress: Any, task: Task[About, Value], needed: list[Any]) -> Value:
        """Run a task on the values of what it needs."""
        return task.compute(Experiment(self, task.about, task.protocol, progress), *needed)

    def stamp(self) -> dict[str, Any]:
        """The provenance of a number measured now."""
        return provenance.stamp(device=self.device, threads=self.threads, seed=self.seed)

    # --- nets ---

    def groups(self) -> dict[str, NetGroup]:
        """The scale's groups of nets by name."""
        return {name: group for name, group in NETS.items() if self.scale.name in group.scales}

    def nets(self, protocols: Mapping[str, Protocol]) -> list[tuple[Net, Protocol]]:
        """The nets that are there and that ``protocols`` selects, each with its protocol; regular nets before their variants.

        Args:
            protocols: selector -> protocol. A selector is "group/model", "group", or a kind of weights such as "trained";
                       the first of these that is there counts. A protocol has ``images``, which is cut to what is there.
        """
        out: list[tuple[Net, Protocol]] = []
        for name, group in self.groups().items():
            for model, width in group.widths.items():
                selectors = (f"{name}/{model}", name, group.weights)
                protocol = next((protocols[s] for s in selectors if s in protocols), None)
                if protocol is None or self.missing(name) is not None:
                    continue
                for variant in group.variants:
                    cut = self._within_reach(protocol, group, variant)
                    for number in range(self.seeds if group.weights == "trained" else 1):
                        net = Net(model, variant, group.dataset, width, group.weights, self.seed + number)
                        out.append((net, cut))
        return out

    def selected(self, protocols: Mapping[str, Any]) -> list[str]:
        """The scale's groups that ``protocols`` selects, whether or not they are there."""
        return [
            name
            for name, group in self.groups().items()
            if {name, group.weights, *(f"{name}/{model}" for model in group.widths)} & set(protocols)
        ]

    def _within_reach(self, protocol: Any, group: NetGroup, variant: str) -> Any:
        """With as many images as the user wants and the data set has: a partial mirror gives a smaller n, not an error.

        A converted net is not measured on images that it has learnt from.
        """
        images = protocol.images if self.most_images is None else min(protocol.images, self.most_images)
        if group.weights != "trained":
            there, conversion = len(self.images(group.dataset)), DATASETS[group.dataset].conversion
            images = min(images, untaught(there, conversion) if variant == "converted" and conversion else there)
        return replace(protocol, images=images)

    def missing(self, group: str) -> str | None:
        """Why the nets of a group cannot be explained, with the way out; None where they can."""
        found = NETS[group]
        if reason := DATASETS[found.dataset].missing(self.store):
            return f"{found.dataset} {reason}"
        if found.weights in FETCHED:
            files = [manifest()[0][name] for (model, _), name in FILES.items() if model in found.widths]
            absent = [file.name for file in files if not self.store.has(file)]
            if absent:
                return f"needs {', '.join(absent)} (make data SCALE={self.scale.name})"
        return None

    def untrained(self, net: Net) -> nn.Module:
        """The net as initialised from torch's global generator, or with the weights that its package ships."""
        data = DATASETS[net.dataset]
        return build(net.model, net.variant, classes=data.classes, width=net.width, image_px=data.image_px)

    def weights_file(self, net: Net) -> Path:
        """The verified file of a fetched net's weights."""
        return self.store.path(manifest()[0][FILES[net.model, net.variant]], self.scale.name)

    # --- data ---

    def images(self, dataset: str, split: str = "test") -> Images:
        """A split of a data set.

        Raises:
            UserError: an unknown name or split, or data that is not there (with the command that fetches it).
        """
        if dataset not in DATASETS:
            raise nearest("data set", dataset, DATASETS)
        entry = DATASETS[dataset]
        if split not in entry.splits:
            raise UserError(f"{dataset} has no split {split!r}; there are: {', '.join(entry.splits)}")
        if reason := entry.missing(self.store):
            raise UserError(f"{dataset} {reason}")
        place = (dataset, split, self.cache.folder, self.store)
        if place not in _SPLITS:
            while len(_SPLITS) >= MOST_SPLITS:
                del _SPLITS[next(iter(_SPLITS))]
            _SPLITS[place] = entry.load(split, self)
        return _SPLITS[place]

    def data_key(self, dataset: str) -> dict[str, Any]:
        """What decides a data set's content, as JSON."""
        entry = DATASETS[dataset]
        return {"name": dataset, "code": fingerprint(entry.load), **entry.key(self.store)}

    def table(self, name: str) -> Table:
        """A table of people by name."""
        return load_table(name, self.store)

    def table_key(self, name: str) -> dict[str, Any]:
        """What decides a table's content, as JSON."""
        source = TABLES[name]
        return {"name": name, "code": fingerprint(source.load), **source.key(self.store)}

    def missing_table(self, name: str) -> str | None:
        """Why a table cannot be read, with the way out; None where it can."""
        return TABLES[name].missing(self.store)
