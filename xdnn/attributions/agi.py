"""Adversarial Gradient Integration (Pan, Li, Zhu, IJCAI 2021), as MFABA's authors ran it and as its paper describes it."""

import random
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from xdnn.arguments import checks_arguments
from xdnn.attributions.method import Method
from xdnn.attributions.pixels import BOUNDS, Bounds, check_bounds
from xdnn.chunking import chunk_size
from xdnn.frozen import first_order
from xdnn.logits import checked_logits, input_gradient

STEP = 0.05  # sign step in each number; epsilon of the released code
STEPS = 20  # at most; max_iter
CLASS_SEED = 3407  # decides the adversarial classes
PROTOCOLS = ("released", "described", "corrected")


@checks_arguments
@torch.no_grad()
def agi(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    protocol: str = "released",
    classes: int = 1,
    steps: int = STEPS,
    step: float = STEP,
    bounds: Bounds = BOUNDS,
    chunk: int | None = None,
) -> Tensor:
    """AGI: the target's probability followed along sign steps towards another class, until that class wins.

        A = -sum_k (x_{k+1} - b_k) * dp_target(x_k)/dx,    x_{k+1} = clamp(b_k + step * sign(dp_class(x_k)/dx))

    described, corrected  AGI's own paper: b_k = x_k.
    released              MFABA's repository (saliency/core/agi.py). b_k is the image itself, so the perturbation never
                          accumulates. The losses of a batch sum over all pairs of images: p_class of an image is its sum
                          over the adversarial classes of the whole batch, p_target that over the batch's targets (64
                          images in the paper). Finished images are removed from a list while it is iterated over, so
                          the one that follows a removed one in the list is looked at a step later.

    Args:
        inputs:   (B, *F) within ``bounds``.
        targets:  (B,) int64; the authors explain the predicted class, whatever the label.
        protocol: one of PROTOCOLS.
        classes:  adversarial classes, drawn from all but the last with seed 3407 (for 1000 classes the released
                  draw); a class that is the target is replaced by the next one. Attributions are summed over them.
        steps:    at most, each one forward and two backward passes for the images that are not finished.
        chunk:    points that go through the net at once at most; the result does not change.

    Returns:
        (B, *F). Unit: probability. Zero for an image that the adversarial class wins from the start.

    Raises:
        ValueError: images outside bounds, targets that are no classes, more classes than the net has others, an unknown
            protocol, steps below 1.
    """
    if steps < 1 or classes < 1:
        raise ValueError(f"steps and classes must be >= 1, got {steps} and {classes}")
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; there are: {', '.join(PROTOCOLS)}")
    check_bounds(inputs, bounds)
    options: _Options = (protocol == "released", steps, step, bounds, chunk_size(model, inputs, chunk))
    total = torch.zeros_like(inputs)
    for draw in range(classes):
        total += _towards(model, inputs, targets, partial(_adversary, classes, draw, targets), options)
    return total


_Options = tuple[bool, int, float, Bounds, int]  # shared, steps, step, bounds, chunk


def _towards(
    model: nn.Module, inputs: Tensor, targets: Tensor, adversary: Callable[[int], Tensor], options: _Options
) -> Tensor:
    """The attribution of one adversarial class; ``adversary(classes of the net)`` is each image's, (B,)."""
    shared, steps, step, bounds, chunk = options
    total = torch.zeros_like(inputs)
    images = torch.arange(len(inputs), device=inputs.device)
    x = inputs
    for _ in range(steps):
        looks = [
            _look(model, points, places, targets, adversary, shared)
            for points, places in zip(x.split(chunk), images.split(chunk), strict=True)
        ]
        to_goal, of_target, reached = (torch.cat(parts) for parts in zip(*looks, strict=True))
        finished = _removed_while_iterating(reached) if shared else reached
        if finished.any():
            images, x, to_goal, of_target = (values[~finished] for values in (images, x, to_goal, of_target))
        if not len(images):
            break
        base = inputs[images] if shared else x
        moved = base + step * to_goal.sign()
        x = moved if bounds is None else moved.clamp(*bounds)
        total.index_add_(0, images, (base - x) * of_target)
    return total


def _look(
    model: nn.Module,
    points: Tensor,
    images: Tensor,
    targets: Tensor,
    adversary: Callable[[int], Tensor],
    shared: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the adversary's and of the target's probability (n, *F), and where the adversary wins (n,).

    Args:
        images:  (n,), places of the points' images in the batch.
        targets: (B,), of the whole batch.
        shared:  of the sum of the probabilities of all the batch's adversaries and targets instead of each image's own.
    """
    with first_order(model, points), torch.enable_grad():
        at = points.detach().requires_grad_()
        logits = checked_logits(model, at, targets[images])
        goals = adversary(logits.shape[1])
        probabilities = logits.softmax(1)
        sums = []
        for classes in (goals, targets):
            weights = nn.functional.one_hot(classes, logits.shape[1]).to(logits)  # (B, classes of the net)
            sums.append((probabilities * (weights.sum(0) if shared else weights[images])).sum())
        to_goal = input_gradient(sums[0], at, retain_graph=True)
        of_target = input_gradient(sums[1], at)
    return to_goal, of_target, logits.detach().argmax(1) == goals[images]


def _removed_while_iterating(reached: Tensor) -> Tensor:
    """Which of those that are to go a Python loop removes from the list that it runs over: it skips the next one, (n,)."""
    removed: list[bool] = []
    for goes in reached.tolist():
        removed.append(goes and not (removed and removed[-1]))
    return torch.tensor(removed, dtype=torch.bool, device=reached.device)


def _adversary(count: int, draw: int, targets: Tensor, of: int) -> Tensor:
    """The ``draw``-th of ``count`` classes out of the first ``of - 1``; one more where it is the target. (B,)."""
    if count > of - 1:
        raise ValueError(f"classes must be at most {of - 1} for a net of {of} classes, got {count}")
    chosen = random.Random(CLASS_SEED).sample(range(of - 1), count)[draw]
    return torch.full_like(targets, chosen) + (targets == chosen)


METHODS: dict[str, Method] = {
    "agi": Method(partial(agi, bounds=None), None, "AGI, released", ties_batch_mates=True, order=60),
    "agi_corrected": Method(partial(agi, protocol="corrected", bounds=None), None, "AGI, corrected", order=61),
}
