"""MFABA: attributions along a path to the decision boundary (Zhu et al., AAAI 2024); protocols: ``boundary_paths``."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from xdnn.arguments import Targets, checks_arguments
from xdnn.attributions.boundary_paths import STEPS, PathProtocol, PathStep, boundary_path, per_image
from xdnn.attributions.method import Method
from xdnn.attributions.pixels import BOUNDS, Bounds, check_bounds
from xdnn.chunking import chunk_size
from xdnn.logits import Model

Distance = Callable[[Tensor, Tensor], Tensor]  # (displacements (n, P), chords (n, P)) -> (n,)

_ALONG = {
    "released": PathProtocol("double_softmax", "left", accumulate=True),
    "described": PathProtocol("double_softmax", "left"),
    "corrected": PathProtocol("probability", "trapezoid", step_if_wrong=False),
}
_BY_DISTANCE = {  # their released code takes a fresh gradient at each step
    "released": PathProtocol("softmax", "trapezoid32"),
    "described": PathProtocol("softmax", "trapezoid"),
    "corrected": PathProtocol("probability", "trapezoid", step_if_wrong=False),
}
PROTOCOLS = {"sharp": _ALONG, "smooth": _ALONG, "norm": _BY_DISTANCE, "cosine": _BY_DISTANCE}
RULES = ("left", "trapezoid", "trapezoid32")


@dataclass(frozen=True)
class BoundaryPaths:
    """Attributions with what their paths were, per image.

    attributions (B, *F); end (B, *F): the last point; steps (B,) int64; crossed (B,) bool: was the boundary reached?
    """

    attributions: Tensor
    end: Tensor
    steps: Tensor
    crossed: Tensor


def mfaba(model: Model, inputs: Tensor, targets: Targets = None, **options: Any) -> Tensor:
    """MFABA: the output's fall along the path to the decision boundary, number by number. See ``mfaba_paths``."""
    return mfaba_paths(model, inputs, targets, **options).attributions


@checks_arguments
@torch.no_grad()
def mfaba_paths(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    kind: str = "sharp",
    protocol: str | PathProtocol = "released",
    bounds: Bounds = BOUNDS,
    steps: int = STEPS,
    chunk: int | None = None,
) -> BoundaryPaths:
    """MFABA with what its paths were (saliency/core/mfaba.py of the released code).

    sharp, smooth:  A = -sum_t (x_{t+1} - x_t) * g_t            g: gradient of the explained output; rule left
                    A = -sum_t (x_{t+1} - x_t) * (g_t + g_{t+1}) / 2                                trapezoid
    norm, cosine:   A = (x_0 - x_T) * sum_t (a_{t+1} - a_t) * (g_t + g_{t+1}) / 2,   a_t = d_t / max d
                    d_t: |x_t - x_0| (norm), (x_t - x_0)(x_T - x_0) / |x_T - x_0|^2 (cosine); sharp steps; with
                    trapezoid32 the differences of a are rounded to float32, as in the released code

    The released sharp and smooth paths follow, and weigh, the sum of the gradients since an image last left the batch:
    their maps depend on the batch, which was 128 images in the paper. Their authors explain the label, right or wrong.

    Args:
        inputs:   (B, *F) within ``bounds``.
        kind:     "sharp", "smooth", "norm" or "cosine".
        protocol: "released", "described" or "corrected" (``boundary_paths``), or one of one's own.
        bounds:   range of the data, or None for a path that is never clamped.
        steps:    at most, >= 1. An image of n steps costs n + 1 forward and backward passes.
        chunk:    points that go through the net at once at most; the result does not change.

    Returns:
        BoundaryPaths. Attributions sum to output(x_0) - output(x_T) up to the rule's error, unless gradients accumulate:
        completeness relative to the adversarial end point.

    Raises:
        ValueError: images outside bounds, targets that are no classes, an unknown kind, protocol, output or rule, steps
            below 1.
    """
    chosen = _protocol(kind, protocol)
    if steps < 1:
        raise ValueError(f"steps must be >= 1, got {steps}")
    check_bounds(inputs, bounds)
    size = chunk_size(model, inputs, chunk)
    together = max(1, len(inputs)) if chosen.ties_batch_mates else size
    parts = []
    for images, labels in zip(inputs.split(together), targets.split(together), strict=True):
        path = boundary_path(
            model, images, labels, sign=kind == "smooth", protocol=chosen, bounds=bounds, steps=steps, chunk=size
        )
        parts.append(KINDS[kind](images, path, chosen.rule))
    return BoundaryPaths(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(BoundaryPaths)))


def _protocol(kind: str, protocol: str | PathProtocol) -> PathProtocol:
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}; there are: {', '.join(KINDS)}")
    if isinstance(protocol, str) and protocol not in PROTOCOLS[kind]:
        raise ValueError(f"unknown protocol {protocol!r}; there are: {', '.join(PROTOCOLS[kind])}")
    chosen = PROTOCOLS[kind][protocol] if isinstance(protocol, str) else protocol
    if chosen.rule not in RULES:
        raise ValueError(f"unknown rule {chosen.rule!r}; there are: {', '.join(RULES)}")
    return chosen


def _along_the_path(inputs: Tensor, path: Iterator[PathStep], rule: str) -> BoundaryPaths:
    found = _not_begun(inputs)
    for step in path:
        gradient = step.at_start if rule == "left" else (step.at_start + step.at_stop) / 2
        found.attributions.index_add_(0, step.images, (step.start - step.stop) * gradient)
        _record(found, step)
    return found


def _by_distance(inputs: Tensor, path: Iterator[PathStep], rule: str, *, distance: Distance) -> BoundaryPaths:
    found = _not_begun(inputs)
    kept = []  # distances are relative to the furthest, or to the end point: the steps wait until it is known
    for step in path:
        kept.append((step.images, step.stop, (step.at_start + step.at_stop) / 2))
        _record(found, step)
    chord = found.end - inputs
    reached = [distance((stop - inputs[images]).flatten(1), chord[images].flatten(1)) for images, stop, _ in kept]
    furthest, so_far = inputs.new_zeros(len(inputs)), inputs.new_zeros(len(inputs))
    for (images, _, _), far in zip(kept, reached, strict=True):
        furthest[images] = torch.maximum(furthest[images], far)
    for (images, _, mean), far in zip(kept, reached, strict=True):
        place = far / furthest[images].where(furthest[images] > 0, 1.0)
        weight = place - so_far[images]
        weight = weight.float().to(weight) if rule == "trapezoid32" else weight
        found.attributions.index_add_(0, images, per_image(weight, mean) * mean)
        so_far[images] = place
    found.attributions.mul_(-chord)
    return found


def _norm(displacement: Tensor, chord: Tensor) -> Tensor:
    return displacement.norm(dim=1)


def _projection(displacement: Tensor, chord: Tensor) -> Tensor:
    return (displacement * chord).sum(1) / chord.square().sum(1).clamp_min(1e-30)


KINDS: dict[str, Callable[[Tensor, Iterator[PathStep], str], BoundaryPaths]] = {
    "sharp": _along_the_path,
    "smooth": _along_the_path,
    "norm": partial(_by_distance, distance=_norm),
    "cosine": partial(_by_distance, distance=_projection),
}


def _not_begun(inputs: Tensor) -> BoundaryPaths:
    count = torch.zeros(len(inputs), dtype=torch.int64, device=inputs.device)
    return BoundaryPaths(torch.zeros_like(inputs), inputs.detach().clone(), count, count.bool())


def _record(found: BoundaryPaths, step: PathStep) -> None:
    found.end[step.images] = step.stop
    found.steps[step.images] += 1
    found.crossed[step.images] = step.crossed


def _method(kind: str, protocol: str, label: str, order: int) -> Method:
    """On normalised inputs, as all other methods; ``in_pixels`` runs them as their authors did."""
    tied = PROTOCOLS[kind][protocol].ties_batch_mates
    attribute = partial(mfaba, kind=kind, protocol=protocol, bounds=None)
    return Method(attribute, None, label, ties_batch_mates=tied, order=order)


METHODS: dict[str, Method] = {
    "mfaba_sharp": _method("sharp", "released", "MFABA sharp, released", 40),
    "mfaba_sharp_described": _method("sharp", "described", "MFABA sharp, described", 41),
    "mfaba_sharp_corrected": _method("sharp", "corrected", "MFABA sharp, corrected", 42),
    "mfaba_smooth": _method("smooth", "released", "MFABA smooth, released", 43),
    "mfaba_smooth_described": _method("smooth", "described", "MFABA smooth, described", 44),
    "mfaba_smooth_corrected": _method("smooth", "corrected", "MFABA smooth, corrected", 45),
    "mfaba_norm": _method("norm", "released", "MFABA norm", 46),
    "mfaba_cosine": _method("cosine", "released", "MFABA cosine", 47),
}
