"""How far two attributions of the same images are from each other, and how far one is from completeness."""

from torch import Tensor

from xdnn.logits import check_finite
from xdnn.metrics.metric import Metric

MARD_EPSILON = 1e-7  # imagenet/val.py writes it as 10e-8


def mard(reference: Tensor, other: Tensor) -> Tensor:
    """Mean absolute relative difference of one batch; unit-free, 0 is equality, lower is closer. Scalar.

    X-DNN Sec. 4.1 as coded in imagenet/val.py:  mean|A - B| / (mean|A| + 1e-7)
    over all entries of the batch. A ratio of batch means: the batch size (16 in the paper) is part of the definition,
    and the paper's number is the mean of this over batches.

    Raises:
        ValueError: an attribution that is not finite.
    """
    _check_finite(reference, other)
    return (reference - other).abs().mean() / (reference.abs().mean() + MARD_EPSILON)


def mard_by_image(reference: Tensor, other: Tensor) -> Tensor:
    """What each of the B images of one batch contributes to its MARD; unit-free. (B,); their mean is ``mard``.

    Image i has R + B (R - R_i), less the mean of the second term, where R is the batch's MARD and R_i that without image i
    (the jackknife). The spread of these values over images is that of MARD; some may be below 0.

    Raises:
        ValueError: an attribution that is not finite.
    """
    return mard_from_means(*mean_differences(reference, other))


def mean_differences(reference: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """mean|A - B| and mean|A| over the entries of each image, (B,) each: all that MARD takes from an image.

    Raises:
        ValueError: an attribution that is not finite.
    """
    _check_finite(reference, other)
    difference, size = (values.flatten(1).abs().mean(1) for values in (reference - other, reference))
    return difference, size


def mard_from_means(difference: Tensor, size: Tensor) -> Tensor:
    """``mard_by_image`` of the images of one batch of which ``mean_differences`` is known. (B,)"""
    size, count = size + MARD_EPSILON, len(size)
    whole = difference.sum() / size.sum()
    if count == 1:
        return whole[None]
    without = (difference.sum() - difference) / (size.sum() - size)
    effect = count * (whole - without)
    return whole + effect - effect.mean()


def relative_l1(reference: Tensor, other: Tensor) -> Tensor:
    """sum|A - B| / sum|A| for each image; unit-free, 0 is equality. (B,). An all-zero reference gives 0 or infinity.

    Raises:
        ValueError: an attribution that is not finite.
    """
    _check_finite(reference, other)
    difference, size = (values.flatten(1).abs().sum(1) for values in (reference - other, reference))
    return (difference / size).where(difference > 0, 0.0)


def completeness_gap(attributions: Tensor, output_change: Tensor) -> Tensor:
    """|sum_i A_i - (F(x) - F(x'))| / |F(x) - F(x')| for each image; unit-free, 0 is completeness. (B,).

    IG paper Prop. 1; its Sec. 5 asks for 5 %. ``output_change`` is F(x) - F(x'), (B,), in logits.

    Raises:
        ValueError: an attribution or a change that is not finite.
    """
    _check_finite(attributions)
    check_finite(output_change, "the change of the output of image {} is NaN or infinity")
    return (attributions.flatten(1).sum(1) - output_change).abs() / output_change.abs().clamp_min(1e-12)


def _check_finite(*attributions: Tensor) -> None:
    for values in attributions:
        check_finite(values)


METRICS = {
    "mard": Metric("MARD", "", "lower", "pair", mard),
    "relative_l1": Metric("relative L1 distance", "", "lower", "pair", relative_l1),
    "completeness_gap": Metric("completeness gap", "", "lower", "sum", completeness_gap),
}
