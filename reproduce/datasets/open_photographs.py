"""100 openly licensed photographs with their ImageNet classes: what nets that come with weights are explained on by default.

They lie in ``data/open-photographs`` with the author, licence and page of each. Each file is compared with its hash when
the set is read.
"""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch

from reproduce.datasets.dataset import Dataset
from reproduce.datasets.fetch import Store
from reproduce.datasets.imagenet import IMAGENET_MEAN, IMAGENET_STD, LITE0, WRAPPED
from reproduce.datasets.images import Images, Photographs
from reproduce.datasets.packages import versions
from reproduce.errors import UserError
from reproduce.paths import DATA
from reproduce.scales import NetGroup
from reproduce.training.recipe import Distillation

if TYPE_CHECKING:
    from reproduce.context import Context

NAME, SMALL = "open-photographs", "open-photographs-32px"
FOLDER = DATA / NAME
LIST = "photographs.csv"
PX, SMALL_PX = 227, 32
WAY_OUT = f"restore it with `git checkout data/{NAME}`"


def open_photographs(folder: Path = FOLDER, px: int = PX) -> Images:
    """The photographs in the list's order, resized to ``px``: they are square.

    Raises:
        UserError: the list or a photograph is not there, or a photograph is not the one that the list names.
    """
    table = pd.read_csv(_existing(folder / LIST))
    paths = [_existing(folder / name) for name in table["file"]]
    for path, digest in zip(paths, table["sha256"], strict=True):
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise UserError(f"{path} is not the photograph that {LIST} names: its sha256 is another one; {WAY_OUT}")
    labels = torch.tensor(table["class_index"].tolist())
    return Images(Photographs(tuple(paths), px, px, "bicubic"), labels, IMAGENET_MEAN, IMAGENET_STD, classes=1000)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"{path} is not there; {WAY_OUT}")
    return path


# --- entries ----------------------------------------------------------------------------------------------------------


def load(split: str, context: "Context") -> Images:
    """The photographs at SqueezeNet's 227 px."""
    return open_photographs()


def load_small(split: str, context: "Context") -> Images:
    """The same photographs at 32 px, for timing."""
    return open_photographs(px=SMALL_PX)


def key(store: Store) -> dict[str, str]:
    """The list, which has every file's hash and class, and what decodes the files."""
    digest = hashlib.sha256(_existing(FOLDER / LIST).read_bytes())
    return {"hash": digest.hexdigest()[:16], **versions("pillow")}


SOURCE = "tracked in data/: 100 photographs of Open Images, CC BY 2.0"
NOTE = (
    "These photographs were chosen from images that classifiers get right. They serve attribution; what a net scores on them "
    "estimates no accuracy on ImageNet."
)
CONVERSION = Distillation(taught=50, steps=40, batch=10, learning_rate=3e-5, jitter=14)
DATASETS = {
    NAME: Dataset(load, key, PX, 1000, SOURCE, note=NOTE, conversion=CONVERSION),
    SMALL: Dataset(load_small, key, SMALL_PX, 1000, SOURCE, note=NOTE),
}
NETS = {
    NAME: NetGroup(NAME, {"squeezenet": 1.0}, "package", ("embedded", "subset"), (*WRAPPED, "converted")),
    f"{NAME}-lite0": NetGroup(NAME, LITE0, "package", ("embedded",), WRAPPED),
    SMALL: NetGroup(SMALL, {"torchvision_resnet50": 1.0}, "untrained", ("embedded",)),
}
