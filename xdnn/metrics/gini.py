"""Gini coefficient: how unevenly an attribution is spread over features."""

import torch
from torch import Tensor

from xdnn.metrics.metric import Metric


def gini(sizes: Tensor) -> Tensor:
    """Gini coefficient over the last axis; unit-free, 0 = all equal, 1 - 1/d = all on one. Higher is sparser.

    Erion et al. 2021 and the released X-DNN code:  G = 0.5 * mean_ij |s_i - s_j| / mean_i s_i
    From the sorted values, sum_ij |s_i - s_j| = 2 sum_k (2k - d - 1) s_(k), so d log d instead of d^2. Differentiable.

    Args:
        sizes: (..., d), not negative. All zero gives 0: nothing is spread, and the gradient is zero.
    """
    d = sizes.shape[-1]
    weights = torch.arange(1 - d, d, 2, dtype=sizes.dtype, device=sizes.device)
    total = sizes.sum(-1)
    return (sizes.sort(-1).values @ weights) / (d * total.where(total > 0, 1.0))


METRICS = {"gini": Metric("Gini coefficient", "", "higher", "spread", gini)}
