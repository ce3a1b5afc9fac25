"""How many points a pass takes at once: many, because each pass has a fixed cost, and few enough for the memory."""

from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from xdnn.allocator import keeps_freed_memory

# Numbers that one layer may put out in a pass: 32 MB in float32, above which glibc maps a block anew each time it is asked
# for. On a GPU, where none of this was measured, the limit below is reached first by VGG16 and ResNet-50 at 224 px.
LARGEST_OUTPUT = {"cpu": 2**23, "cuda": 2**27}
# Points from which on torch gives convolutions of one pixel to oneDNN on a single thread, too. Where blocks of any size are
# recycled, there are at least so many: 4 to 12 % faster than 4 to 10 on SqueezeNet, EfficientNet-Lite0, ResNet-50 and VGG16.
FEWEST_RECYCLED = 16
# Outputs of all layers that may be alive in a pass, 1 GB and 4 GB in float32: bounds memory whatever the net.
ACTIVATION_NUMBERS = {"cpu": 2**28, "cuda": 2**30}
# In float64 torch unfolds what it convolves on a CPU, kernel size times the numbers, 8 bytes each. An output counts so many
# times larger there.
UNFOLDED = 8
TRAINING_OUTPUTS = (
    8  # a net in training, or a ScriptModule, is not looked at: suppose its largest output to be so many inputs
)

_outputs: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], tuple[int, int]]] = WeakKeyDictionary()


def chunk_size(model: nn.Module, inputs: Tensor, chunk: int | None) -> int:
    """How many points to evaluate at once: ``chunk``, or what suits the device, the inputs and the model.

    A pass starts every operation and reads every weight once, however many points it has, so there should be many. The
    limits are memory, and the size of the largest output: what does not fit a processor's cache or a recycled block of
    memory is slower (``allocator.keep_freed_memory`` recycles all). Where a single point has more weights than outputs,
    as in VGG16 at 224 px, at least as many points as outweigh them.

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
    if model.training:  # a look would draw dropout masks or move running statistics
        return max(1, LARGEST_OUTPUT[kind] // max(1, TRAINING_OUTPUTS * inputs[:1].numel()))
    largest, together = _outputs_of(model, inputs[:1])
    if inputs.dtype == torch.float64 and kind == "cpu":
        largest, together = UNFOLDED * largest, UNFOLDED * together
    weights = sum(parameter.numel() for parameter in model.parameters())
    fewest = FEWEST_RECYCLED if kind == "cpu" and keeps_freed_memory() else 1
    suited = max(LARGEST_OUTPUT[kind] // largest, weights // together, fewest)
    return max(1, min(suited, ACTIVATION_NUMBERS[kind] // together))


def equal_parts(count: int, most: int) -> int:
    """How long the parts are if ``count`` things are divided into as few as possible of at most ``most``, as equal as can be."""
    return max(1, -(-count // max(1, -(-count // most))))


@torch.no_grad()
def _outputs_of(model: nn.Module, one: Tensor) -> tuple[int, int]:
    """Numbers that the largest layer and all layers put out for one input, the input among them.

    Looked at once per net and shape, past the hooks that count passes.
    """
    known = _outputs.setdefault(model, {})
    shape = tuple(one.shape[1:])
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):  # their layers take no hooks
        return TRAINING_OUTPUTS * one.numel(), TRAINING_OUTPUTS * one.numel()
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
