"""What every method takes as model, inputs and targets, and what is said of anything else: the front door of the library.

    model    a torch.nn.Module, or any function (B, *F) -> (B, classes). Other outputs: ``xdnn.adapt.Logits``.
    inputs   one floating point tensor (B, *F). Token ids and several inputs: ``xdnn.adapt.Logits`` shows how.
    targets  the classes to explain: one for all (an int), one for each input (a list or a tensor of whole numbers), or
             None for the class that the model predicts, which costs a forward pass.

A function behind ``checks_arguments`` sees a module, checked inputs and targets (B,) int64 on the inputs' device.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from xdnn.adapt import as_module
from xdnn.chunking import chunk_size
from xdnn.logits import Model, all_logits, check_finite
from xdnn.memory_format import suited_format

Targets = int | Sequence[int] | Tensor | None

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

# captum's name -> our names for it, of which a function has one or none
CAPTUM = {
    "target": ("targets",),
    "baselines": ("baseline", "references"),
    "n_steps": ("steps",),
    "method": ("quadrature",),
    "internal_batch_size": ("chunk",),
    "n_samples": ("samples",),
    "nt_samples": ("samples",),
    "stdevs": ("sigma",),
    "perturbations_per_eval": ("chunk",),
}
# captum's name -> what does the same here
ELSEWHERE = {
    "additional_forward_args": "pass them in xdnn.adapt.Logits(model, forward=lambda net, x: net(x, ...))",
    "return_convergence_delta": "xdnn.metrics.agreement.completeness_gap measures it",
    "attribute_to_layer_input": "inputs are what is explained",
}
EXAMPLES = {
    "generator": "torch.Generator().manual_seed(0), which decides its draws",
    "references": "a tensor (R, *F) of ordinary inputs, from which it draws",
}


class Checked(Protocol[P, R_co]):
    """A function of model, inputs and targets that takes whatever ``checks_arguments`` understands."""

    def __call__(
        self, model: Model, inputs: Tensor, targets: Targets = None, *args: P.args, **kwargs: P.kwargs
    ) -> R_co: ...


def checks_arguments(function: Callable[Concatenate[nn.Module, Tensor, Tensor, P], R]) -> Checked[P, R]:
    """The function behind the front door: any model and targets, and a sentence for what does not fit.

    Raises:
        TypeError: a model that cannot be called; inputs that are no tensor; a name that the function does not have, with
            ours for it; something that it needs and was not given.
        ValueError: inputs that are integers or hold NaN; targets that do not fit them or are no whole numbers.
    """
    signature = inspect.signature(function)
    owns_passes = "chunk" in signature.parameters  # so many that another memory layout pays

    @wraps(function)
    def checked(model: Model, inputs: Tensor, targets: Targets = None, *args: P.args, **kwargs: P.kwargs) -> R:
        _check_names(function.__name__, signature, kwargs)
        module = as_module(model)
        check_inputs(inputs)
        if not owns_passes:
            return function(module, inputs, as_targets(module, inputs, targets), *args, **kwargs)
        suited = suited_format(module, inputs)
        found = function(module, suited, as_targets(module, suited, targets), *args, **kwargs)
        return _as_given(found, inputs) if suited is not inputs else found

    shown = dict(signature.parameters)
    shown["model"] = shown["model"].replace(annotation=Model)
    default = shown["targets"].default if _more_follow(signature) else None
    shown["targets"] = shown["targets"].replace(annotation=Targets, default=default)
    checked.__signature__ = signature.replace(parameters=list(shown.values()))  # type: ignore[attr-defined]
    return checked


def _as_given(found: R, inputs: Tensor) -> R:
    """An attribution in the memory layout that its user chose for the inputs; anything else as it is."""
    if isinstance(found, Tensor) and found.shape == inputs.shape:
        return cast(R, found.contiguous())
    return found


def _more_follow(signature: inspect.Signature) -> bool:
    """Does a positional parameter come after the targets, so that they cannot be left out?"""
    *_, last = [p.name for p in signature.parameters.values() if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    return last != "targets"


# --- inputs ---


def check_inputs(inputs: Tensor) -> None:
    """Refuse what would fail later or silently: several inputs, integers, NaN.

    Raises:
        TypeError: no tensor. ValueError: says which and where.
    """
    if not isinstance(inputs, Tensor):
        raise TypeError(_not_a_tensor(inputs))
    if not inputs.is_floating_point():
        raise ValueError(_not_floats(inputs))
    check_finite(inputs, "image {} of the batch contains NaN or infinity")


def _not_a_tensor(inputs: object) -> str:
    if isinstance(inputs, tuple | list):
        return (
            f"inputs must be one tensor, got a {type(inputs).__name__} of {len(inputs)}: join them, "
            "inputs = torch.cat([a, b], 1), and take them apart in an adapter, "
            "model = xdnn.adapt.Logits(model, forward=lambda net, x: net(x[:, :n], x[:, n:]))"
        )
    if isinstance(inputs, Mapping):
        return (
            f"inputs must be one tensor, got a dict with {', '.join(map(repr, list(inputs)[:5]))}: explain one of them and "
            "pass the others in an adapter, "
            "model = xdnn.adapt.Logits(model, forward=lambda net, x: net(inputs_embeds=x, ...))"
        )
    how = ": torch.from_numpy(inputs)" if hasattr(inputs, "__array__") else ""
    return f"inputs must be a tensor (B, *F), got {type(inputs).__name__}{how}"


def _not_floats(inputs: Tensor) -> str:
    if inputs.ndim >= 3:
        return f"inputs must be normalised floats, got {inputs.dtype}: ((inputs / 255) - mean) / std, as the net was trained"
    return (
        f"inputs must be floats, got {inputs.dtype}: whole numbers such as token ids have no gradient, so explain their "
        "embeddings: inputs = net.embedding(ids).detach(), "
        "model = xdnn.adapt.Logits(net, forward=lambda net, x: net(inputs_embeds=x))"
    )


# --- targets ---


def as_targets(model: nn.Module, inputs: Tensor, targets: Targets) -> Tensor:
    """The class to explain of each input, (B,) int64 on the inputs' device. None: what ``model`` predicts.

    Raises:
        ValueError: no whole numbers, or not as many as inputs.
    """
    if targets is None:
        return predicted_classes(model, inputs)
    try:
        found = torch.as_tensor(targets)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"targets must be a class or one for each input, got {targets!r}") from error
    if found.numel() and (found.is_floating_point() or found.is_complex() or found.dtype == torch.bool):
        raise ValueError(
            f"targets must be whole numbers, the classes' places among the logits, got {found.dtype} "
            f"{tuple(found.shape)}; of one-hot rows take targets.argmax(1)"
        )
    found = found.to(inputs.device, torch.int64)
    if found.ndim == 0:
        return found.repeat(len(inputs))
    if found.ndim != 1 or len(found) != len(inputs):
        raise ValueError(f"targets must be ({len(inputs)},) for inputs {tuple(inputs.shape)}, got {tuple(found.shape)}")
    return found


@torch.no_grad()
def predicted_classes(model: nn.Module, inputs: Tensor) -> Tensor:
    """The class with the largest logit, (B,) int64; one forward pass per input."""
    parts = [all_logits(model, part).argmax(1) for part in inputs.split(chunk_size(model, inputs, None)) if len(part)]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64, device=inputs.device)


# --- names ---


def _check_names(function: str, signature: inspect.Signature, given: Mapping[str, Any]) -> None:
    """Refuse names that the function does not have, and draws without a generator."""
    own = signature.parameters
    for name in given:
        if name not in own:
            raise TypeError(_unknown(function, name, list(own)))
    for name, parameter in own.items():
        if name in EXAMPLES and parameter.default is inspect.Parameter.empty and given.get(name) is None:
            raise TypeError(f"{function} needs {name}={EXAMPLES[name]}")
    if not isinstance(given.get("generator"), torch.Generator | None):
        raise TypeError(
            f"generator must be a torch.Generator, got {type(given['generator']).__name__}: {EXAMPLES['generator']}"
        )


def _unknown(function: str, name: str, own: Sequence[str]) -> str:
    if name in ELSEWHERE:
        return f"{function} has no {name}=, which is captum's: {ELSEWHERE[name]}"
    knobs = [other for other in own if other not in ("model", "inputs")]
    if name in CAPTUM:
        ours = [other for other in CAPTUM[name] if other in own]
        if ours:
            return f"{function} has no {name}=, which is captum's name: here it is {ours[0]}="
        return f"{function} has no {name}=, which is captum's name, and nothing of its kind; it has: {', '.join(knobs)}"
    close = get_close_matches(name, own, 1)
    return f"{function} has no {name}=; " + (f"did you mean {close[0]}=?" if close else f"it has: {', '.join(knobs)}")
