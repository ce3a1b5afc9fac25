"""Data sets by name: what is embedded in packages, what is fetched, and how each is verified.

    load("digits-on-photos", "test", cells)  ->  Images

DATASETS says of each what it needs; a data set that is not there is a ``UserError`` with the command that fetches it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version

import torch

from reproduce.cells import Cell, Cells, Tick
from reproduce.datasets import digits_on_photos as digits
from reproduce.datasets.imagenet import imagenet_20
from reproduce.datasets.images import Images, Photographs
from reproduce.errors import UserError

__all__ = ["DATASETS", "Dataset", "Images", "Photographs", "load"]

DATA_SEED = 2021  # the data set is part of the protocol: its seed is not the run's


@dataclass(frozen=True)
class Dataset:
    """A data set's entry: how to load a split, what decides its content, and where it comes from."""

    load: Callable[[str, Cells], Images]
    key: dict[str, str | int]
    image_px: int
    classes: int
    source: str
    splits: tuple[str, ...] = ("test",)


def _digits_key() -> dict[str, str | int]:
    packages = {name: version(name) for name in ("mlxtend", "foolbox", "scikit-image", "pillow")}
    return {"recipe": digits.RECIPE, "seed": DATA_SEED, "train": digits.TRAIN_IMAGES} | packages


def _digits_cell(split: str) -> Cell:
    def compose(tick: Tick) -> dict[str, torch.Tensor]:
        count = digits.TRAIN_IMAGES if split == "train" else digits.TEST_IMAGES
        generator = torch.Generator().manual_seed(DATA_SEED + (split == "test"))
        return digits.compose(split, count, generator)

    return Cell(f"data digits-on-photos {split}", {"split": split, "dataset": _digits_key()}, compose, seconds=8)


@lru_cache(maxsize=4)
def _digits(split: str, cells: Cells) -> Images:
    value = cells.get(_digits_cell(split))
    # The statistics of the training images, to three places: part of the recipe, checked by a test.
    return Images(value["images"], value["targets"], digits.MEAN, digits.STD, classes=10, masks=value["masks"])


DATASETS: dict[str, Dataset] = {
    "digits-on-photos": Dataset(
        _digits, _digits_key(), digits.IMAGE_PX, 10, "packages mlxtend, scikit-image and foolbox", ("train", "test")
    ),
    "imagenet-20": Dataset(
        lambda split, cells: imagenet_20(), {"foolbox": version("foolbox")}, 224, 1000, "package foolbox"
    ),
    "imagenet-20-32px": Dataset(  # small images for timing
        lambda split, cells: imagenet_20(36, 32), {"foolbox": version("foolbox"), "px": 32}, 32, 1000, "package foolbox"
    ),
}


def load(name: str, split: str, cells: Cells) -> Images:
    """The split of a data set; composed ones are kept among ``cells``.

    Raises:
        UserError: an unknown name or split, or data that is not there (with the command that fetches it).
    """
    if name not in DATASETS:
        raise UserError(f"unknown data set {name!r}; there are: {', '.join(DATASETS)}")
    if split not in DATASETS[name].splits:
        raise UserError(f"{name} has no split {split!r}; there are: {', '.join(DATASETS[name].splits)}")
    return DATASETS[name].load(split, cells)
