"""What makes a pass cheap without changing its result: how many points at once, memory, no graph for parameters, stems."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Numbers that one layer may put out in a pass: 32 MB in float32, above which glibc maps a block anew each time it is asked for.
# On a GPU, where none of this was measured, the limit below is reached first by VGG16 and ResNet-50 at 224 px.
LARGEST_OUTPUT = {"cpu": 2**23, "cuda": 2**27}
# Outputs of all layers that may be alive in a pass, 0.5 GB and 4 GB in float32: bounds memory whatever the net.
ACTIVATION_NUMBERS = {"cpu": 2**27, "cuda": 2**30}
# In float64 torch unfolds what it convolves on a CPU, kernel size times the numbers, 8 bytes each: AlexNet's 512 points of 64 px
# took 3 GB. So many times larger an output counts there.
UNFOLDED = 8

_outputs: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], tuple[int, int]]] = WeakKeyDictionary()


def chunk_size(model: nn.Module, inputs: Tensor, chunk: int | None) -> int:
    """How many points to evaluate at once: ``chunk``, or what suits the device, the inputs and the model.

    A pass starts every operation and reads every weight once, however many points it has, so there should be many: on 2
    cores a point of an eighth-width ResNet-50 at 64 px takes 0.57 ms in chunks of 64 and 0.43 ms in chunks of 512, one of
    AlexNet at 224 px 14 ms in chunks of 8 and 10 ms in chunks of 32. The limits are memory, and the size of the largest
    output (a point of an eighth-width VGG16 at 64 px: 0.57 ms in chunks of 128, 1.0 ms in chunks of 1024). Where a single
    point has more weights than outputs, as in VGG16 at 224 px, at least as many points as outweigh them.

    Raises:
        ValueError: chunk below 1.
    """
    if chunk is not None:
        if chunk < 1:
            raise ValueError(f"chunk must be >= 1, got {chunk}")
        return chunk
    kind = inputs.device.type if inputs.device.type in LARGEST_OUTPUT else "cuda"
    if not len(inputs):
        return 1
    if model.training:
        # A look at the net would draw dropout masks or move running statistics: suppose that it puts out 8 times its input.
        return max(1, LARGEST_OUTPUT[kind] // max(1, 8 * inputs[:1].numel()))
    largest, together = _outputs_of(model, inputs[:1])
    if inputs.dtype == torch.float64 and kind == "cpu":
        largest, together = UNFOLDED * largest, UNFOLDED * together
    weights = sum(parameter.numel() for parameter in model.parameters())
    suited = max(LARGEST_OUTPUT[kind] // largest, weights // together)
    return max(1, min(suited, ACTIVATION_NUMBERS[kind] // together))


def evenly(count: int, most: int) -> int:
    """How long are the parts, if ``count`` things are divided into as few as possible of at most ``most``, as equal as can be?"""
    return max(1, -(-count // max(1, -(-count // most))))


@torch.no_grad()
def _outputs_of(model: nn.Module, one: Tensor) -> tuple[int, int]:
    """Numbers that the largest layer and all layers put out for one input, the input among them.

    Looked at once per net and shape, past the hooks that count passes.
    """
    known = _outputs.setdefault(model, {})
    shape = tuple(one.shape[1:])
    if shape not in known:
        numbers = [max(1, one.numel())]

        def note(layer: nn.Module, args: object, output: object) -> None:
            numbers.append(output.numel() if isinstance(output, Tensor) else 0)

        layers = [module for module in model.modules() if module is not model and not list(module.children())]
        handles = [layer.register_forward_hook(note) for layer in layers]
        try:
            model.forward(one)
        finally:
            for handle in handles:
                handle.remove()
        known[shape] = max(numbers), sum(numbers)
    return known[shape]


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
MMAP_BYTES = 2**30  # larger blocks are still mapped one by one, and given back


def keep_freed_memory() -> bool:
    """From here on this process keeps the memory that tensors on the CPU free, as the CUDA allocator does; was that possible?

    glibc gives large freed blocks back to the system until it has learnt their size, and at each pass the pages of its
    activations are then mapped and zeroed anew. In a fresh process an eighth-width VGG16 takes 0.71 ms for a 64 px image in
    batches of 85, and 0.24 ms without that; of a long study up to a tenth is saved. What is held is the most that was in use at
    once. For programs, not for the library: the command line and the benchmarks call it.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # not glibc
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, -1) and mallopt(M_MMAP_THRESHOLD, MMAP_BYTES))


def _channels_last(inputs: Tensor) -> bool:
    return inputs.ndim == 4 and inputs.is_contiguous(memory_format=torch.channels_last)


def like(points: Tensor, inputs: Tensor) -> Tensor:
    """``points`` (N, *F) in the memory layout of ``inputs`` (B, *F); arithmetic may lose channels last, and with it speed."""
    return points.contiguous(memory_format=torch.channels_last) if _channels_last(inputs) else points


def picked(references: Tensor, index: Tensor) -> Tensor:
    """``references[index]`` in the memory layout of ``references`` (R, *F), places or bools: indexing alone loses channels last."""
    if not _channels_last(references):
        return references[index]
    return references.permute(0, 2, 3, 1)[index].movedim(-1, -3)


def summed(values: Tensor) -> Tensor:
    """``values`` (K, *S) summed over K, in the memory layout that each of them has: ``sum`` alone loses channels last."""
    return torch.sum(values, 0, out=torch.empty_like(values[0]))


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No graph is kept for the parameters: saves the memory that their gradients would need."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


@contextmanager
def lean(model: nn.Module, inputs: Tensor) -> Iterator[None]:
    """For first-order gradients with respect to ``inputs``: parameters frozen, stems fast."""
    with frozen(model), fast_stems(model, inputs):
        yield


PRECISIONS = ("float32", "bf16")


@contextmanager
def in_precision(inputs: Tensor, precision: str) -> Iterator[None]:
    """Passes within the block in this precision: "float32" as the net is, or "bf16" by autocast; sums stay float32.

    bf16 is 3 to 6 times faster where the hardware has it and moves Integrated Gradients by 10 to 30 %: whoever asks for it
    should print that error beside the result (the study ``cost`` and the command ``attribute`` do).

    Raises:
        ValueError: another precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; there are: {', '.join(PRECISIONS)}")
    if precision == "float32":
        yield
    else:
        with torch.autocast(inputs.device.type, torch.bfloat16):
            yield


# --- stems ------------------------------------------------------------------------------------------------------------

FEW_CHANNELS = 4  # the CPU library computes output channels in blocks of 16: of a 3-channel input gradient it wastes 13


@contextmanager
def fast_stems(model: nn.Module, inputs: Tensor) -> Iterator[None]:
    """Within the block, strided convolutions of images compute their input gradient in 2.5 to 3 times less time on a CPU.

    AlexNet's 11 x 11 stem is 43 % of its forward and backward pass at 64 px. For first-order gradients with frozen
    parameters; the result differs by rounding only. On other devices and nets without such a layer nothing changes.
    """
    here = inputs.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    stems = [m for m in model.modules() if _is_stem(m)] if here else []
    for stem in stems:
        stem.forward = partial(_stem, stem)  # type: ignore[arg-type]  # _is_stem has looked at the type
    try:
        yield
    finally:
        for stem in stems:
            del stem.forward  # the class's own shows again


def _is_stem(module: nn.Module) -> bool:
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


def _stem(conv: nn.Conv2d, images: Tensor) -> Tensor:
    out: Tensor = _StridedConvolution.apply(images, conv.weight, conv.stride[0], conv.padding)
    return out if conv.bias is None else out + conv.bias.view(-1, 1, 1)


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
        whole = F.pad(weight, (0, s * columns - kernel[1], 0, s * rows - kernel[0])).view(
            out, channels, rows, s, columns, s
        )
        phases = whole.permute(3, 5, 1, 0, 2, 4).reshape(s * s * channels, out, rows, columns).flip(2, 3)
        found = F.conv2d(grad, phases, padding=(rows - 1, columns - 1)).permute(0, 2, 3, 1)  # (B, H', W', s * s * C)
        pixels = found.unflatten(3, (s, s * channels)).transpose(2, 3)  # (B, H', s, W', s * C): whole rows of pixels
        pixels = pixels.reshape(len(grad), s * found.shape[1], s * found.shape[2], channels).permute(0, 3, 1, 2)
        pixels = pixels[:, :, top : top + height, left : left + width]  # beyond the last window is 0
        beyond = (0, width - pixels.shape[3], 0, height - pixels.shape[2])
        return F.pad(pixels, beyond) if any(beyond) else pixels, None, None, None
