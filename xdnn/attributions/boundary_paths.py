"""Paths from an image to the decision boundary, which MFABA and BIG attribute along.

A path lowers the target's probability step by step until another class wins. The numbers are those of MFABA's released
code (LMBTough/MFABA); they hold for pixels in [0, 1] (``pixels.in_pixels``). With ``bounds=None`` the same steps are taken
in the units of normalised inputs and nothing is clamped. Where the code, the text and the mathematics disagree, three
protocols are named:

released   what produced the papers' tables. The gradient of the perturbed image is never cleared, so a step follows the
           sum of the gradients since the path began; MFABA's code begins that sum anew for all images whenever one of
           them leaves the batch, so an image's path depends on its batch mates. The net ends in a softmax and MFABA adds
           another: what is explained is softmax(softmax(z))_target. A misclassified image takes one step, because its
           class is looked at only after a step.
described  the text, which has one gradient for each step; all else as released.
corrected  softmax once, through the log-odds, so that a confident net's gradient does not round to zero; the trapezoid
           rule, which is what a second-order expansion gives; a misclassified image has no path, so attribution zero.

In all, an image with a gradient of exactly zero has no direction to go (the released code divides 0 by 0, and its map is
NaN): its path ends there. A path that has not reached the boundary after ``steps`` ends where it is.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xdnn.attributions.pixels import Bounds
from xdnn.frozen import first_order
from xdnn.logits import checked_logits, input_gradient, of_targets

STEPS = 50  # at most; num_steps of the released code
SHARP_STEP = 0.1  # Euclidean length of a sharp step: alpha 0.001 times 100
SIGN_STEP = 0.001  # length of a sign step in each number: alpha
RADIUS = 0.3  # a smooth path stays this close in each number; 50 steps of 0.001 never get there

Score = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]


def _double_softmax(logits: Tensor, targets: Tensor) -> tuple[Tensor, None]:
    return of_targets(logits.softmax(1).softmax(1), targets), None


def _log_double_softmax(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """BIG's loss: the cross entropy of what is already a softmax, with its sign turned."""
    log = of_targets(logits.softmax(1).log_softmax(1), targets)
    return log, log.exp().detach()


def _softmax(logits: Tensor, targets: Tensor) -> tuple[Tensor, None]:
    return of_targets(logits.softmax(1), targets), None


def _log_odds(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """m = z_t - log sum_{j != t} exp z_j, and dp_t/dm = p_t (1 - p_t), neither of which rounds away for confident nets."""
    others = logits.scatter(1, targets[:, None], -torch.inf)
    odds = of_targets(logits, targets) - others.logsumexp(1)
    return odds, (odds.sigmoid() * (-odds).sigmoid()).detach()


# name -> (what is differentiated, factor from its gradient to that of the explained output)
SCORES: dict[str, Score] = {
    "double_softmax": _double_softmax,
    "log_double_softmax": _log_double_softmax,
    "softmax": _softmax,
    "probability": _log_odds,
}


def explained_output(logits: Tensor, targets: Tensor, output: str) -> Tensor:
    """The number that ``output`` explains, (B,), 0..1: what a complete attribution's sum is the change of."""
    probabilities = logits.softmax(1)
    return of_targets(probabilities.softmax(1) if "double" in output else probabilities, targets)


@dataclass(frozen=True)
class PathProtocol:
    """Where released code, text and correction differ.

    Attributes:
        output:           a key of SCORES: what falls along the path.
        rule:             how the gradients at the ends of a step are weighed; of MFABA, see ``mfaba_paths``.
        accumulate:       step along the sum of the gradients since the batch last lost an image.
        step_if_wrong:    take a first step from an image that another class already wins.
        stop_at_boundary: images leave when another class wins; otherwise all take all steps.
    """

    output: str
    rule: str = "trapezoid"
    accumulate: bool = False
    step_if_wrong: bool = True
    stop_at_boundary: bool = True

    @property
    def ties_batch_mates(self) -> bool:
        """Does an image's path depend on the others of its batch?"""
        return self.accumulate and self.stop_at_boundary


@dataclass(frozen=True)
class PathStep:
    """One step of the images whose paths go on. ``images`` (n,) are their places in the batch; the rest is (n, *F).

    start, stop:       the points before and after the step
    at_start, at_stop: gradients of the explained output there; where the protocol accumulates, at_start is the sum
    crossed:           (n,) bool, does another class win at ``stop``?
    """

    images: Tensor
    start: Tensor
    stop: Tensor
    at_start: Tensor
    at_stop: Tensor
    crossed: Tensor


def boundary_path(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    sign: bool,
    protocol: PathProtocol,
    bounds: Bounds,
    steps: int = STEPS,
    step: float | None = None,
    radius: float = RADIUS,
    chunk: int | None = None,
) -> Iterator[PathStep]:
    """The steps of a batch's paths. An image of n steps costs n + 1 forward and backward passes.

    Args:
        sign:   step along the sign of the gradient (smooth) or along the gradient over its norm (sharp).
        bounds: range that points are clamped to, or None.
        step:   length; default SIGN_STEP or SHARP_STEP.
        radius: largest distance from the image in each number; sign steps only, as released.
        chunk:  most points that go through the net at once; all by default. The result does not change.
    """
    step = (SIGN_STEP if sign else SHARP_STEP) if step is None else step
    images = torch.arange(len(inputs), device=inputs.device)
    origin, x = inputs, inputs
    slope, factor, wins = _look(model, x, targets, protocol.output, chunk)
    along = slope
    stays = wins if protocol.stop_at_boundary and not protocol.step_if_wrong else torch.ones_like(wins)
    for _ in range(steps):
        stuck = False
        if protocol.stop_at_boundary:
            moves = stays & along.flatten(1).any(1)
            # A sharp step of length 0 / 0 is NaN in the released code: no class wins there, and the image leaves after it.
            stuck = not sign and bool((stays & ~moves).any())
            if not moves.all():
                state = (images, origin, x, targets, along, factor)
                images, origin, x, targets, along, factor = (values[moves] for values in state)
            if not len(images):
                return
        after = _moved(origin, x, along, step, sign, radius)
        after = after if bounds is None else after.clamp(*bounds)
        slope, new_factor, stays = _look(model, after, targets, protocol.output, chunk)
        yield PathStep(images, x, after, factor * along, new_factor * slope, ~stays)
        leaves = stuck or (protocol.stop_at_boundary and not bool(stays.all()))
        along = along + slope if protocol.accumulate and not leaves else slope
        x, factor = after, new_factor


def _moved(origin: Tensor, x: Tensor, along: Tensor, step: float, sign: bool, radius: float) -> Tensor:
    if sign:
        return origin + (x - step * along.sign() - origin).clamp(-radius, radius)
    return x - step * along / per_image(along.flatten(1).norm(dim=1), x)


def _look(
    model: nn.Module, points: Tensor, targets: Tensor, output: str, chunk: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The slope of the score (B, *F), the factor from it to the output's gradient (B, 1, ...), and where the target wins (B,)."""
    if output not in SCORES:
        raise ValueError(f"unknown output {output!r}; there are: {', '.join(SCORES)}")
    size = chunk or max(1, len(points))
    parts = [
        _look_at(model, some, labels, SCORES[output])
        for some, labels in zip(points.split(size), targets.split(size), strict=True)
    ]
    slope, factor, wins = (torch.cat(values) for values in zip(*parts, strict=True)) if len(parts) > 1 else parts[0]
    return slope, factor, wins


def _look_at(model: nn.Module, points: Tensor, targets: Tensor, score_of: Score) -> tuple[Tensor, Tensor, Tensor]:
    with first_order(model, points), torch.enable_grad():
        x = points.detach().requires_grad_()
        logits = checked_logits(model, x, targets)
        score, factor = score_of(logits, targets)
        slope = input_gradient(score, x)
    factor = torch.ones_like(score) if factor is None else factor
    return slope, per_image(factor.detach(), x), logits.detach().argmax(1) == targets


def per_image(values: Tensor, inputs: Tensor) -> Tensor:
    """One number per image, (B,) -> (B, 1, 1, ...), to be multiplied with inputs (B, *F)."""
    return values.view(-1, *[1] * (inputs.ndim - 1))
