"""Proof from a net's traced graph that it is homogeneous of degree 1, by the tables of ``rules``."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import fx, nn

from xdnn.homogeneity.errors import NotHomogeneousError
from xdnn.homogeneity.rules import (
    ADVICE,
    CONSTANT_ATTRIBUTES,
    HOMOGENEOUS,
    IN_PLACE,
    LINEAR,
    OF_ONE,
    OWN_LAYERS,
    RULES,
    SIGNAL_RESULTS,
    Operand,
    Rule,
)
from xdnn.homogeneity.wrapper import HomogeneousWrapper


class _LayerTracer(fx.Tracer):
    """Traces into the net's own modules and stops at the layers that are known as a whole."""

    def is_leaf_module(self, module: nn.Module, path: str) -> bool:
        return isinstance(module, OWN_LAYERS) or super().is_leaf_module(module, path)


def check_homogeneous(model: nn.Module) -> None:
    """Prove from its traced graph that ``model`` is homogeneous of degree 1 in eval mode.

    The input is the first argument of its forward. The graph holds layers and torch calls; a hook that changes what a
    layer returns is not in it.

    Raises:
        NotHomogeneousError: the first operation that breaks it, with its path; or the reason why there is no graph.
    """
    refuse_what_hides_layers(model)
    tracer = _LayerTracer()
    if tracer.is_leaf_module(model, ""):
        _check_layer("the net", model)
        return
    try:
        with _in_eval_mode(model):
            graph = tracer.trace(model)
    except Exception as error:  # tracing runs the user's forward with proxies: it may fail in any way
        raise NotHomogeneousError(
            f"{type(model).__name__} cannot be traced ({error}), so its functional calls cannot be seen: "
            "write its forward without control flow on tensors, or use HomogeneousWrapper"
        ) from error
    _check_graph(graph, dict(model.named_modules()))


def refuse_what_hides_layers(model: nn.Module) -> None:
    """Raises NotHomogeneousError for a function or a ScriptModule."""
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        kind = "a ScriptModule" if isinstance(model, nn.Module) else f"of type {type(model).__name__}"
        raise NotHomogeneousError(
            f"the net is {kind}, which hides its layers: give the torch.nn.Module that it was made from"
        )


_known: WeakKeyDictionary[nn.Module, tuple[object, str]] = WeakKeyDictionary()


def what_breaks_homogeneity(model: nn.Module) -> str:
    """The complaint of ``check_homogeneous`` about ``model``, "" where there is none.

    Looked at once per net, and again when a layer comes, goes, or gets or loses its bias.
    """
    structure = tuple((type(module), getattr(module, "bias", None) is None) for module in model.modules())
    known, reason = _known.get(model, (None, ""))
    if known != structure:
        try:
            check_homogeneous(model)
            reason = ""
        except NotHomogeneousError as error:
            reason = str(error)
        _known[model] = structure, reason
    return reason


@contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _check_graph(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> None:
    """Follow the signals from the first placeholder to the output."""
    first = next(node for node in graph.nodes if node.op in ("placeholder", "output"))
    signals = {first} if first.op == "placeholder" else set()
    for node in graph.nodes:
        if node.op == "output":
            complaint = _complaint(Operand.SIGNAL, node.args[0], signals)
            if complaint:
                raise NotHomogeneousError(f"the output {complaint}")
        elif signals.isdisjoint(node.all_input_nodes):
            continue
        elif node.op == "call_module":
            path = str(node.target)
            _check_layer(path, modules[path])
            _check_operands(path, type(modules[path]).__name__, (OF_ONE,), node, signals)
            signals.add(node)
        elif _is_signal(node, signals):
            signals.add(node)


def _check_layer(path: str, module: nn.Module) -> None:
    name = type(module).__name__
    if "forward" in vars(module):
        raise NotHomogeneousError(f"{path}: the forward of {name} has been replaced, so what it does is not known")
    if isinstance(module, LINEAR):
        if module.bias is not None:
            raise NotHomogeneousError(f"{path}: {name} has a bias")
    elif not isinstance(module, HOMOGENEOUS):
        advice = ADVICE.get(name, "no X-variant of it exists; HomogeneousWrapper takes any net")
        raise NotHomogeneousError(f"{path}: {name} is not positively homogeneous ({advice})")
    elif isinstance(module, HomogeneousWrapper) and not module.homogeneous:
        raise NotHomogeneousError(
            f"{path}: {name} is homogeneous about its baseline, not about 0: take wrapped_x_gradient, or no offset and the "
            "baseline 0"
        )
    elif getattr(module, "return_indices", False):
        raise NotHomogeneousError(f"{path}: {name} returns indices, which do not scale with the input")


def _is_signal(node: fx.Node, signals: set[fx.Node]) -> bool:
    """Is the result of a call with a signal a signal too? Raises where the operation breaks homogeneity."""
    called = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    where, name = _where(node), IN_PLACE.get(called, called)
    if called == "getattr" and node.args[1] in CONSTANT_ATTRIBUTES:
        return False
    if name not in RULES:
        what = f"attribute {node.args[1]}" if called == "getattr" else f"function {called}"
        raise NotHomogeneousError(f"{where}: {what} is not known to be positively homogeneous")
    if called in IN_PLACE and node.args[0] not in signals:
        raise NotHomogeneousError(f"{where}: {called} changes a constant in place")
    for value in (*node.args, *node.kwargs.values()):
        if isinstance(value, torch.dtype) and not value.is_floating_point:
            raise NotHomogeneousError(f"{where}: {called} rounds to {value}")
    _check_operands(where, called, RULES[name], node, signals)
    return name in SIGNAL_RESULTS


def _check_operands(where: str, called: str, rules: tuple[Rule, ...], node: fx.Node, signals: set[fx.Node]) -> None:
    """Raises the complaint about the first rule where none is kept."""
    complaints = [_broken(rule, node, signals) for rule in rules]
    if all(complaints):
        raise NotHomogeneousError(f"{where}: in {called}, {complaints[0]}")


def _broken(rule: Rule, node: fx.Node, signals: set[fx.Node]) -> str:
    """The first operand that is not what the rule says; "" where all are."""
    names = [*rule, *(f"operand {i + 1}" for i in range(len(rule), len(node.args)))]
    given = dict(zip(names, node.args, strict=False)) | node.kwargs
    for name in dict.fromkeys([*rule, *given]):
        required = Operand.ABSENT if name == "out" else rule.get(name, Operand.CONSTANT)
        complaint = _complaint(required, given.get(name), signals)
        if complaint:
            return f"{name} {complaint}"
    return ""


def _complaint(required: Operand, value: Any, signals: set[fx.Node]) -> str:
    scales, nodes = _scales(value, signals), _nodes(value)
    kept = {
        Operand.SIGNAL: scales,
        Operand.SIGNAL_OR_ZERO: scales or (isinstance(value, int | float) and value == 0),
        Operand.CONSTANT: signals.isdisjoint(nodes),
        Operand.ABSENT: not nodes and not value,
        Operand.FALSE: value is False,
    }[required]
    return "" if kept else required.value.format(_describe(value, signals))


def _scales(value: Any, signals: set[fx.Node]) -> bool:
    """Is it a signal, or does it consist of signals only?"""
    parts = list(value.values()) if isinstance(value, dict) else value
    if isinstance(parts, list | tuple):
        return bool(parts) and all(_scales(part, signals) for part in parts)
    return isinstance(value, fx.Node) and value in signals


def _nodes(value: Any) -> list[fx.Node]:
    """All nodes within an operand: in lists, dicts and slices too."""
    found: list[fx.Node] = []

    def note(node: fx.Node) -> fx.Node:
        found.append(node)
        return node

    fx.node.map_arg(value, note)
    return found


def _describe(value: Any, signals: set[fx.Node]) -> str:
    """The constants among the parts of an operand; its signals where it has none."""
    parts = value if isinstance(value, list | tuple) else [value]
    constants = [part for part in parts if not _scales(part, signals)]
    return ", ".join(str(part.target) if isinstance(part, fx.Node) else repr(part) for part in constants or parts)


def _where(node: fx.Node) -> str:
    """Path of the module whose forward makes the call."""
    paths = [str(path) for path in node.meta.get("nn_module_stack") or {}]
    return paths[-1] if paths and paths[-1] else "forward"
