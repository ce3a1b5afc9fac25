"""CIFAR-10 (Krizhevsky 2009): its publisher's binary archive, a mirror's JPEG copy, or any folder split/class/image.

The Python archive of the same images is a pickle, which could run code; the binary one is labels and bytes.
"""

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from reproduce.cells import Cell, Cells, Tick, Value
from reproduce.datasets.fetch import Store, manifest
from reproduce.datasets.images import Images
from reproduce.errors import UserError

PX = 32
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BINARY, JPEG, FOLDER = "cifar-10-binary.tar.gz", "cifar10-jpeg.tar", "cifar10"
RECIPE = 1  # raise when a change here changes a byte
SHUFFLE_SEED = 10  # the copies list images by class: the first N of this one shuffle are a fair sample


def missing(store: Store) -> str | None:
    """Why it cannot be read, with the way out; None where one of its three forms is there."""
    if any((store.folder / name).exists() for name in (BINARY, JPEG, FOLDER)):
        return None
    return "is not there (make data SCALE=subset)"


def key(store: Store) -> dict[str, str | int]:
    """Which form it has and its hash: JPEG copies are not the publisher's pixels."""
    for name in (BINARY, JPEG):
        if (store.folder / name).exists():
            return {"cifar10": RECIPE, "hash": manifest()[0][name].hash}
    names = sorted(f"{p.relative_to(store.folder)} {p.stat().st_size}" for p in _files(store.folder / FOLDER, "*"))
    return {"cifar10": RECIPE, "hash": hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]}


@lru_cache(maxsize=2)
def load(split: str, cells: Cells, store: Store) -> Images:
    """A split in one fixed shuffle, normalised by the mean and standard deviation of the training images' channels.

    Raises:
        UserError: an image of another size, a class folder that is not one of CIFAR-10's, or a split without images.
        WrongHash: an archive is not the one that the manifest names.
    """
    value = cells.get(_cell(split, store))
    return Images(value["images"], value["targets"], value["mean"], value["std"], classes=len(CLASSES))


def _cell(split: str, store: Store) -> Cell:
    needs = () if split == "train" else (_cell("train", store),)  # whose statistics normalise both
    return Cell(
        f"data cifar10 {split}", {"split": split} | key(store), partial(_decode, split, store), needs, seconds=15
    )


def _decode(split: str, store: Store, tick: Tick, *train: Value) -> Value:
    for name, read in ((BINARY, _binary), (JPEG, _tar)):
        if (store.folder / name).exists():
            images, targets = read(store.path(manifest()[0][name]), split)
            break
    else:
        folder = store.folder / FOLDER
        named = ((path.parent.name, path.read_bytes()) for path in sorted(_files(folder, split)))
        images, targets = _pictures(named, f"{folder / split}")
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(SHUFFLE_SEED))
    statistics = {name: train[0][name] for name in ("mean", "std")} if train else _statistics(images)
    return {"images": images[order], "targets": targets[order]} | statistics


def _statistics(images: Tensor) -> Value:
    numbers = images.float() / 255
    return {"mean": numbers.mean((0, 2, 3)).tolist(), "std": numbers.std((0, 2, 3)).tolist()}


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
    with tarfile.open(path, "r:") as tar:
        members = sorted((m for m in tar if m.isfile()), key=lambda m: m.name)
        parts = [(member, PurePosixPath(member.name).parts) for member in members]
        chosen = [(member, names[-2]) for member, names in parts if len(names) > 2 and names[-3] == split]
        read: Callable[[tarfile.TarInfo], bytes] = lambda member: tar.extractfile(member).read()  # type: ignore[union-attr]  # noqa: E731
        return _pictures(((label, read(member)) for member, label in chosen), f"{path}, {split}")


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
