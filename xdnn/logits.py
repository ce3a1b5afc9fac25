"""The number that is explained, F_target(x), and the checks of what a net gives and of what is measured."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, fx

Model = Callable[[Tensor], Any]  # a torch.nn.Module or any function of inputs (B, *F)

NO_GRADIENT = (
    "the model's logits have no gradient with respect to its inputs: somewhere it detaches them, leaves torch, or runs "
    "under torch.no_grad()"
)


def check_finite(values: Tensor, message: str = "the attribution of image {} of the batch has NaN or infinity") -> None:
    """Refuse NaN and infinity in ``values`` (B, *F).

    Raises:
        ValueError: ``message`` with the place in the batch of the first that is not finite.
    """
    values = values.detach()
    if torch.isfinite(values.sum()):  # one read; a sum may also overflow, so look again before refusing
        return
    finite = torch.isfinite(values).reshape(len(values), -1).all(1)
    if not finite.all():
        raise ValueError(message.format(int((~finite).nonzero()[0])))


def all_logits(model: Model, inputs: Tensor) -> Tensor:
    """F(x), (B, classes), with the graph where inputs ask for it.

    Raises:
        TypeError: the model's output is no tensor. ValueError: it is not (B, classes). Both name ``xdnn.adapt.Logits``.
    """
    found = model(inputs)
    if not isinstance(found, Tensor):
        if isinstance(found, fx.Proxy):  # a tracer looks at the net without data
            return cast(Tensor, found)
        raise TypeError(
            f"the model returns {_kind(found)}, and methods explain logits, a tensor (B, classes): wrap it once, "
            f"model = xdnn.adapt.Logits(model), which takes {_taken(found)}; or say what to take, "
            "xdnn.adapt.Logits(model, forward=lambda net, x: ...)"
        )
    if found.ndim != 2 or found.shape[0] != inputs.shape[0]:
        raise ValueError(_of_another_shape(found, inputs))
    return found


def checked_logits(model: Model, inputs: Tensor, targets: Tensor) -> Tensor:
    """F(x) as ``all_logits``, of which each target is a class.

    Raises:
        ValueError: a target is not one of the net's classes, or logits that inputs with a gradient do not reach.
    """
    logits = all_logits(model, inputs)
    if inputs.requires_grad and torch.is_grad_enabled() and not logits.requires_grad:
        raise ValueError(NO_GRADIENT)
    if len(targets) and (int(targets.min()) < 0 or int(targets.max()) >= logits.shape[1]):
        found = f"{int(targets.min())}..{int(targets.max())}"
        raise ValueError(f"targets must be in 0..{logits.shape[1] - 1}, got {found}")
    return logits


def of_targets(values: Tensor, targets: Tensor) -> Tensor:
    """Of ``values`` (B, classes) each row's target, (B,)."""
    return values.gather(1, targets[:, None]).squeeze(1)


def target_logits(model: Model, inputs: Tensor, targets: Tensor) -> Tensor:
    """F_target(x), (B,), checked as by ``checked_logits``."""
    return of_targets(checked_logits(model, inputs, targets), targets)


def input_gradient(
    score: Tensor, inputs: Tensor, *, create_graph: bool = False, retain_graph: bool | None = None
) -> Tensor:
    """d score / d inputs of scores (B,) or their sum. Rows are independent: the sum keeps them apart.

    Raises:
        ValueError: the score does not depend on the inputs.
    """
    (found,) = torch.autograd.grad(
        score.sum(), inputs, create_graph=create_graph, retain_graph=retain_graph, allow_unused=True
    )
    if found is None:
        raise ValueError(NO_GRADIENT)
    return found


# --- what is said of other outputs ---


def _kind(output: object) -> str:
    if isinstance(output, tuple | list) and type(output) in (tuple, list):
        return f"a {type(output).__name__} of {len(output)}"
    if type(output) is dict:
        return f"a dict with {', '.join(map(repr, list(output)[:5]))}"
    return f"an object of type {type(output).__name__}"


def _taken(output: object) -> str:
    """What ``xdnn.adapt.Logits`` takes of an output, in words."""
    if hasattr(output, "logits"):
        return "its .logits"
    if isinstance(output, dict):
        return "its entry 'logits' or 'out', or the only one"
    return "the first of a tuple" if isinstance(output, tuple | list) else "a tensor, .logits, an entry or the first"


def _of_another_shape(found: Tensor, inputs: Tensor) -> str:
    """The complaint about an output that is not (B, classes). B is whatever goes through together: chunks are not the user's."""
    rows, given = (found.shape[0] if found.ndim else 0), inputs.shape[0]
    share = "B" if rows == given else f"{rows // given} B" if given and rows and rows % given == 0 else str(rows)
    shape = f"({', '.join([share, *map(str, found.shape[1:])])}{',' * (found.ndim == 1)})" if found.ndim else "()"
    features = ", ".join(["B", *map(str, inputs.shape[1:])]) + "," * (inputs.ndim == 1)
    said = f"the model gives {shape} for a batch of inputs ({features}); expected (B, classes)"
    if found.ndim == 1 and rows == given:
        return f"{said}: for one number an input, as of a regression, wrap it once, model = xdnn.adapt.Logits(model)"
    if rows == given:
        return f"{said}: say which number is a class's, e.g. xdnn.adapt.Logits(model, forward=lambda net, x: net(x).flatten(2).mean(2))"
    return f"{said}: each row of a batch needs an output of its own; one input needs a batch too, inputs[None]"
