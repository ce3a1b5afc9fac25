"""CIFAR-10 (Krizhevsky 2009): its publisher's binary archive, a mirror's JPEG copy, or any folder split/class/image.

The Python archive of the same images is a pickle, which could run code; the binary one is labels and bytes.
"""

import hashlib
import io
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from reproduce.datasets.dataset import Dataset, Split
from reproduce.datasets.fetch import Store
from reproduce.datasets.images import Images
from reproduce.datasets.manifest import manifest
from reproduce.errors import UserError
from reproduce.experiment import Experiment
from reproduce.scales import NetGroup
from reproduce.tasks import Task
from reproduce.training.recipe import Distillation, Recipe

if TYPE_CHECKING:
    from reproduce.context import Context

NAME = "cifar10"
PX = 32
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BINARY, JPEG, FOLDER = "cifar-10-binary.tar.gz", "cifar10-jpeg.tar", "cifar10"
SHUFFLE_SEED = 10  # the copies list images by class: the first N of this one shuffle are a fair sample


@dataclass(frozen=True)
class Decoded:
    """images (N, 3, 32, 32) uint8, targets (N,) int64; mean and std of the *training* images' channels, of pixels / 255."""

    images: Tensor
    targets: Tensor
    mean: list[float]
    std: list[float]


def missing(store: Store) -> str | None:
    """Why it cannot be read, with the way out; None where one of its three forms is there."""
    if any((store.folder / name).exists() for name in (BINARY, JPEG, FOLDER)):
        return None
    return "is not there (make data SCALE=subset)"


def key(store: Store) -> Mapping[str, str]:
    """The hash of the form that it has: JPEG copies are not the publisher's pixels."""
    for name in (BINARY, JPEG):
        if (store.folder / name).exists():
            return {"hash": manifest()[0][name].hash}
    names = sorted(f"{p.relative_to(store.folder)} {p.stat().st_size}" for p in _files(store.folder / FOLDER, "*"))
    return {"hash": hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]}


def load(split: str, context: "Context") -> Images:
    """A split in one fixed shuffle, normalised by the mean and standard deviation of the training images' channels.

    Raises:
        UserError: an image of another size, a class folder that is not one of CIFAR-10's, or a split without images.
        WrongHash: an archive is not the one that the manifest names.
    """
    found = context.result(_task(split, context.store)).value
    return Images(found.images, found.targets, found.mean, found.std, classes=len(CLASSES))


def _task(split: str, store: Store) -> Task[Split, Decoded]:
    needs = () if split == "train" else (_task("train", store),)  # whose statistics normalise both
    return Task(f"decode {NAME} {split}", Decoded, decode, Split(NAME, split), data=key(store), needs=needs, seconds=15)


def decode(experiment: Experiment[Split, None], *train: Decoded) -> Decoded:
    """The images of a split from the form that is there."""
    split, store = experiment.about.split, experiment.context.store
    for name, read in ((BINARY, _binary), (JPEG, _tar)):
        if (store.folder / name).exists():
            images, targets = read(store.path(manifest()[0][name]), split)
            break
    else:
        folder = store.folder / FOLDER
        named = ((path.parent.name, path.read_bytes()) for path in sorted(_files(folder, split)))
        images, targets = _pictures(named, f"{folder / split}")
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(SHUFFLE_SEED))
    mean, std = (train[0].mean, train[0].std) if train else _statistics(images)
    return Decoded(images[order], targets[order], mean, std)


def _statistics(images: Tensor) -> tuple[list[float], list[float]]:
    numbers = images.float() / 255
    return numbers.mean((0, 2, 3)).tolist(), numbers.std((0, 2, 3)).tolist()


def _files(folder: Path, split: str) -> list[Path]:
    return [path for path in folder.glob(f"{split}/*/*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")]


def _binary(path: Path, split: str) -> tuple[Tensor, Tensor]:
    """Records of one label and 3 x 32 x 32 bytes; five files to train on, one to test."""
    prefix = "data_batch_" if split == "train" else "test_batch"
    records = []
    with tarfile.open(path, "r:gz") as tar:
        for member in sorted(tar.getmembers(), key=lambda m: m.name):
            if PurePosixPath(member.name).name.startswith(prefix) and (file := tar.extractfile(member)):
                records.append(np.frombuffer(file.read(), np.uint8).reshape(-1, 1 + 3 * PX * PX))
    table = torch.from_numpy(np.concatenate(records))
    return table[:, 1:].reshape(-1, 3, PX, PX), table[:, 0].long()


def _tar(path: Path, split: str) -> tuple[Tensor, Tensor]:
    """Members .../split/class/image of an uncompressed tar; nothing is unpacked to disk."""
    named: list[tuple[str, bytes]] = []
    with tarfile.open(path, "r:") as tar:
        for member in sorted((m for m in tar if m.isfile()), key=lambda m: m.name):
            parts = PurePosixPath(member.name).parts
            if len(parts) > 2 and parts[-3] == split and (file := tar.extractfile(member)):
                named.append((parts[-2], file.read()))
    return _pictures(named, f"{path}, {split}")


def _pictures(named: Iterable[tuple[str, bytes]], where: str) -> tuple[Tensor, Tensor]:
    images, targets = [], []
    for label, data in named:
        picture = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        if label not in CLASSES:
            raise UserError(f"{where}: {label!r} is not a class of CIFAR-10; there are: {', '.join(CLASSES)}")
        if picture.shape != (PX, PX, 3):
            raise UserError(
                f"{where}: an image of class {label} is {picture.shape[1]} x {picture.shape[0]} px, not {PX} x {PX}"
            )
        images.append(torch.from_numpy(picture.copy()).permute(2, 0, 1))
        targets.append(CLASSES.index(label))
    if not images:
        raise UserError(f"{where}: no images there; expected split/class/*.jpg or *.png")
    return torch.stack(images), torch.tensor(targets)


DATASETS = {
    NAME: Dataset(
        load,
        key,
        PX,
        len(CLASSES),
        "fetched: CIFAR-10, 50,000 + 10,000 images of 32 px",
        splits=("train", "test"),
        missing=missing,
        recipes={
            "alexnet": Recipe(epochs=14, learning_rate=2e-3, jitter=4),
            "vgg16": Recipe(epochs=14, learning_rate=7e-4, jitter=4),
            "resnet50": Recipe(epochs=14, learning_rate=4e-3, jitter=4),
            "resnet18": Recipe(epochs=14, learning_rate=4e-3, jitter=4),
            "bn_resnet18": Recipe(epochs=14, learning_rate=4e-3, jitter=4),
        },
        conversion=Distillation(taught=50, steps=100, batch=50, learning_rate=3e-4, jitter=4),
        train_seconds=240,
    )
}
NETS = {NAME: NetGroup(NAME, {"alexnet": 0.25, "vgg16": 0.25, "resnet50": 0.125}, "trained", ("subset",))}
