"""Attributions along walks to the decision boundary: MFABA (Zhu et al., AAAI 2024) and BIG (Wang et al. 2022).

A walk lowers the target's probability step by step until another class wins. The numbers are those of MFABA's released
code (LMBTough/MFABA); they hold for pixels in [0, 1] (``pixels.in_pixels``). With ``bounds=None`` the same steps are taken
in the units of normalised inputs and nothing is clamped. Two protocols are named:

as published  the released code. Its net ends in a softmax and MFABA adds another, so what is explained is
              softmax(softmax(z))_target; attributions are left Riemann sums; an image that is misclassified from the
              start walks one step, because its class is looked at only after a step.
corrected     softmax once, through the log-odds, so that a confident net's gradient does not round to zero; the trapezoid
              rule, which is what a second-order expansion gives; a misclassified image has no path, so attribution zero.

In both, finished images leave the batch, and an image whose gradient is exactly zero has no direction to go (the released
code divides 0 by 0): its walk ends there. A walk that has not reached the boundary after ``steps`` ends where it is.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from reproduce.attributions.engine import chunk_size, lean
from reproduce.attributions.gradients import check_batch, checked_logits
from reproduce.attributions.paths import integrated_gradients
from reproduce.attributions.pixels import check_bounds

STEPS = 50  # at most; num_steps of the released code
SHARP_STEP = 0.1  # Euclidean length of a sharp step: alpha 0.001 times 100
SIGN_STEP = 0.001  # length of a sign step in each number: alpha
RADIUS = 0.3  # a smooth walk stays this close in each number; 50 steps of 0.001 never get there
BIG_RADII = tuple(
    v / 255 for v in (36, 64, 76.5, 127.5, 178.5, 229.5, 280.5)
)  # the released seven; none is ever reached
BIG_STEPS = 50  # trapezoid points between the image and its boundary point
BOUNDS = (0.0, 1.0)

MFABA_CORRECTED: dict[str, Any] = {"output": "probability", "rule": "trapezoid", "walk_if_wrong": False}

Bounds = tuple[float, float] | None
Score = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]


def _double_softmax(logits: Tensor, targets: Tensor) -> tuple[Tensor, None]:
    return _pick(logits.softmax(1).softmax(1), targets), None


def _softmax(logits: Tensor, targets: Tensor) -> tuple[Tensor, None]:
    return _pick(logits.softmax(1), targets), None


def _log_odds(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """m = z_t - log sum_{j != t} exp z_j, and dp_t/dm = p_t (1 - p_t), neither of which rounds away for confident nets."""
    others = logits.scatter(1, targets[:, None], -torch.inf)
    odds = _pick(logits, targets) - others.logsumexp(1)
    return odds, (odds.sigmoid() * (-odds).sigmoid()).detach()


def _pick(values: Tensor, targets: Tensor) -> Tensor:
    return values.gather(1, targets[:, None]).squeeze(1)


# name -> (what is differentiated, factor from its gradient to that of the explained output)
SCORES: dict[str, Score] = {"double_softmax": _double_softmax, "softmax": _softmax, "probability": _log_odds}


def explained_output(logits: Tensor, targets: Tensor, output: str) -> Tensor:
    """The number that ``output`` explains, (B,), 0..1: what a complete attribution's sum is the change of."""
    probabilities = logits.softmax(1)
    return _pick(probabilities.softmax(1) if output == "double_softmax" else probabilities, targets)


@dataclass(frozen=True)
class Leg:
    """One step of the images that are still walking. ``images`` (n,) are their places in the batch; the rest is (n, *F).

    start, stop:       the points before and after the step
    at_start, at_stop: gradients of the explained output there
    crossed:           (n,) bool, does another class win at ``stop``?
    """

    images: Tensor
    start: Tensor
    stop: Tensor
    at_start: Tensor
    at_stop: Tensor
    crossed: Tensor


def walk(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    sign: bool,
    output: str,
    bounds: Bounds,
    steps: int = STEPS,
    step: float | None = None,
    radius: float = RADIUS,
    walk_if_wrong: bool = True,
    stop_at_boundary: bool = True,
) -> Iterator[Leg]:
    """The legs of a batch's walks. An image of n legs costs n + 1 forward and backward passes.

    Args:
        sign:             step along the sign of the gradient (smooth) or along the gradient over its norm (sharp).
        output:           a key of SCORES.
        bounds:           range that points are clamped to, or None.
        step:             length; default SIGN_STEP or SHARP_STEP.
        radius:           largest distance from the image in each number; sign walks only, as released.
        walk_if_wrong:    take a first step from an image that another class already wins.
        stop_at_boundary: images leave when another class wins; otherwise all walk ``steps`` legs.
    """
    step = (SIGN_STEP if sign else SHARP_STEP) if step is None else step
    images = torch.arange(len(inputs), device=inputs.device)
    origin, x = inputs, inputs
    slope, factor, wins = _look(model, x, targets, output)
    keep = torch.ones_like(wins) if walk_if_wrong or not stop_at_boundary else wins
    for _ in range(steps):
        if stop_at_boundary:
            keep = keep & slope.flatten(1).any(1)
            if not keep.all():
                images, origin, x, targets, slope, factor = (
                    v[keep] for v in (images, origin, x, targets, slope, factor)
                )
            if not len(images):
                return
        if sign:
            moved = origin + (x - step * slope.sign() - origin).clamp(-radius, radius)
        else:
            moved = x - step * slope / slope.flatten(1).norm(dim=1).view(-1, *[1] * (x.ndim - 1))
        after = moved if bounds is None else moved.clamp(*bounds)
        new_slope, new_factor, wins = _look(model, after, targets, output)
        yield Leg(images, x, after, factor * slope, new_factor * new_slope, ~wins)
        x, slope, factor, keep = after, new_slope, new_factor, wins


def _look(model: nn.Module, points: Tensor, targets: Tensor, output: str) -> tuple[Tensor, Tensor, Tensor]:
    """The slope of the score (B, *F), the factor from it to the output's gradient (B, 1, ...), and where the target wins (B,)."""
    if output not in SCORES:
        raise ValueError(f"unknown output {output!r}; there are: {', '.join(SCORES)}")
    with lean(model, points), torch.enable_grad():
        x = points.detach().requires_grad_()
        logits = checked_logits(model, x, targets)
        score, factor = SCORES[output](logits, targets)
        slope = torch.autograd.grad(score.sum(), x)[0]
    factor = torch.ones_like(score) if factor is None else factor
    return slope, factor.detach().view(-1, *[1] * (x.ndim - 1)), logits.detach().argmax(1) == targets


@dataclass(frozen=True)
class Walks:
    """Attributions with what their walks were, per image.

    attributions (B, *F); end (B, *F): the last point; legs (B,) int64; crossed (B,) bool: was the boundary reached?
    """

    attributions: Tensor
    end: Tensor
    legs: Tensor
    crossed: Tensor


def mfaba(model: nn.Module, inputs: Tensor, targets: Tensor, **options: Any) -> Tensor:
    """MFABA: the output's fall along the walk to the decision boundary, number by number. See ``mfaba_walks``."""
    return mfaba_walks(model, inputs, targets, **options).attributions


@torch.no_grad()
def mfaba_walks(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    kind: str = "sharp",
    output: str | None = None,
    rule: str = "left",
    bounds: Bounds = BOUNDS,
    steps: int = STEPS,
    walk_if_wrong: bool = True,
    chunk: int | None = None,
) -> Walks:
    """MFABA with what its walks were (saliency/core/mfaba.py of the released code).

    sharp, smooth:  A = -sum_t (x_{t+1} - x_t) * g_t            g: gradient of the explained output; ``rule`` left
                    A = -sum_t (x_{t+1} - x_t) * (g_t + g_{t+1}) / 2                               ``rule`` trapezoid
    norm, cosine:   A = (x_0 - x_T) * sum_t (a_{t+1} - a_t) * (g_t + g_{t+1}) / 2,   a_t = d_t / max d
                    d_t: |x_t - x_0| (norm), (x_t - x_0)(x_T - x_0) / |x_T - x_0|^2 (cosine); sharp steps

    Args:
        inputs:        (B, *F) within ``bounds``.
        kind:          "sharp", "smooth", "norm" or "cosine".
        output:        key of SCORES; default as published: "double_softmax", for norm and cosine "softmax".
        rule:          "left" or "trapezoid"; sharp and smooth only.
        bounds:        range of the data, or None for a walk that is never clamped.
        steps:         legs at most, >= 1. An image of n legs costs n + 1 forward and backward passes.
        walk_if_wrong: as published a misclassified image walks one leg; False gives it attribution zero.
        chunk:         images that walk together at most; the result does not change.

    Returns:
        Walks. Attributions sum to output(x_0) - output(x_T) up to the rule's error: completeness relative to the
        adversarial end point, which the studies measure.

    Raises:
        ValueError: images outside bounds, targets that are no classes, an unknown kind, output or rule, steps below 1.
    """
    if kind not in KINDS or rule not in ("left", "trapezoid") or steps < 1:
        raise ValueError(
            f"got kind={kind!r}, rule={rule!r}, steps={steps}; kinds are {', '.join(KINDS)}, rules left and trapezoid, steps >= 1"
        )
    check_batch(inputs, targets)
    check_bounds(inputs, bounds)
    output = output or ("double_softmax" if kind in ("sharp", "smooth") else "softmax")
    size = chunk_size(model, inputs, chunk)
    parts = []
    for images, labels in zip(inputs.split(size), targets.split(size), strict=True):
        legs = walk(
            model, images, labels, sign=kind == "smooth", output=output, bounds=bounds, steps=steps, walk_if_wrong=walk_if_wrong
        )  # fmt: skip
        parts.append(KINDS[kind](images, legs, rule))
    return Walks(*(torch.cat(field) for field in zip(*(vars(part).values() for part in parts), strict=True)))


def _along_the_path(inputs: Tensor, legs: Iterator[Leg], rule: str) -> Walks:
    walks = _unwalked(inputs)
    for leg in legs:
        gradient = leg.at_start if rule == "left" else (leg.at_start + leg.at_stop) / 2
        walks.attributions.index_add_(0, leg.images, (leg.start - leg.stop) * gradient)
        _record(walks, leg)
    return walks


def _by_norm(inputs: Tensor, legs: Iterator[Leg], rule: str) -> Walks:
    walks = _unwalked(inputs)
    furthest = inputs.new_zeros(len(inputs))
    for leg in legs:
        origin = inputs[leg.images]
        near, far = ((point - origin).flatten(1).norm(dim=1) for point in (leg.start, leg.stop))
        mean = (leg.at_start + leg.at_stop) / 2
        walks.attributions.index_add_(0, leg.images, _each(far - near, mean) * mean)
        furthest[leg.images] = torch.maximum(furthest[leg.images], far)
        _record(walks, leg)
    walks.attributions.mul_((inputs - walks.end) / _each(furthest.where(furthest > 0, 1.0), inputs))
    return walks


def _by_cosine(inputs: Tensor, legs: Iterator[Leg], rule: str) -> Walks:
    walks, kept = (
        _unwalked(inputs),
        list(legs),
    )  # the projection needs the end point: all legs are kept until it is known
    for leg in kept:
        _record(walks, leg)
    chord = walks.end - inputs
    length = chord.flatten(1).square().sum(1)
    along, furthest = inputs.new_zeros(len(inputs)), inputs.new_zeros(len(inputs))
    for leg in kept:
        change = ((leg.stop - leg.start) * chord[leg.images]).flatten(1).sum(1) / length[leg.images].clamp_min(1e-30)
        mean = (leg.at_start + leg.at_stop) / 2
        walks.attributions.index_add_(0, leg.images, _each(change, mean) * mean)
        along.index_add_(0, leg.images, change)
        furthest = torch.maximum(furthest, along)
    walks.attributions.mul_(-chord / _each(furthest.where(furthest > 0, 1.0), inputs))
    return walks


KINDS: dict[str, Callable[[Tensor, Iterator[Leg], str], Walks]] = {
    "sharp": _along_the_path,
    "smooth": _along_the_path,
    "norm": _by_norm,
    "cosine": _by_cosine,
}


def _unwalked(inputs: Tensor) -> Walks:
    count = torch.zeros(len(inputs), dtype=torch.int64, device=inputs.device)
    return Walks(torch.zeros_like(inputs), inputs.detach().clone(), count, count.bool())


def _record(walks: Walks, leg: Leg) -> None:
    walks.end[leg.images] = leg.stop
    walks.legs[leg.images] += 1
    walks.crossed[leg.images] = leg.crossed


def _each(value: Tensor, like: Tensor) -> Tensor:
    """One number per image, (B,) -> (B, 1, 1, ...)."""
    return value.view(-1, *[1] * (like.ndim - 1))


def boundary_points(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    radii: Sequence[float],
    output: str,
    bounds: Bounds,
    stop_at_boundary: bool,
) -> tuple[Tensor, Tensor]:
    """BIG's search: one sign walk per radius; the nearest end at which another class wins, or the first radius's end.

    Returns:
        points (B, *F) and whether they are beyond the boundary, (B,) bool.
    """
    best = found = distance = None
    for radius in radii:
        legs = walk(
            model, inputs, targets, sign=True, output=output, bounds=bounds, radius=radius,
            walk_if_wrong=not stop_at_boundary, stop_at_boundary=stop_at_boundary,
        )  # fmt: skip
        end, crossed = inputs.clone(), torch.zeros(len(inputs), dtype=torch.bool, device=inputs.device)
        for leg in legs:
            end[leg.images], crossed[leg.images] = leg.stop, leg.crossed
        far = (end - inputs).flatten(1).norm(dim=1).where(crossed, torch.inf)
        if best is None or found is None or distance is None:
            best, found, distance = end, crossed, far
        else:
            nearer = far < distance
            best = end.where(_each(nearer, end), best)
            found, distance = found | crossed, torch.minimum(distance, far)
    if best is None or found is None:
        raise ValueError("radii must name at least one radius")
    return best, found


@torch.no_grad()
def big(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    corrected: bool = False,
    radii: Sequence[float] = BIG_RADII,
    repeat_equal: bool = True,
    bounds: Bounds = BOUNDS,
    steps: int = BIG_STEPS,
    chunk: int | None = None,
) -> Tensor:
    """BIG: Integrated Gradients from the nearest boundary point (saliency/core/big.py of MFABA's released code).

    50 sign steps of 0.001 move a number by at most 0.05, less than the smallest radius, 36/255: the released seven walks
    are one walk done seven times. As published, it does not stop at the boundary, and captum's trapezoid of 50 points,
    whose weights sum to 0.98, integrates the probability. Corrected: one walk per radius that can bind, which stops
    at the boundary, and Gauss-Legendre points.

    Args:
        inputs:       (B, *F) within ``bounds``.
        radii:        largest distance from the image in each number, one walk each.
        repeat_equal: as published, walk again for radii that cannot bind; False gives the same numbers at a seventh of the search.
        steps:        quadrature points, >= 2.
        chunk:        points evaluated at once at most.

    Returns:
        (B, *F). Unit: probability; sums to p(x) - p(boundary point) up to the quadrature (times 0.98 as published).
        As published with all seven radii an image costs 407 forward and 407 backward passes. A misclassified image
        walks as any other as published, and gives zero when corrected. Where no boundary is found the walk's end is used.

    Raises:
        ValueError: as ``mfaba_walks``.
    """
    check_batch(inputs, targets)
    check_bounds(inputs, bounds)
    if corrected or not repeat_equal:
        reach = STEPS * SIGN_STEP
        radii = [*(radius for radius in radii if radius < reach), *[radius for radius in radii if radius >= reach][:1]]
    probability = nn.Sequential(model, nn.Softmax(1))
    size = chunk_size(model, inputs, chunk)
    parts = []
    for images, labels in zip(inputs.split(size), targets.split(size), strict=True):
        points, _ = boundary_points(
            model, images, labels, radii=radii, output="probability" if corrected else "double_softmax", bounds=bounds,
            stop_at_boundary=corrected,
        )  # fmt: skip
        quadrature = "gauss_legendre" if corrected else "trapezoid"
        parts.append(
            integrated_gradients(
                probability, images, labels, baseline=points, steps=steps, quadrature=quadrature, chunk=chunk
            )
        )
    return torch.cat(parts) * (1 if corrected else 1 - 1 / steps)
