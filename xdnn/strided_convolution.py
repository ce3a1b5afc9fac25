"""Strided convolutions of images with a faster input gradient on a CPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEW_CHANNELS = 4  # the CPU library computes output channels in blocks of 16: of a 3-channel input gradient it wastes 13


@contextmanager
def fast_strided_convolutions(model: nn.Module, inputs: Tensor) -> Iterator[None]:
    """Within the block, strided convolutions of images compute their input gradient as a convolution without stride.

    The first layer of AlexNet or ResNet is most of the work of a backward pass on small images, and the CPU library has
    no fast routine for its input gradient. For first-order gradients with frozen parameters; the result differs by
    rounding only. On other devices and nets without such a layer nothing changes.
    """
    here = inputs.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    replaced = [module for module in model.modules() if _replaceable(module)] if here else []
    for layer in replaced:
        layer.forward = partial(_convolve, layer)  # type: ignore[arg-type]  # _replaceable has looked at the type
    try:
        yield
    finally:
        for layer in replaced:
            del layer.forward  # the class's own shows again


def _replaceable(module: nn.Module) -> bool:
    return (
        type(module) is nn.Conv2d
        and "forward" not in vars(module)  # replaced: by somebody who means it, or by this block around another
        and module.in_channels <= FEW_CHANNELS
        and module.stride[0] == module.stride[1] > 1
        and module.groups == 1
        and module.dilation == (1, 1)
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )


def _convolve(layer: nn.Conv2d, images: Tensor) -> Tensor:
    out: Tensor = _StridedConvolution.apply(images, layer.weight, layer.stride[0], layer.padding)
    return out if layer.bias is None else out + layer.bias.view(-1, 1, 1)


class _StridedConvolution(torch.autograd.Function):
    """conv2d whose input gradient is one convolution without stride: the s x s phases of the pixels as output channels.

    With x the padded image and t = r + s j a row of the kernel, out(o) = sum_t w(t) x(s o + t). Pixel s q + r therefore gets
    sum_j w(r + s j) grad(q - j): for each phase r a convolution of grad with every s-th row of the kernel.
    """

    @staticmethod
    def forward(ctx, images: Tensor, weight: Tensor, stride: int, padding: tuple[int, int]) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(weight)
        ctx.size, ctx.stride, ctx.padding = images.shape[2:], stride, padding
        return F.conv2d(images, weight, stride=stride, padding=padding)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[no-untyped-def]
        (weight,) = ctx.saved_tensors
        s, (height, width), (top, left) = ctx.stride, ctx.size, ctx.padding
        out, channels, *kernel = weight.shape
        rows, columns = (-(-k // s) for k in kernel)  # of the kernel, for each phase
        whole = F.pad(weight, (0, s * columns - kernel[1], 0, s * rows - kernel[0]))
        whole = whole.view(out, channels, rows, s, columns, s)
        phases = whole.permute(3, 5, 1, 0, 2, 4).reshape(s * s * channels, out, rows, columns).flip(2, 3)
        found = F.conv2d(grad, phases, padding=(rows - 1, columns - 1)).permute(0, 2, 3, 1)  # (B, H', W', s * s * C)
        pixels = found.unflatten(3, (s, s * channels)).transpose(2, 3)  # (B, H', s, W', s * C): whole rows of pixels
        pixels = pixels.reshape(len(grad), s * found.shape[1], s * found.shape[2], channels).permute(0, 3, 1, 2)
        pixels = pixels[:, :, top : top + height, left : left + width]  # beyond the last window is 0
        beyond = (0, width - pixels.shape[3], 0, height - pixels.shape[2])
        return F.pad(pixels, beyond) if any(beyond) else pixels, None, None, None
