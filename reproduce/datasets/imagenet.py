"""ImageNet photographs: 20 inside foolbox, 1,000 that can be fetched one per class, 50,000 that the user has to obtain."""

import hashlib
import re
from functools import lru_cache
from pathlib import Path

import pandas as pd
import torch
from torchvision.datasets import ImageNet

from reproduce.datasets.fetch import MANIFEST, Remote, Store, manifest
from reproduce.datasets.images import Images, Photographs
from reproduce.datasets.packages import package_folder
from reproduce.errors import UserError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SAMPLE = "imagenet-sample"
SHUFFLE_SEED = 2012  # the first N of this one shuffle of the validation set estimate what all 50,000 do
VAL_IMAGES, VAL_CLASSES = 50_000, 1_000


def imagenet_20(resize: int = 256, size: int = 224) -> Images:
    """foolbox's 20 ImageNet photographs with their class indices: Resize(256), CenterCrop(224), ImageNet mean and std."""
    paths = sorted((package_folder("foolbox") / "data").glob("imagenet_*"))
    labels = [int(re.fullmatch(r"imagenet_\d+_(\d+)", path.stem)[1]) for path in paths]  # type: ignore[index]
    return Images(
        Photographs(tuple(paths), resize, size), torch.tensor(labels), IMAGENET_MEAN, IMAGENET_STD, classes=1000
    )


def _sample_files(store: Store) -> list[Remote]:
    """The files of the list that are in the store, in the list's order (by class)."""
    return [file for file in manifest()[0].values() if file.name.startswith(f"{SAMPLE}/") and store.has(file)]


def imagenet_sample_missing(store: Store) -> str | None:
    return None if _sample_files(store) else "is not there (make data SCALE=subset)"


def imagenet_sample_key(store: Store) -> dict[str, str | int]:
    """Which of the listed files are there: their hashes are in the list, so the names decide the bytes."""
    files = _sample_files(store)
    return {"files": len(files), "hash": hashlib.sha256("".join(file.hash for file in files).encode()).hexdigest()[:16]}


@lru_cache(maxsize=2)
def imagenet_sample(store: Store) -> Images:
    """What is there of the 1,000 one-per-class photographs, in a fixed shuffle, so that the first N are a fair sample.

    Raises:
        WrongHash: a file is not the one that the list names.
    """
    classes = pd.read_csv(MANIFEST.parent / "imagenet-sample-images.csv").set_index("file")["class_index"]
    files = _sample_files(store)
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(SHUFFLE_SEED)).tolist()
    files = [files[i] for i in order]
    paths = tuple(store.path(file) for file in files)
    labels = torch.tensor([int(classes[path.name]) for path in paths])
    return Images(Photographs(paths), labels, IMAGENET_MEAN, IMAGENET_STD, classes=1000)


def imagenet_val_missing(store: Store) -> str | None:
    folder = store.folder / "ILSVRC2012"
    if (folder / "val").is_dir() or (folder / "ILSVRC2012_img_val.tar").is_file():
        return None
    manual = manifest()[1]["ILSVRC2012"]
    return f"is not in {folder}: get {' and '.join(manual.files)} from {manual.where}"


@lru_cache(maxsize=2)
def imagenet_val(store: Store) -> Images:
    """ILSVRC2012 validation in one fixed shuffle; torchvision checks the archives' md5 and unpacks them once.

    Raises:
        UserError: an archive is missing or damaged, or the unpacked set is not 50,000 files in 1,000 classes.
    """
    try:
        dataset = ImageNet(store.folder / "ILSVRC2012", split="val")
    except RuntimeError as error:
        raise UserError(f"ILSVRC2012 in {store.folder / 'ILSVRC2012'}: {error}") from error
    if len(dataset.samples) != VAL_IMAGES or len(dataset.classes) != VAL_CLASSES:
        raise UserError(
            f"{dataset.split_folder} has {len(dataset.samples)} files in {len(dataset.classes)} classes, "
            f"not {VAL_IMAGES} in {VAL_CLASSES}; remove the folder and run again to unpack the archive"
        )
    order = torch.randperm(VAL_IMAGES, generator=torch.Generator().manual_seed(SHUFFLE_SEED)).tolist()
    paths, labels = zip(*(dataset.samples[i] for i in order), strict=True)
    return Images(
        Photographs(tuple(Path(p) for p in paths)), torch.tensor(labels), IMAGENET_MEAN, IMAGENET_STD, classes=1000
    )
