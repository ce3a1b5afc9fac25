"""Is the true class among the k largest logits?"""

from torch import Tensor

from xdnn.metrics.metric import Metric


def topk_hits(logits: Tensor, targets: Tensor, k: int = 1) -> Tensor:
    """Whether each target is among the ``k`` largest logits; (B,) bool. Its mean is top-k accuracy, higher is better.

    A net with fewer than ``k`` classes is never wrong. Logits that are NaN never hit.

    Raises:
        ValueError: k below 1.
    """
    if k < 1:
        raise ValueError(f"k must be >= 1, got {k}")
    best = logits.topk(min(k, logits.shape[1]), dim=1).indices
    return (best == targets[:, None]).any(1) & ~logits.isnan().any(1)


METRICS = {"top1": Metric("top-1 accuracy", "", "higher", "prediction", topk_hits)}
