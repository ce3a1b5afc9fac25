"""Image folders as torchvision reads them, DIR/{train,val}/<class>/<image>, augmented as the X-DNN authors did.

An augmentation is drawn from a generator seeded by (seed, epoch, image): it depends neither on the number of workers or
processes, nor on where a run was interrupted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from reproduce.datasets.imagenet import IMAGENET_MEAN, IMAGENET_STD
from reproduce.datasets.images import Images, Photographs
from reproduce.errors import UserError
from reproduce.randomness import seed_for

RESIZE = 256 / 224  # shorter side before the centre crop, per pixel of the crop; imagenet/val.py
SHUFFLE_SEED = 2012


def layout(device: torch.device) -> torch.memory_format:
    """Channels last where it pays. On CPU it does not for training, and torch 2.14's backward pass of a strided
    convolution on a batch of 3 crashes in it (two threads, 8 channels)."""
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def normalised(pixels: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 as ImageNet nets want it; float32, on the pixels' device, in ``layout``."""
    mean, std = (torch.tensor(v, device=pixels.device).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return ((pixels.float() / 255 - mean) / std).contiguous(memory_format=layout(pixels.device))


class Augmented(Dataset[tuple[Tensor, int]]):
    """Training images: RandomResizedCrop and horizontal flip. Items are asked for as (epoch, index)."""

    def __init__(self, samples: Sequence[tuple[str, int]], image_px: int, seed: int) -> None:
        self.samples, self.seed = samples, seed
        self.transform = v2.Compose([v2.RandomResizedCrop(image_px), v2.RandomHorizontalFlip(), v2.PILToTensor()])

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, at: tuple[int, int]) -> tuple[Tensor, int]:
        epoch, index = at
        path, label = self.samples[index]
        try:
            image = Image.open(path).convert("RGB")
        except OSError as error:
            raise UserError(f"{path} cannot be read as an image ({error})") from error
        state = torch.default_generator.get_state()  # transforms draw from this one, and the loop does too
        torch.default_generator.manual_seed(seed_for(self.seed, "augment", epoch, index))
        pixels: Tensor = self.transform(image)
        torch.default_generator.set_state(state)
        return pixels, label


class Decoded(Dataset[tuple[Tensor, int]]):
    """(pixels, label) of ``images`` one by one, for worker processes."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images.pixels[index : index + 1][0], int(self.images.targets[index])


@dataclass(frozen=True)
class Folders:
    """A folder of classes to train on. Raises UserError where it is not laid out as torchvision expects.

    Attributes:
        root: holds train/<class>/<image> and val/<class>/<image>, the same classes in both.
        image_px: side of the crops.
    """

    root: Path
    image_px: int = 224

    @cached_property
    def train(self) -> ImageFolder:
        return self._split("train")

    @cached_property
    def val(self) -> ImageFolder:
        split = self._split("val")
        if split.classes != self.train.classes:
            odd = sorted(set(split.classes) ^ set(self.train.classes))
            raise UserError(f"{self.root}: train and val differ in {len(odd)} classes, such as {', '.join(odd[:3])}")
        return split

    def _split(self, name: str) -> ImageFolder:
        try:
            return ImageFolder(str(self.root / name))
        except FileNotFoundError as error:
            expected = f"{self.root}/{{train,val}}/<class>/<image>"
            raise UserError(f"{self.root / name} is not a folder of classes ({error}); expected {expected}") from error

    @property
    def classes(self) -> int:
        return len(self.train.classes)

    def augmented(self, seed: int) -> Augmented:
        return Augmented(self.train.samples, self.image_px, seed)

    def validation(self) -> Images:
        """Resize(256/224 of the crop) and CenterCrop, in a fixed shuffle: the first N are a fair sample."""
        order = torch.randperm(len(self.val.samples), generator=torch.Generator().manual_seed(SHUFFLE_SEED)).tolist()
        paths, labels = zip(*(self.val.samples[i] for i in order), strict=True)
        photographs = Photographs(tuple(map(Path, paths)), round(RESIZE * self.image_px), self.image_px)
        return Images(photographs, torch.tensor(labels), IMAGENET_MEAN, IMAGENET_STD, classes=self.classes)
