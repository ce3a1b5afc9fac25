"""ImageNet photographs: 1,000 that can be fetched, one per class, and 50,000 that the user has to obtain."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch

from reproduce.datasets.dataset import Dataset
from reproduce.datasets.fetch import Store
from reproduce.datasets.images import Images, Photographs
from reproduce.datasets.manifest import Remote, manifest
from reproduce.datasets.packages import versions
from reproduce.errors import UserError
from reproduce.paths import DATA
from reproduce.scales import NetGroup

if TYPE_CHECKING:
    from reproduce.context import Context

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SAMPLE, VAL = "imagenet-sample", "imagenet-val"
SAMPLE_LIST = DATA / "imagenet-sample-images.csv"
SHUFFLE_SEED = 2012  # the first N of this one shuffle of the validation set estimate what all 50,000 do
VAL_IMAGES, VAL_CLASSES = 50_000, 1_000


def _sample_files(store: Store) -> list[Remote]:
    """The files of the list that are in the store, in the list's order (by class)."""
    return [file for file in manifest()[0].values() if file.name.startswith(f"{SAMPLE}/") and store.has(file)]


def sample_missing(store: Store) -> str | None:
    """Why none of them can be read, with the way out; None where some are there."""
    return None if _sample_files(store) else "is not there (make data SCALE=subset)"


def sample_key(store: Store) -> Mapping[str, str | int]:
    """Which of the listed files are there, the list, which has their hashes and classes, and what decodes them."""
    files = _sample_files(store)
    digest = hashlib.sha256(SAMPLE_LIST.read_bytes())
    for file in files:
        digest.update(file.name.encode())
    return {"files": len(files), "hash": digest.hexdigest()[:16], **versions("pillow")}


def imagenet_sample(store: Store) -> Images:
    """What is there of the 1,000 one-per-class photographs, in a fixed shuffle, so that the first N are a fair sample.

    Raises:
        WrongHash: a file is not the one that the list names.
    """
    classes = pd.read_csv(SAMPLE_LIST).set_index("file")["class_index"]
    files = _sample_files(store)
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(SHUFFLE_SEED)).tolist()
    files = [files[i] for i in order]
    paths = tuple(store.path(file) for file in files)
    labels = torch.tensor([int(classes[path.name]) for path in paths])
    return Images(Photographs(paths), labels, IMAGENET_MEAN, IMAGENET_STD, classes=1000)


def val_missing(store: Store) -> str | None:
    """Why it cannot be read, with the way out; None where the archive or the unpacked folder is there."""
    folder = store.folder / "ILSVRC2012"
    if (folder / "val").is_dir() or (folder / "ILSVRC2012_img_val.tar").is_file():
        return None
    manual = manifest()[1]["ILSVRC2012"]
    return f"is not in {folder}: get {' and '.join(manual.files)} from {manual.where}"


def imagenet_val(store: Store) -> Images:
    """ILSVRC2012 validation in one fixed shuffle; torchvision checks the archives' md5 and unpacks them once.

    Raises:
        UserError: an archive is missing or damaged, or the unpacked set is not 50,000 files in 1,000 classes.
    """
    from torchvision.datasets import ImageNet  # half a second to import, and only this data set needs it

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


# --- entries ----------------------------------------------------------------------------------------------------------


def load_sample(split: str, context: "Context") -> Images:
    """What is there of the 1,000 photographs."""
    return imagenet_sample(context.store)


def load_val(split: str, context: "Context") -> Images:
    """The 50,000 photographs."""
    return imagenet_val(context.store)


def val_key(store: Store) -> Mapping[str, str]:
    """torchvision compares the archives with the publisher's hashes; here, what decodes the files."""
    return versions("pillow")


SAMPLE_NOTE = (
    "The 1,000 photographs are very likely training images: EfficientNet-Lite0, whose published top-1 accuracy is about 75 %, "
    "gets 88 % of them right. They serve attribution; accuracies on them estimate none on ImageNet."
)
DATASETS = {
    SAMPLE: Dataset(
        load_sample,
        sample_key,
        224,
        1000,
        "fetched: 1,000 photographs, one per class",
        missing=sample_missing,
        note=SAMPLE_NOTE,
    ),
    VAL: Dataset(
        load_val, val_key, 224, 1000, "ILSVRC2012 validation, which you obtain under its terms", missing=val_missing
    ),
}

PAPER_NETS = {"alexnet": 1.0, "vgg16": 1.0, "resnet50": 1.0}
MFABA_NETS = {"torchvision_inception_v3": 1.0, "torchvision_resnet50": 1.0, "torchvision_vgg16": 1.0}
LITE0 = {"efficientnet_lite0": 1.0}
WRAPPED = ("regular", "wrapped")
NETS = {
    "imagenet-sample-released": NetGroup(SAMPLE, PAPER_NETS, "released", ("subset",)),
    "imagenet-sample-package": NetGroup(SAMPLE, LITE0, "package", ("subset",), WRAPPED),
    "imagenet-sample-torchvision": NetGroup(SAMPLE, MFABA_NETS, "torchvision", ("subset",), ("regular",)),
    "imagenet-val-released": NetGroup(VAL, PAPER_NETS, "released", ("paper",)),
    "imagenet-val-torchvision": NetGroup(VAL, MFABA_NETS, "torchvision", ("paper",), ("regular",)),
}
