"""Insertion and deletion (Petsiuk et al. 2018): how fast the class comes and goes with the best pixels."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xdnn.adapt import as_module
from xdnn.chunking import chunk_size
from xdnn.logits import all_logits, check_finite, of_targets
from xdnn.memory_format import match_format, suited_format
from xdnn.metrics.metric import Metric

RELEASED_STEP = 224  # pixels per step in MFABA's evaluation, one row of its images
RANKINGS = ("released", "channels", "pixels")


@dataclass(frozen=True)
class Curves:
    """Probability of the class predicted for the whole image, after 0, 1, 2, ... steps; (B, K + 1) each."""

    insertion: Tensor
    deletion: Tensor


def ranks(attributions: Tensor, ranking: str = "released") -> Tensor:
    """Place of each number in its order of removal, 0 the first; (B, 1, H * W) int64, or (B, C, H * W) for "channels".

        released  each channel is ranked by itself, and a pixel has the best place that any channel gives it: so many
                  pixels change in a step as the channels name, up to C times ``step`` (MFABA's eval.py)
        channels  each channel is ranked by itself, so a step changes other places in each
        pixels    one order of the pixels by the sum over channels: the standard protocol (RISE)

    Equal values go in order of their place; in the released order in reverse, which is a flipped argsort.
    """
    if ranking not in RANKINGS:
        raise ValueError(f"unknown ranking {ranking!r}; there are: {', '.join(RANKINGS)}")
    values = attributions.flatten(2)
    if ranking == "pixels":
        values = values.sum(1, keepdim=True)
    flipped = ranking == "released"
    order = values.argsort(dim=-1, descending=not flipped, stable=True)
    order = order.flip(-1) if flipped else order
    places = torch.arange(values.shape[-1], device=values.device).expand_as(order)
    found = torch.empty_like(order).scatter_(-1, order, places)
    return found.amin(1, keepdim=True) if flipped else found


@torch.no_grad()
def insertion_deletion(
    model: nn.Module,
    inputs: Tensor,
    attributions: Tensor,
    *,
    step: int = RELEASED_STEP,
    ranking: str = "released",
    substrate: float | Tensor = 0.0,
    chunk: int | None = None,
) -> Curves:
    """Insertion and deletion curves of a batch (the CausalMetric of RISE, as MFABA's eval.py calls it).

    Deletion starts at the image and sets the ``step`` best pixels to the substrate, then the next; insertion starts at
    the substrate and brings them back. The last step takes what is left. The score is the softmax probability of the
    class that the net predicts for the whole image, at any number of classes and any image size.

    Args:
        model:        (B, C, H, W) -> logits.
        inputs:       (B, C, H, W).
        attributions: (B, C, H, W); signed, the largest first.
        step:         pixels per step >= 1; ceil(H * W / step) = K steps, 2 K forward passes per image: the
                      image and the substrate are looked at once for both curves.
        ranking:      one of RANKINGS, see ``ranks``; "pixels" is the standard.
        substrate:    what replaces a pixel: a number or a tensor that broadcasts to inputs. Released: zeros in
                      [0, 1], black; for normalised inputs black is -mean / std per channel.
        chunk:        most images evaluated at once, 2 at least.

    Raises:
        ValueError: step below 1, attributions of another shape or not finite, an unknown ranking.
    """
    model = as_module(model)
    if step < 1:
        raise ValueError(f"step must be >= 1, got {step}")
    if attributions.shape != inputs.shape or inputs.ndim != 4:
        raise ValueError(
            f"attributions {tuple(attributions.shape)} must have the inputs' shape {tuple(inputs.shape)}, (B, C, H, W)"
        )
    check_finite(attributions)
    inputs = suited_format(model, inputs)
    place = match_format(ranks(attributions, ranking).int().view(len(inputs), -1, *inputs.shape[2:]), inputs)
    empty = torch.as_tensor(substrate).to(inputs).broadcast_to(inputs.shape).contiguous()
    empty = match_format(empty, inputs)
    size = chunk_size(model, inputs, chunk)
    half = max(1, size // 2)  # an image is evaluated inserted and deleted at once
    steps = -(-place[0].numel() // place.shape[1] // step) if len(inputs) else 1
    parts = [
        _curves(model, x, e, p, step, steps, size)
        for x, e, p in zip(inputs.split(half), empty.split(half), place.split(half), strict=True)
    ]
    return Curves(*(torch.cat(curves) for curves in zip(*parts, strict=True)))


def _curves(
    model: nn.Module, x: Tensor, empty: Tensor, place: Tensor, step: int, steps: int, size: int
) -> tuple[Tensor, Tensor]:
    """(n, K + 1) twice. Several steps are evaluated at once where the images are few."""
    whole = all_logits(model, x).softmax(1)
    predicted = whole.argmax(1)
    nothing = model(empty).softmax(1)
    ends = [_score(p, predicted) for p in (whole, nothing)]  # (1, n) each
    insertion, deletion = [ends[1]], [ends[0]]
    together = max(1, size // max(1, 2 * len(x)))
    for first in range(1, steps, together):
        taken = range(first, min(first + together, steps))
        points = match_format(x.new_empty(2 * len(taken) * len(x), *x.shape[1:]), x)
        with_best, without = points.view(2, len(taken), *x.shape)
        for k, count in enumerate(taken):
            best = place < count * step
            torch.where(best, x, empty, out=with_best[k])
            torch.where(best, empty, x, out=without[k])
        scores = _score(model(points).softmax(1), predicted.repeat(2 * len(taken)))
        inserted, deleted = scores.view(2, len(taken), len(x))
        insertion.append(inserted)
        deletion.append(deleted)
    return torch.cat([*insertion, ends[0]]).T, torch.cat([*deletion, ends[1]]).T


def _score(probabilities: Tensor, classes: Tensor) -> Tensor:
    return of_targets(probabilities, classes)[None]


def area(curves: Tensor) -> Tensor:
    """Trapezoid under each curve (B, K + 1), normalised to 0..1: insertion higher is better, deletion lower. (B,)."""
    if curves.shape[1] < 2:
        raise ValueError(f"a curve needs two points, got {tuple(curves.shape)}")
    return (curves[:, 1:] + curves[:, :-1]).mean(1) / 2


METRICS = {
    "insertion": Metric("insertion", "", "higher", "curve", area),
    "deletion": Metric("deletion", "", "lower", "curve", area),
}
