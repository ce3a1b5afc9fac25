"""One shape for every image data set: pixels that are read when asked for, targets, and masks where they are known."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from reproduce.errors import UserError


class Pixels(Protocol):
    """(N, 3, H, W) uint8, in memory or on disk."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: slice | Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class Photographs:
    """Files as pixels: decoded, resized and cropped on each access, so that a large set needs no memory.

    Args:
        resize:        shorter side in px before the centre crop of ``size``.
        interpolation: "bilinear" (torchvision's default) or "bicubic".
    """

    paths: tuple[Path, ...]
    resize: int = 256
    size: int = 224
    interpolation: str = "bilinear"

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        (pixels,) = self.read([index])
        return pixels

    def read(self, parts: Iterable[slice | Tensor]) -> Iterator[Tensor]:
        """The pixels of each part in turn, decoded by as many threads as torch has; the next part while one is used.

        Where torch has one thread, each part is decoded when it is asked for, in the caller's thread.

        Raises:
            UserError: a file that is no image.
        """
        chosen = (
            self.paths[part] if isinstance(part, slice) else [self.paths[i] for i in part.tolist()] for part in parts
        )
        decoders = torch.get_num_threads()
        if decoders == 1:
            for paths in chosen:
                yield self._stacked(map(self._pixels, paths))
            return
        # Not torch's DataLoader: it starts processes, which Dask's workers may not. Pillow works without the GIL.
        pool = ThreadPoolExecutor(decoders, "photographs")
        try:
            begun = ([pool.submit(self._pixels, path) for path in paths] for paths in chosen)
            for part, _next in pairwise(chain(begun, [[]])):  # the next part is begun before one is handed out
                yield self._stacked(picture.result() for picture in part)
        finally:
            pool.shutdown(cancel_futures=True)

    def _stacked(self, pictures: Iterable[Tensor]) -> Tensor:
        found = list(pictures)
        return torch.stack(found) if found else torch.empty(0, 3, self.size, self.size, dtype=torch.uint8)

    def _pixels(self, path: Path) -> Tensor:
        return self.decode(self._open(path))

    def decode(self, image: Image.Image) -> Tensor:
        """An RGB picture as resized and cropped pixels (3, size, size) uint8."""
        from torchvision.transforms import v2  # takes a second to load, and who lists data sets reads no files

        mode = v2.InterpolationMode(self.interpolation)
        transform = v2.Compose([v2.Resize(self.resize, mode), v2.CenterCrop(self.size), v2.PILToTensor()])
        pixels: Tensor = transform(image)
        return pixels

    def some(self, index: slice) -> "Photographs":
        """The photographs at these places, not read."""
        return replace(self, paths=self.paths[index])

    def _open(self, path: Path) -> Image.Image:
        try:
            return Image.open(path).convert("RGB")
        except OSError as error:
            raise UserError(f"{path} cannot be read as an image ({error}); fetch it again with `make data`") from error


@dataclass(frozen=True)
class Images:
    """A split of a data set.

    Attributes:
        pixels: (N, 3, H, W) uint8
        targets: (N,) int64
        masks: (N, H, W) bool, true on the pixels that decide the class; None where nobody knows them
        start: which image of the split the first one is: 0, except in a shard
        mean: per channel, of pixels / 255: what the net's inputs are normalised with
        std: as ``mean``
    """

    pixels: Pixels
    targets: Tensor
    mean: Sequence[float]
    std: Sequence[float]
    classes: int
    masks: Tensor | None = None
    start: int = 0

    def __len__(self) -> int:
        return len(self.targets)

    def inputs(self, index: slice | Tensor = slice(None)) -> Tensor:
        """Normalised float32 inputs (n, 3, H, W), channels last in memory: the layout CPU convolutions are fastest in."""
        return self.normalised(self.pixels[index])

    def normalised(self, pixels: Tensor) -> Tensor:
        """Some of the pixels as inputs."""
        mean, std = (torch.tensor(list(v), dtype=torch.float32).view(3, 1, 1) for v in (self.mean, self.std))
        return ((pixels.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)

    def fingerprint(self) -> str:
        """sha256 of targets and pixels (of the files' bytes, for photographs): what provenance calls the data."""
        digest = hashlib.sha256(self.targets.numpy().tobytes())
        if isinstance(self.pixels, Photographs):
            for path in self.pixels.paths:
                digest.update(path.read_bytes())
        else:
            digest.update(self.pixels[:].contiguous().numpy().tobytes())
        return digest.hexdigest()

    def first(self, count: int) -> "Images":
        """The first ``count`` images. Raises UserError where there are fewer."""
        if count > len(self):
            raise UserError(f"{count} images asked for, and the data set has {len(self)}")
        return self.part(0, count)

    def part(self, start: int, stop: int) -> "Images":
        """Images ``start`` to ``stop`` of these."""
        masks = None if self.masks is None else self.masks[start:stop]
        chosen = slice(start, stop)
        # Photographs stay photographs: not read yet, and open to another preprocessing.
        pixels = self.pixels.some(chosen) if isinstance(self.pixels, Photographs) else self.pixels[chosen]
        return replace(self, pixels=pixels, targets=self.targets[chosen], masks=masks, start=self.start + start)

    def preprocessed(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        interpolation: str,
        resize: int | None = None,
        size: int | None = None,
    ) -> "Images":
        """The same photographs as a net with its own preprocessing was trained on.

        Args:
            resize, size: as of Photographs; None: as they are. Images that are no files keep their size.
        """
        pixels = self.pixels
        if isinstance(pixels, Photographs):
            pixels = replace(
                pixels,
                interpolation=interpolation,
                resize=resize or pixels.resize,
                size=size or pixels.size,
            )
        return replace(self, pixels=pixels, mean=mean, std=std)

    def batches(self, size: int, device: torch.device | str = "cpu") -> Iterator[tuple[Tensor, Tensor]]:
        """(inputs, targets) of ``size`` images in order, the last batch possibly smaller; ``Photographs.read`` looks ahead."""
        parts = [slice(start, min(start + size, len(self))) for start in range(0, len(self), size)]
        pixels = self.pixels
        read = pixels.read(parts) if isinstance(pixels, Photographs) else map(pixels.__getitem__, parts)
        for part, chosen in zip(parts, read, strict=True):
            yield self.normalised(chosen).to(device), self.targets[part].to(device)
