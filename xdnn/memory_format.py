"""Operations that keep the memory layout of images. Plain torch ones lose channels last, and with it speed."""

import torch
from torch import Tensor


def match_format(points: Tensor, inputs: Tensor) -> Tensor:
    """``points`` (N, *F) in the memory layout of ``inputs`` (B, *F)."""
    return points.contiguous(memory_format=torch.channels_last) if _channels_last(inputs) else points


def index_images(images: Tensor, index: Tensor) -> Tensor:
    """``images[index]`` in the memory layout of ``images`` (R, *F); ``index`` holds places or bools."""
    if not _channels_last(images):
        return images[index]
    return images.permute(0, 2, 3, 1)[index].movedim(-1, -3)


def sum_first_axis(values: Tensor) -> Tensor:
    """``values`` (K, *S) summed over K, in the memory layout that each of them has."""
    return torch.sum(values, 0, out=torch.empty_like(values[0]))


def _channels_last(inputs: Tensor) -> bool:
    return inputs.ndim == 4 and inputs.is_contiguous(memory_format=torch.channels_last)
