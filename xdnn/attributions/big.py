"""BIG: Integrated Gradients from the decision boundary (Wang et al. 2022), as MFABA's authors ran it and corrected."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from xdnn.arguments import checks_arguments
from xdnn.attributions.boundary_paths import SIGN_STEP, STEPS, PathProtocol, boundary_path, per_image
from xdnn.attributions.method import Method
from xdnn.attributions.paths import Quadrature, captum_trapezoid, integrated_gradients
from xdnn.attributions.pixels import BOUNDS, Bounds, check_bounds
from xdnn.chunking import chunk_size

BIG_RADII = tuple(v / 255 for v in (36, 64, 76.5, 127.5, 178.5, 229.5, 280.5))  # the released ones; none is reached
BIG_STEPS = 50  # quadrature points between the image and its boundary point

PROTOCOLS = {
    "released": PathProtocol("log_double_softmax", accumulate=True, stop_at_boundary=False),
    "described": PathProtocol("log_double_softmax", stop_at_boundary=False),
    "corrected": PathProtocol("probability", step_if_wrong=False),
}


@checks_arguments
@torch.no_grad()
def big(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    protocol: str = "released",
    radii: Sequence[float] = BIG_RADII,
    repeat_equal: bool = True,
    bounds: Bounds = BOUNDS,
    steps: int = BIG_STEPS,
    chunk: int | None = None,
) -> Tensor:
    """BIG: Integrated Gradients from the nearest boundary point (saliency/core/big.py of MFABA's released code).

    50 sign steps of 0.001 move a number by at most 0.05, less than the smallest radius, 36/255: the released seven paths
    are one path taken seven times. It does not stop at the boundary, follows the sum of all its gradients ("described"
    has one for each step), and captum's trapezoid of 50 points, whose weights sum to 0.98, integrates the probability.
    Corrected: one path per radius that can bind, which stops at the boundary, and Gauss-Legendre points.

    Args:
        inputs:       (B, *F) within ``bounds``.
        targets:      (B,) int64; the authors explain the label.
        protocol:     "released", "described" or "corrected" (``boundary_paths``). In none do batch mates matter.
        radii:        largest distance from the image in each number, one path each.
        repeat_equal: as released, search again for radii that cannot bind; False gives the same numbers at a seventh of
                      the search.
        steps:        quadrature points, >= 2.
        chunk:        points evaluated at once at most.

    Returns:
        (B, *F). Unit: probability; sums to p(x) - p(boundary point) up to the quadrature (times 0.98, unless corrected).
        With all seven radii an image costs 407 forward and 407 backward passes. A misclassified image takes the path of
        any other, and gives zero when corrected. Where no boundary is found the path's end is used.

    Raises:
        ValueError: as ``mfaba_paths``.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; there are: {', '.join(PROTOCOLS)}")
    check_bounds(inputs, bounds)
    corrected = protocol == "corrected"
    if corrected or not repeat_equal:
        reach = STEPS * SIGN_STEP
        radii = [*(radius for radius in radii if radius < reach), *[radius for radius in radii if radius >= reach][:1]]
    rule: str | Quadrature = "gauss_legendre" if corrected else captum_trapezoid
    probability = nn.Sequential(model, nn.Softmax(1))
    size = chunk_size(model, inputs, chunk)
    parts = []
    for images, labels in zip(inputs.split(size), targets.split(size), strict=True):
        points, _ = boundary_points(model, images, labels, radii=radii, protocol=PROTOCOLS[protocol], bounds=bounds)
        parts.append(
            integrated_gradients(probability, images, labels, baseline=points, steps=steps, quadrature=rule, chunk=size)
        )
    return torch.cat(parts)


def boundary_points(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    radii: Sequence[float],
    protocol: PathProtocol,
    bounds: Bounds,
) -> tuple[Tensor, Tensor]:
    """BIG's search: one path of sign steps per radius; the nearest end at which another class wins, or the first radius's end.

    Returns:
        points (B, *F) and whether they are beyond the boundary, (B,) bool.
    """
    if not radii:
        raise ValueError("radii must name at least one radius")
    ends = []
    for radius in radii:
        end, crossed = inputs.clone(), torch.zeros(len(inputs), dtype=torch.bool, device=inputs.device)
        for step in boundary_path(model, inputs, targets, sign=True, protocol=protocol, bounds=bounds, radius=radius):
            end[step.images], crossed[step.images] = step.stop, step.crossed
        ends.append((end, crossed, (end - inputs).flatten(1).norm(dim=1).where(crossed, torch.inf)))
    best, found, distance = ends[0]
    for end, crossed, far in ends[1:]:
        best = end.where(per_image(far < distance, end), best)
        found, distance = found | crossed, torch.minimum(distance, far)
    return best, found


METHODS: dict[str, Method] = {
    "big": Method(partial(big, bounds=None), 407, "BIG, released", order=50),
    "big_described": Method(partial(big, protocol="described", bounds=None), 407, "BIG, described", order=51),
    "big_corrected": Method(partial(big, protocol="corrected", bounds=None), None, "BIG, corrected", order=52),
}
