"""ROC-AUC of many repetitions at once."""

import torch
from torch import Tensor

from xdnn.metrics.metric import Metric


def roc_auc(scores: Tensor, labels: Tensor) -> Tensor:
    """Area under the ROC curve; 0..1, higher is better, 0.5 is guessing. One value for each leading index.

    The share of (positive, negative) pairs that the scores order rightly, ties half (Mann-Whitney).

    Args:
        scores: (..., n), finite.
        labels: (..., n) bool, true is the positive class.

    Raises:
        ValueError: scores that are not finite; a row has one class only.
    """
    if not torch.isfinite(scores).all():
        raise ValueError("ROC-AUC is not defined where a score is NaN or infinity")
    positives = labels.sum(-1)
    negatives = labels.shape[-1] - positives
    if not (positives * negatives).all():
        raise ValueError("ROC-AUC is not defined where all labels are the same")
    ordered = scores.masked_fill(labels, torch.inf).sort(-1).values  # the negatives, then infinities
    below = torch.searchsorted(ordered, scores.contiguous(), side="left")
    up_to = torch.searchsorted(ordered, scores.contiguous(), side="right")
    won = ((below + up_to).double() / 2).masked_fill(~labels, 0.0).sum(-1)
    return won / (positives * negatives)


METRICS = {"roc_auc": Metric("ROC-AUC", "", "higher", "prediction", roc_auc)}
