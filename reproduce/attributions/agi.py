"""Adversarial Gradient Integration (Pan, Li, Zhu, IJCAI 2021), as MFABA's authors ran it and as its paper describes it."""

import random

import torch
from torch import Tensor, nn

from reproduce.attributions.boundary import BOUNDS, Bounds
from reproduce.attributions.engine import chunk_size, lean
from reproduce.attributions.gradients import check_batch, checked_logits
from reproduce.attributions.pixels import check_bounds

STEP = 0.05  # sign step in each number; epsilon of the released code
STEPS = 20  # at most; max_iter
CLASS_SEED = 3407  # decides the adversarial classes


@torch.no_grad()
def agi(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    accumulate: bool = False,
    classes: int = 1,
    steps: int = STEPS,
    step: float = STEP,
    bounds: Bounds = BOUNDS,
    chunk: int | None = None,
) -> Tensor:
    """AGI: the target's probability followed along sign steps towards another class, until that class wins.

        A = -sum_k (x_{k+1} - b_k) * dp_target(x_k)/dx,    x_{k+1} = clamp(b_k + step * sign(dp_class(x_k)/dx))

    As published in MFABA's repository (saliency/core/agi.py) b_k is the image itself, so the perturbation never
    accumulates; with ``accumulate`` b_k = x_k, the path of AGI's own paper. The released loss of a batch sums over all
    pairs of images, which ties an image to its batch mates; here each image is explained as in a batch of one.

    Args:
        inputs:     (B, *F) within ``bounds``.
        accumulate: False as published, True corrected.
        classes:    adversarial classes, drawn from all but the last with seed 3407 (for 1000 classes the published
                    draw); a class that is the target is replaced by the next one. Attributions are summed over them.
        steps:      most steps, each one forward and two backward passes for the images still walking.
        chunk:      images that walk together at most; the result does not change.

    Returns:
        (B, *F). Unit: probability. Zero for an image that the adversarial class wins from the start.

    Raises:
        ValueError: images outside bounds, targets that are no classes, more classes than the net has others, steps below 1.
    """
    if steps < 1 or classes < 1:
        raise ValueError(f"steps and classes must be >= 1, got {steps} and {classes}")
    check_batch(inputs, targets)
    check_bounds(inputs, bounds)
    size = chunk_size(model, inputs, chunk)
    total = torch.zeros_like(inputs)
    for first in range(0, len(inputs), size):
        part = slice(first, first + size)
        for draw in range(classes):
            total[part] += _towards(
                model, inputs[part], targets[part], draw, classes, accumulate=accumulate, steps=steps, step=step, bounds=bounds
            )  # fmt: skip
    return total


def _towards(
    model: nn.Module, inputs: Tensor, targets: Tensor, draw: int, classes: int,
    *, accumulate: bool, steps: int, step: float, bounds: Bounds,
) -> Tensor:  # fmt: skip
    """The attribution of the ``draw``-th adversarial class."""
    total = torch.zeros_like(inputs)
    images = torch.arange(len(inputs), device=inputs.device)
    x = inputs
    for _ in range(steps):
        with lean(model, x), torch.enable_grad():
            at = x.detach().requires_grad_()
            logits = checked_logits(model, at, targets[images])
            goal = _adversary(logits.shape[1], classes, draw, targets[images])
            probabilities = logits.softmax(1)
            towards, label = (probabilities.gather(1, t[:, None]).sum() for t in (goal, targets[images]))
            to_goal = torch.autograd.grad(towards, at, retain_graph=True)[0]
            of_label = torch.autograd.grad(label, at)[0]
        keep = logits.argmax(1) != goal
        if not keep.all():
            images, x, to_goal, of_label = (v[keep] for v in (images, x, to_goal, of_label))
        if not len(images):
            break
        base = x if accumulate else inputs[images]
        moved = base + step * to_goal.sign()
        x = moved if bounds is None else moved.clamp(*bounds)
        total.index_add_(0, images, (base - x) * of_label)
    return total


def _adversary(of: int, count: int, draw: int, targets: Tensor) -> Tensor:
    """The ``draw``-th of ``count`` classes out of the first ``of - 1``; one more where it is the target. (B,)."""
    if count > of - 1:
        raise ValueError(f"classes must be at most {of - 1} for a net of {of} classes, got {count}")
    chosen = random.Random(CLASS_SEED).sample(range(of - 1), count)[draw]
    return torch.full_like(targets, chosen) + (targets == chosen)
