"""ImageNet photographs: the 20 that foolbox ships."""

import re

import torch

from reproduce.datasets.images import Images, Photographs
from reproduce.datasets.packages import package_folder

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def imagenet_20(resize: int = 256, size: int = 224) -> Images:
    """foolbox's 20 ImageNet photographs with their class indices: Resize(256), CenterCrop(224), ImageNet mean and std."""
    paths = sorted((package_folder("foolbox") / "data").glob("imagenet_*"))
    labels = [int(re.fullmatch(r"imagenet_\d+_(\d+)", path.stem)[1]) for path in paths]  # type: ignore[index]
    return Images(
        Photographs(tuple(paths), resize, size), torch.tensor(labels), IMAGENET_MEAN, IMAGENET_STD, classes=1000
    )
