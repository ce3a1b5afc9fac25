"""Methods and metrics held against each other on a user's own net and data.

from reproduce.evaluate import evaluate
evaluate(model, loader)                                              # a row for each method and metric
evaluate(model, [(inputs, targets)], methods=["gradient"], metrics=["kpm", "insertion"])
"""

import inspect
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from reproduce import plugins
from reproduce.errors import UserError
from reproduce.randomness import generator
from reproduce.scales import nearest
from reproduce.statistics import mean_interval
from xdnn import METHODS, METRICS, Method, Metric, NotHomogeneousError, NotSupportedError
from xdnn.adapt import as_module
from xdnn.arguments import as_targets, check_inputs
from xdnn.logits import target_logits
from xdnn.metrics.insertion_deletion import insertion_deletion
from xdnn.metrics.masks import METRICS as MASKING
from xdnn.metrics.masks import mask_metrics
from xdnn.passes import count_passes

# Those that cost at most as many passes as Integrated Gradients with 128 points; "all" stands for every method.
DEFAULT_METHODS = (
    "random",
    "gradient",
    "smoothgrad",
    "input_x_gradient",
    "x_gradient",
    "wrapped_x_gradient",
    "integrated_gradients_128",
)
KINDS = ("mask", "masking", "curve", "model", "method", "sum", "spread", "pair")  # of metrics of an attribution
IMAGE_KINDS = ("mask", "masking", "curve", "model")
HOMOGENEITY = "homogeneity"  # the only axiom that can be tried without a second net
FACTOR = 2.0  # a of A(a x) = a A(x)
PAIRED_WITH = "integrated_gradients_128"  # what metrics of a pair compare with
# Measured only where they are named: eleven attributions an image; a second attribution; a number for a whole batch.
COSTLY = ("max_sensitivity", "relative_l1", "mard")
CURVE_STEPS = 32  # of insertion and deletion
COLUMNS = ("method", "metric", "unit", "better", "value", "low", "high", "n", "passes", "seconds", "reason")

Row = dict[str, Any]
REFUSALS = (NotHomogeneousError, NotSupportedError, ValueError, RuntimeError, ImportError)


def evaluate(
    model: Callable[..., Any],
    data: Iterable[Sequence[Any]],
    methods: Sequence[str] = DEFAULT_METHODS,
    metrics: Sequence[str] | None = None,
    *,
    references: Tensor | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> pd.DataFrame:
    """Each method by each metric on any net and any data.

    Args:
        model:      a module or a function (B, *F) -> (B, classes); run in the mode that it is in.
        data:       batches (inputs, targets), or (inputs, targets, masks) where the deciding pixels (B, H, W) bool are known.
                    Targets as every method takes them: None is the predicted class.
        methods:    names of ``xdnn.METHODS``; "all" is every one.
        metrics:    names of ``xdnn.METRICS``; default: all that apply to a method and a net, but for COSTLY. Those of a
                    plugin too: a curve's gets the deletion curve where its name begins with "deletion", else insertion's;
                    a pair's gets Integrated Gradients with 128 points as reference.
        references: (R, *F), for methods that draw some; default: the inputs of the first batch.

    Returns:
        Columns COLUMNS: the mean over images with its 95 % interval and n, passes and seconds for each image, and in
        ``reason`` why there is no value.

    Raises:
        UserError: an unknown method or metric. TypeError, ValueError: a net or data that no method can take.
    """
    rows = evaluation_rows(model, data, methods, metrics, references=references, seed=seed, device=device)
    return pd.DataFrame(list(rows), columns=list(COLUMNS))


def evaluation_rows(
    model: Callable[..., Any],
    data: Iterable[Sequence[Any]],
    methods: Sequence[str] = DEFAULT_METHODS,
    metrics: Sequence[str] | None = None,
    *,
    references: Tensor | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Iterator[Row]:
    """The rows of ``evaluate``, method by method, so that those of finished methods are kept where a run is interrupted."""
    names, measured = find_methods(methods), find_metrics(metrics)
    net = as_module(model).to(device)
    batches = [_batch(net, batch, device) for batch in data]
    if not batches:
        raise ValueError("there is nothing to evaluate on: the data has no batch")
    pool = batches[0][0] if references is None else references.to(device)
    for name in names:
        try:
            found = list(_of_method(net, name, measured, batches, pool, seed))
        except REFUSALS as error:
            reason = str(error).partition("\n")[0]
            found = [_row(name, metric, reason=reason) for metric in measured]
        yield from found


def find_methods(names: Sequence[str]) -> list[str]:
    """Names of METHODS, "all" being every one. Raises UserError for an unknown one."""
    for name in names:
        if name not in METHODS and name != "all":
            raise nearest("method", name, METHODS)
    return list(METHODS) if "all" in names else list(dict.fromkeys(names))


def find_metrics(names: Sequence[str] | None) -> list[str]:
    """Names of METRICS that are measured of a method on a net. Raises UserError for another one."""
    known = {name: metric for name, metric in METRICS.items() if metric.kind in KINDS or name == HOMOGENEITY}
    for name in names or ():
        if name in METRICS and name not in known:
            kind = METRICS[name].kind
            raise UserError(f"metric {name!r} is of kind {kind}, and is not measured of a method on a net of yours")
        if name not in known:
            raise nearest("metric", name, known)
    return [name for name in known if name not in COSTLY] if names is None else list(dict.fromkeys(names))


@dataclass(eq=False)
class _Batch:
    """What methods and metrics are given, and what one call measures for several metrics of one method.

    Attributes:
        explain: the method under test, (inputs, targets) -> attributions, with the draws of this batch.
    """

    net: nn.Module
    inputs: Tensor
    targets: Tensor
    masks: Tensor | None
    pool: Tensor
    seed: int
    number: int
    explain: Callable[[Tensor, Tensor], Tensor]
    attributions: Tensor
    together: dict[str, Tensor] = field(default_factory=dict)

    def draws(self, name: str) -> torch.Generator:
        return generator(self.seed, "evaluate", name, self.number)


def _batch(net: nn.Module, batch: Sequence[Any], device: torch.device | str) -> tuple[Tensor, Tensor, Tensor | None]:
    inputs, targets, *masks = batch
    check_inputs(inputs)
    inputs = inputs.to(device)
    found = as_targets(net, inputs, targets)
    with torch.no_grad():
        target_logits(net, inputs[:1], found[:1])  # a net that no method can take is named at once
    return inputs, found, masks[0].to(device) if masks else None


def _of_method(
    net: nn.Module,
    name: str,
    metrics: Sequence[str],
    batches: Sequence[tuple[Tensor, Tensor, Tensor | None]],
    pool: Tensor,
    seed: int,
) -> Iterator[Row]:
    """One method's row for each metric."""
    values, reasons = dict[str, list[Tensor]](), dict[str, str]()
    images, passes, seconds = 0, 0, 0.0
    for number, (inputs, targets, masks) in enumerate(batches):
        explain = partial(_explained, net, name, pool, seed, number)
        start = time.perf_counter()
        with count_passes(net) as counted:
            attributions = explain(inputs, targets)
        seconds += time.perf_counter() - start
        passes, images = passes + max(counted.forward, counted.backward), images + len(inputs)
        batch = _Batch(net, inputs, targets, masks, pool, seed, number, explain, attributions)
        for metric in (metric for metric in metrics if metric not in reasons):
            found = _measured(metric, METHODS[name], batch)
            if isinstance(found, str):
                reasons[metric] = found
            else:
                values.setdefault(metric, []).append(found.double().cpu())
    cost = {"passes": passes / images, "seconds": seconds / images}
    for metric in metrics:
        if metric in reasons:
            yield _row(name, metric, reason=reasons[metric], **cost)
        else:
            interval = mean_interval(torch.cat(values[metric]).numpy())
            number_of = {"value": interval.value, "low": interval.low, "high": interval.high, "n": interval.n}
            yield _row(name, metric, **number_of, **cost)


def _explained(
    net: nn.Module, name: str, pool: Tensor, seed: int, number: int, inputs: Tensor, targets: Tensor
) -> Tensor:
    """A method's attributions, with the same draws at each call for a batch."""
    draws = generator(seed, "evaluate", name, number)
    return METHODS[name](net, inputs, targets, references=pool, generator=draws)


def _row(method: str, metric: str, **found: Any) -> Row:
    entry = METRICS[metric]
    empty = dict.fromkeys(("value", "low", "high", "passes", "seconds"), float("nan")) | {"n": 0, "reason": ""}
    return {"method": method, "metric": metric, "unit": entry.unit, "better": entry.better} | empty | found


def _measured(name: str, method: Method, batch: _Batch) -> Tensor | str:
    """A metric of one batch, (B,), or why there is no value."""
    metric, own = METRICS[name], name in plugins.added("METRICS")
    if reason := _why_not(name, metric, method, batch):
        return reason
    try:
        found = MEASURES[metric.kind](name, metric, batch)
    except Exception as error:
        if own:  # a user's function fails in any way; the line is what helps
            return f"{type(error).__name__}: {error}".partition("\n")[0]
        if isinstance(error, REFUSALS):
            return str(error).partition("\n")[0]
        raise
    if not isinstance(found, Tensor) or found.shape != (len(batch.inputs),):
        return "gives no number for each image, so there is no mean over images"
    return found


def _why_not(name: str, metric: Metric, method: Method, batch: _Batch) -> str | None:
    """Why a metric does not apply; None where it does."""
    if metric.kind in IMAGE_KINDS and batch.inputs.ndim != 4:
        return "needs images (B, C, H, W)"
    if metric.kind == "mask" and batch.masks is None:
        return "needs masks of the deciding pixels, the third of each batch"
    if metric.kind == "sum" and method.baseline != "zero":
        return "the method claims no sum from the zero baseline"
    if metric.function is None and name not in MASKING and name != HOMOGENEITY:
        return "has no function to measure it with"
    return None


# --- a metric of each kind: (its name, its entry, batch) -> (B,) ---


def _masking(name: str, metric: Metric, batch: _Batch) -> Tensor:
    if name not in MASKING:  # a plugin's
        return _model(name, metric, batch)
    if "masking" not in batch.together:
        batch.together["masking"] = mask_metrics(batch.net, batch.inputs, batch.targets, batch.attributions)
    return batch.together["masking"][:, list(MASKING).index(name)]


def _mask(name: str, metric: Metric, batch: _Batch) -> Tensor:
    return _function(metric)(batch.attributions.mean(1), batch.masks)


def _sum(name: str, metric: Metric, batch: _Batch) -> Tensor:
    with torch.no_grad():
        empty = torch.zeros_like(batch.inputs)
        logits = (target_logits(batch.net, inputs, batch.targets) for inputs in (batch.inputs, empty))
        change = next(logits) - next(logits)
    return _function(metric)(batch.attributions, change)


def _curve(name: str, metric: Metric, batch: _Batch) -> Tensor:
    if "insertion" not in batch.together:
        step = -(-batch.inputs[0, 0].numel() // CURVE_STEPS)
        curves = insertion_deletion(batch.net, batch.inputs, batch.attributions, step=step, ranking="pixels")
        batch.together |= {"insertion": curves.insertion, "deletion": curves.deletion}
    return _function(metric)(batch.together["deletion" if name.startswith("deletion") else "insertion"])


def _method(name: str, metric: Metric, batch: _Batch) -> Tensor:
    return _function(metric)(batch.explain, batch.inputs, batch.targets, generator=batch.draws(name))


def _spread(name: str, metric: Metric, batch: _Batch) -> Tensor:
    return _function(metric)(batch.attributions.flatten(1).abs())


def _pair(name: str, metric: Metric, batch: _Batch) -> Tensor:
    reference = _explained(batch.net, PAIRED_WITH, batch.pool, batch.seed, batch.number, batch.inputs, batch.targets)
    return _function(metric)(reference, batch.attributions)


def _model(name: str, metric: Metric, batch: _Batch) -> Tensor:
    function = _function(metric)
    draws = "generator" in inspect.signature(function).parameters
    extra = {"generator": batch.draws(name)} if draws else {}
    return function(batch.net, batch.inputs, batch.targets, batch.attributions, **extra)


def _homogeneity(name: str, metric: Metric, batch: _Batch) -> Tensor:
    """2 sum|a A(x) - A(a x)| / (sum|a A(x)| + sum|A(a x)|), as ``xdnn.metrics.axioms`` measures it."""
    scaled, own = batch.explain(FACTOR * batch.inputs, batch.targets), FACTOR * batch.attributions
    size = (scaled.abs() + own.abs()).flatten(1).sum(1)
    return (2 * (scaled - own).abs().flatten(1).sum(1) / size).where(size != 0, 0.0)


def _function(metric: Metric) -> Callable[..., Tensor]:
    assert metric.function is not None  # _why_not has asked
    return metric.function


MEASURES: Mapping[str, Callable[[str, Metric, _Batch], Tensor]] = {
    "masking": _masking,
    "mask": _mask,
    "sum": _sum,
    "curve": _curve,
    "method": _method,
    "spread": _spread,
    "pair": _pair,
    "model": _model,
    "axiom": _homogeneity,
}
