"""The memory layout of images: the one a net is fastest in, and operations that keep it where plain torch ones lose it."""

from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

_takes_channels_last: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], bool]] = WeakKeyDictionary()


def suited_format(model: nn.Module, inputs: Tensor) -> Tensor:
    """``inputs`` in the memory layout in which the model's passes are fastest: float32 images channels last, on a CPU.

    Convolutions there work on channels last and translate anything else on the way in and out, whatever the layout of
    their weights. Inputs stay as they are where nothing convolves, where the model refuses (one that calls ``view`` on
    what a convolution puts out) and in training, where a trial would draw dropout masks.
    """
    images = inputs.ndim == 4 and inputs.dtype == torch.float32 and inputs.device.type == "cpu" and len(inputs) > 0
    if not images or is_channels_last(inputs) or model.training:
        return inputs
    if not any(isinstance(module, nn.Conv2d) for module in model.modules()):
        return inputs
    known = _takes_channels_last.setdefault(model, {})
    shape = tuple(inputs.shape[1:])
    if shape not in known:
        known[shape] = _accepts(model, inputs[:1])
    return inputs.contiguous(memory_format=torch.channels_last) if known[shape] else inputs


@torch.no_grad()
def _accepts(model: nn.Module, one: Tensor) -> bool:
    """Does the model take two images (a view may fail on more than one only) channels last? Past the hooks that count passes."""
    two = one.detach().expand(2, *one.shape[1:]).contiguous(memory_format=torch.channels_last)
    try:
        model.forward(two)
    except RuntimeError:
        return False
    return True


def match_format(points: Tensor, inputs: Tensor) -> Tensor:
    """``points`` (N, *F) in the memory layout of ``inputs`` (B, *F)."""
    return points.contiguous(memory_format=torch.channels_last) if is_channels_last(inputs) else points


def index_images(images: Tensor, index: Tensor) -> Tensor:
    """``images[index]`` in the memory layout of ``images`` (R, *F); ``index`` holds places or bools."""
    if not is_channels_last(images):
        return images[index]
    return images.permute(0, 2, 3, 1)[index].movedim(-1, -3)


def sum_first_axis(values: Tensor) -> Tensor:
    """``values`` (K, *S) summed over K, in the memory layout that each of them has."""
    return torch.sum(values, 0, out=torch.empty_like(values[0]))


def is_channels_last(inputs: Tensor) -> bool:
    return inputs.ndim == 4 and inputs.is_contiguous(memory_format=torch.channels_last)
