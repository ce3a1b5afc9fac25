"""Pictures of the user's: found in folders, read with what is wrong said, prepared for a net."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from reproduce.datasets.images import Photographs
from reproduce.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")  # of pictures that are found in a folder


def read_picture(path: Path, preprocessing: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Pixels (3, size, size) uint8 and normalised inputs (1, 3, size, size): shorter side to ``resize`` px, centre crop."""
    photographs = Photographs((), preprocessing["resize"], preprocessing["size"], preprocessing["interpolation"])
    pixels = photographs.decode(open_picture(path))
    mean, std = (torch.tensor(preprocessing[name]).view(3, 1, 1) for name in ("mean", "std"))
    return pixels, ((pixels.float() / 255 - mean) / std)[None]


def open_picture(path: Path) -> Image.Image:
    """A picture as 8-bit RGB; 16-bit grey is scaled to it, not clipped.

    Raises:
        UserError: no such file, one that is no whole picture, or pixels that have no known range.
    """
    if not path.is_file():
        raise UserError(f"{path} is not a file; name a picture, e.g. photo.jpg")
    try:
        with Image.open(path) as file:
            file.load()  # all of it: the header of a file that was cut short is whole
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise UserError(f"{path} cannot be read as a picture ({error}); use a PNG or a JPEG") from error
    if file.mode == "I" or file.mode.startswith("I;16"):
        grey = np.asarray(file).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65_535:
            raise UserError(f"{path} has 32-bit pixels, whose range is not known; save it with 8 or 16 bits")
        return Image.fromarray((grey / 257).round().astype(np.uint8)).convert("RGB")
    if file.mode == "F":
        raise UserError(f"{path} has floating point pixels, whose range is not known; save it with 8 or 16 bits")
    return file.convert("RGB")


def find_pictures(places: Sequence[Path]) -> list[Path]:
    """Files as they are named, and every picture of folders and of what is in them. Raises UserError where there is none."""
    out: list[Path] = []
    for place in places:
        if place.is_dir():
            found = sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES)
            if not found:
                raise UserError(f"no PNG, JPEG or WebP in {place}; name a folder of pictures")
            out += found
        elif place.is_file():
            out.append(place)
        else:
            raise UserError(f"{place} is not a file; name a picture, e.g. photo.jpg, or a folder of pictures")
    return out


def read_references(folder: Path, preprocessing: Mapping[str, Any]) -> Tensor:
    """Every picture of a folder as normalised inputs (R, 3, size, size). Raises UserError where there is none."""
    return torch.cat([read_picture(file, preprocessing)[1] for file in find_pictures([folder])])
