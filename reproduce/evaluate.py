"""Methods and metrics held against each other on a user's own net and data.

evaluate(model, loader)                                              # a row for each method and metric
evaluate(model, [(inputs, targets)], methods=["gradient"], metrics=["kpm", "insertion"])
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

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
KINDS = ("mask", "masking", "curve", "model", "method", "sum")  # of the metrics that ask a net and a method
COSTLY = "max_sensitivity"  # eleven attributions an image: measured only where it is named
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
        metrics:    names of ``xdnn.METRICS``; default: all that apply to a method and a net, but for max_sensitivity.
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
    """Names of METRICS that ask a net and a method. Raises UserError for another one."""
    known = {name: metric for name, metric in METRICS.items() if metric.kind in KINDS}
    for name in names or ():
        if name not in known:
            raise nearest("metric", name, known)
    return [name for name in known if name != COSTLY] if names is None else list(dict.fromkeys(names))


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
    method, values, reasons = METHODS[name], dict[str, list[Tensor]](), dict[str, str]()
    images, passes, seconds = 0, 0, 0.0
    for number, (inputs, targets, masks) in enumerate(batches):
        draws = generator(seed, "evaluate", name, number)
        start = time.perf_counter()
        with count_passes(net) as counted:
            attributions = method(net, inputs, targets, references=pool, generator=draws)
        seconds += time.perf_counter() - start
        passes, images = passes + max(counted.forward, counted.backward), images + len(inputs)
        together: dict[str, Tensor] = {}  # what one call measures for several metrics
        for metric in (metric for metric in metrics if metric not in reasons):
            if reason := _why_not(METRICS[metric], method, inputs, masks):
                reasons[metric] = reason
                continue
            draws = generator(seed, "evaluate", metric, number)
            try:
                found = _measure(metric, net, method, inputs, targets, masks, attributions, pool, draws, together)
            except REFUSALS as error:
                reasons[metric] = str(error).partition("\n")[0]
                continue
            values.setdefault(metric, []).append(found.double().cpu())
    for metric in metrics:
        if metric in reasons:
            yield _row(name, metric, passes=passes / images, seconds=seconds / images, reason=reasons[metric])
        else:
            interval = mean_interval(torch.cat(values[metric]).numpy())
            yield _row(
                name,
                metric,
                value=interval.value,
                low=interval.low,
                high=interval.high,
                n=interval.n,
                passes=passes / images,
                seconds=seconds / images,
            )


def _row(method: str, metric: str, **found: Any) -> Row:
    entry = METRICS[metric]
    empty = dict.fromkeys(("value", "low", "high", "passes", "seconds"), float("nan")) | {"n": 0, "reason": ""}
    return {"method": method, "metric": metric, "unit": entry.unit, "better": entry.better} | empty | found


def _why_not(metric: Metric, method: Method, inputs: Tensor, masks: Tensor | None) -> str | None:
    """Why a metric does not apply; None where it does."""
    if metric.kind != "sum" and metric.kind != "method" and inputs.ndim != 4:
        return "needs images (B, C, H, W)"
    if metric.kind == "mask" and masks is None:
        return "needs masks of the deciding pixels, the third of each batch"
    if metric.kind == "sum" and method.baseline != "zero":
        return "the method claims no sum from the zero baseline"
    return None


def _measure(
    metric: str,
    net: nn.Module,
    method: Method,
    inputs: Tensor,
    targets: Tensor,
    masks: Tensor | None,
    attributions: Tensor,
    pool: Tensor,
    draws: torch.Generator,
    together: dict[str, Tensor],
) -> Tensor:
    """A metric of one batch, (B,)."""
    entry = METRICS[metric]
    if entry.kind == "masking" and metric in MASKING:
        if "masking" not in together:
            together["masking"] = mask_metrics(net, inputs, targets, attributions)
        return together["masking"][:, list(MASKING).index(metric)]
    assert entry.function is not None  # of every other kind of KINDS
    if entry.kind == "mask":
        return entry.function(attributions.mean(1), masks)
    if entry.kind == "sum":
        with torch.no_grad():
            change = target_logits(net, inputs, targets) - target_logits(net, torch.zeros_like(inputs), targets)
        return entry.function(attributions, change)
    if entry.kind == "curve":
        if "insertion" not in together:
            step = -(-inputs[0, 0].numel() // CURVE_STEPS)
            curves = insertion_deletion(net, inputs, attributions, step=step, ranking="pixels")
            together |= {"insertion": curves.insertion, "deletion": curves.deletion}
        return entry.function(together[metric])
    if entry.kind == "method":

        def explain(points: Tensor, classes: Tensor) -> Tensor:
            return method(net, points, classes, references=pool, generator=draws)

        return entry.function(explain, inputs, targets, generator=draws)
    extra = {"generator": draws} if metric == "infidelity" else {}
    return entry.function(net, inputs, targets, attributions, **extra)
