"""A run: a scale on a device with a seed. It gives studies their nets, their images and their cells."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from reproduce import plugins
from reproduce.cells import Cell, Cells, Tick, Value, join
from reproduce.datasets import DATASETS, Images, Store, load
from reproduce.datasets.fetch import manifest
from reproduce.datasets.nhanes import TABLES, Table, load_table
from reproduce.errors import UserError
from reproduce.models import PREPROCESSING, build
from reproduce.models.weights import FILES, load_weights
from reproduce.scales import PriorAmount, Scale, Testbed
from reproduce.training import supervised
from reproduce.xdnn import is_homogeneous

FETCHED = ("released", "torchvision")  # weights that come as a file of the manifest
NO_TICK: Tick = lambda share: None  # noqa: E731


@dataclass(frozen=True)
class Net:
    """One trained net of a testbed; with the data set's key it decides the weights."""

    model: str
    variant: str
    dataset: str
    width: float
    weights: str
    seed: int

    @property
    def label(self) -> str:
        return f"{self.model} {self.variant}"


Measure = Callable[..., Value]  # (tick, model, images, *values of further cells)


@dataclass(frozen=True, eq=False)
class Run:
    """Everything a study may ask for. ``results`` is the folder of the scale's tables and figures, ``store`` the data folder."""

    scale: Scale
    cells: Cells
    results: Path
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    threads: int = 2
    seed: int = 0
    store: Store = field(default_factory=Store)
    repetitions: int | None = None  # of the studies of attribution priors, in place of the scale's

    def testbeds(self) -> list[Testbed]:
        """The scale's testbeds whose data and weights are there."""
        return [bed for bed in self.scale.testbeds if self.missing(bed) is None]

    def missing(self, bed: Testbed) -> str | None:
        """Why a testbed cannot be run, with the way out; None where it can."""
        if reason := DATASETS[bed.dataset].missing(self.store):
            return f"{bed.dataset} {reason}"
        if bed.weights in FETCHED:
            files = [manifest()[0][name] for (model, _), name in FILES.items() if model in bed.widths]
            absent = [file.name for file in files if not self.store.has(file)]
            if absent:
                return f"needs {', '.join(absent)} (make data SCALE={self.scale.name})"
        return None

    def prior_amount(self) -> PriorAmount:
        """How much of the studies of attribution priors is run, with the repetitions that the user asked for."""
        amount = self.scale.priors
        if self.repetitions is None:
            return amount
        return replace(amount, repetitions=self.repetitions, sweep_repetitions=self.repetitions)

    def tables(self) -> list[str]:
        """The scale's tables that are there."""
        return [name for name in self.scale.priors.tables if self.missing_table(name) is None]

    def missing_table(self, name: str) -> str | None:
        """Why a table cannot be read, with the way out; None where it can."""
        return TABLES[name].missing(self.store)

    def missing_parts(self) -> dict[str, str]:
        """Testbeds and tables of the scale that are not there -> why."""
        beds = {f"{bed.dataset} with {bed.weights} weights": self.missing(bed) for bed in self.scale.testbeds}
        tables = {name: self.missing_table(name) for name in self.scale.priors.tables}
        return {name: reason for name, reason in (beds | tables).items() if reason}

    def table(self, name: str) -> Table:
        """A table by name."""
        return load_table(name, self.store)

    def nets(self, study: str) -> list[tuple[Net, int]]:
        """The nets that ``study`` judges at this scale and on how many images each; regular nets before their variants."""
        return [
            (
                Net(model, variant, bed.dataset, width, bed.weights, self.seed + seed),
                self._available(bed, bed.count(study, model)),
            )
            for bed in self.testbeds()
            for model, width in bed.widths.items()
            for variant in bed.variants
            for seed in bed.seeds
            if bed.count(study, model)
        ]

    def _available(self, bed: Testbed, count: int) -> int:
        """``count``, or as many images as a fetched data set has: a partial mirror gives a smaller n, not an error."""
        if count == 0 or bed.weights == "trained":
            return count
        return min(count, len(self.images(bed.dataset)))

    def images(self, dataset: str, split: str = "test", count: int | None = None) -> Images:
        """A split, or its first ``count`` images."""
        images = load(dataset, split, self.cells, self.store)
        return images if count is None else images.first(count)

    def images_for(self, net: Net, count: int) -> Images:
        """The first ``count`` test images as the net wants them preprocessed."""
        images = self.images(net.dataset, count=count)
        return images.preprocessed(**PREPROCESSING[net.model]) if net.model in PREPROCESSING else images

    def needs(self, net: Net) -> tuple[Cell, ...]:
        """The cells that hold the net's weights; none where they come from outside."""
        return (self.training(net),) if net.weights == "trained" else ()

    def training(self, net: Net) -> Cell:
        """The cell that holds a net's weights, trained by the recipe of its architecture."""
        recipe = supervised.recipe(net.dataset, net.model)
        key = {
            "training": supervised.RECIPE_VERSION,
            "net": asdict(net),
            "data": DATASETS[net.dataset].key(self.store),
            # Without what a recipe leaves out, so that a new knob keeps the nets that do not use it.
            "recipe": {name: value for name, value in asdict(recipe).items() if value is not None},
        } | (plugins.key() if net.model in plugins.added("MODELS") else {})
        return Cell(
            f"train {net.label}", key, partial(self._train, net, recipe), seconds=TRAIN_SECONDS.get(net.dataset, 60)
        )

    def _train(self, net: Net, recipe: supervised.Recipe, tick: Tick) -> Value:
        model, log = supervised.train(
            partial(self._untrained, net), self.images(net.dataset, "train"), recipe,
            seed=net.seed, device=self.device, tick=tick,
        )  # fmt: skip
        return {"weights": {name: tensor.cpu() for name, tensor in model.state_dict().items()}, "log": log}

    def _untrained(self, net: Net) -> nn.Module:
        data = DATASETS[net.dataset]
        return build(net.model, net.variant, classes=data.classes, width=net.width, image_px=data.image_px)

    def load(self, net: Net, *needed: Value) -> nn.Module:
        """The net with its weights (``needed``: the values of ``needs(net)``), in eval mode, channels last."""
        with torch.random.fork_rng():
            torch.manual_seed(net.seed)  # decides the weights of a net that is judged untrained
            model = self._untrained(net)
        for trained in needed:
            model.load_state_dict(trained["weights"])
        if net.weights in FETCHED:
            file = manifest()[0][FILES[net.model, net.variant]]
            load_weights(model, self.store.path(file, self.scale.name))
            self._check_homogeneous(net, model)
        return model.to(self.device).to(memory_format=torch.channels_last).eval()

    def _check_homogeneous(self, net: Net, model: nn.Module) -> None:
        """A released X-net is measured before it is believed."""
        if net.variant == "x":
            found = is_homogeneous(model, self.images(net.dataset, count=1).inputs())
            if not found:
                raise UserError(f"{FILES[net.model, net.variant]} is {found}")

    def cell(
        self, study: str, version: int, net: Net, measure: Measure, *,
        images: int | range, seconds: float, needs: tuple[Cell, ...] = (), costly: int | None = None, **protocol: Any,
    ) -> Cell:  # fmt: skip
        """A cell that measures one net on test images, the first so many or a range: ``measure(tick, model, images) -> Value``.

        ``protocol`` holds the constants that decide the number; with study, version, net and data they are the key.
        ``needs`` are other cells whose values ``measure`` takes after the images; ``costly`` says how many of the images
        take the time, where not all do.
        """
        weights = self.needs(net)
        part = images if isinstance(images, range) else range(images)

        def compute(tick: Tick, *needed: Value) -> Value:
            model = self.load(net, *needed[: len(weights)])
            shown = self.images_for(net, part.stop).part(part.start, part.stop)
            value = measure(tick, model, shown, *needed[len(weights) :])
            return value | {"net": asdict(net)}

        key = {
            "study": study,
            "version": version,
            "net": asdict(net),
            "data": DATASETS[net.dataset].key(self.store),
            "images": [part.start, part.stop] if part.start else part.stop,
            "protocol": protocol,
        } | plugins.key()
        if net.model in PREPROCESSING:
            key["preprocessing"] = PREPROCESSING[net.model]
        where = f" {part.start}-{part.stop}" if part.start or self.scale.part else ""
        name = f"{study} {net.label}{where}"
        return Cell(name, key, compute, weights + needs, seconds, len(part) if costly is None else costly)

    def in_parts(self, count: int, cell: Callable[[range], Cell]) -> Cell:
        """The cell of ``count`` images: ``cell(range(count))``, or one that joins ``cell(...)`` of the scale's parts.

        The parts are those of the scale, not of the machine: however many processes share them, each number is computed from
        the same images in the same batches and joined in the same order. A killed run loses one part at most.
        """
        if self.scale.part is None or count <= self.scale.part:
            return cell(range(count))
        parts = [range(start, min(start + self.scale.part, count)) for start in range(0, count, self.scale.part)]
        cells = tuple(cell(part) for part in parts)
        name = cells[0].name.rpartition(" ")[0]
        return Cell(f"{name} joined", {"joined": len(parts), "images": count}, join, cells, seconds=0.1)

    def generator(self, *purpose: object) -> torch.Generator:
        """A CPU generator that depends on the run's seed and on what it is for, not on what ran before."""
        text = ":".join(map(str, (self.seed, *purpose)))
        return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]))


TRAIN_SECONDS = {"digits-on-photos": 40, "cifar10": 240}  # guesses for the progress bar
