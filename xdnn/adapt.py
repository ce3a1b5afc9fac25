"""Adapters: nets and functions that are called or answer in another way, as methods want them, (B, *F) -> (B, classes)."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, fx, nn

NAMES = ("logits", "out")  # of a dict's entry that holds the logits: transformers', torchvision's segmentation


class Function(nn.Module):
    """A function as a module: what a method asks a net beside its output has an answer. In eval mode, for it has no other."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function
        self.training = False

    def forward(self, inputs: Tensor) -> Any:
        return self.function(inputs)


class Logits(nn.Module):
    """A net, or any function, whose output is made logits (B, classes).

        Logits(net)                                                          # an output with .logits, a dict, a tuple, (B,)
        Logits(net, forward=lambda net, x: net(inputs_embeds=x))             # embeddings instead of token ids
        Logits(net, forward=lambda net, x: net(x[:, :3], x[:, 3:]))          # two inputs, joined by torch.cat
        Logits(net, forward=lambda net, x: net(x, ages.expand(len(x), -1)))  # a second input that is not explained

    Of the output is taken: a tensor as it is; ``.logits``; of a dict "logits", "out" or its only entry; of a tuple or list
    the first. One number for each input, (B,), becomes (B, 1), whose only class is 0. Methods evaluate many points at once,
    so ``forward`` must take any number of rows.

    Args:
        model:   a module, whose mode, layers and parameters methods see; or a function.
        forward: (model, inputs) -> output; default ``model(inputs)``.

    Raises:
        TypeError: a model that cannot be called.
    """

    def __init__(self, model: Callable[..., Any], *, forward: Callable[[Any, Tensor], Any] | None = None) -> None:
        super().__init__()
        self.model = as_module(model)
        self.run = forward
        self.training = self.model.training

    def forward(self, inputs: Tensor) -> Any:
        """Raises TypeError for an output of which nothing says what the logits are."""
        own = self.model.function if isinstance(self.model, Function) else self.model
        return _logits_of(own(inputs) if self.run is None else self.run(own, inputs))


def as_module(model: Callable[..., Any]) -> nn.Module:
    """The model itself where it is a module, else the function as one.

    Raises:
        TypeError: it cannot be called.
    """
    if isinstance(model, nn.Module):
        return model
    if not callable(model):
        raise TypeError(
            f"model must be a torch.nn.Module or a function (B, *F) -> (B, classes), got {type(model).__name__}"
        )
    return Function(model)


def _logits_of(output: Any) -> Any:
    if isinstance(output, fx.Proxy):  # a tracer looks at the net without data
        return output
    if isinstance(output, Tensor):
        return output[:, None] if output.ndim == 1 else output
    if hasattr(output, "logits"):
        return _logits_of(output.logits)
    if isinstance(output, Mapping):
        named = [name for name in NAMES if name in output] or (list(output) if len(output) == 1 else [])
        if named:
            return _logits_of(output[named[0]])
        found = f"a dict with {', '.join(map(repr, output))}"
    elif isinstance(output, tuple | list) and output:
        return _logits_of(output[0])
    else:
        found = f"an object of type {type(output).__name__}"
    raise TypeError(
        f"the model returns {found}, and nothing says what of it the logits are: name it, e.g. "
        "xdnn.adapt.Logits(model, forward=lambda net, x: net(x)['scores'])"
    )
