"""BatchNorm made homogeneous: it only scales."""

import torch
from torch import Tensor, nn

from xdnn.homogeneity.errors import NotHomogeneousError


class BiasFreeBatchNorm(nn.Module):
    """BatchNorm that only scales: no mean is subtracted and no shift is added (Mohan et al. 2020, arXiv 1906.05478).

    eval:   y = gamma / sqrt(running_var + eps) * x, linear in x, so homogeneous of degree 1.
    train:  the batch's variance stands in for ``running_var``, which is updated as BatchNorm does it. A statistic of the
            input divides the input: a training pass is *not* homogeneous, and images depend on their batch mates.

    Keeps the names ``weight``, ``running_var`` and ``num_batches_tracked`` of BatchNorm; ``bias`` and ``running_mean`` go.
    """

    weight: nn.Parameter | None
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, norm: nn.modules.batchnorm._BatchNorm) -> None:
        super().__init__()
        if norm.running_var is None:
            raise NotHomogeneousError(
                "BatchNorm without running statistics divides by a statistic of its input, also in eval"
            )
        self.eps, self.momentum = norm.eps, norm.momentum
        self.register_parameter("weight", norm.weight)
        self.register_buffer("running_var", norm.running_var)
        self.register_buffer("num_batches_tracked", norm.num_batches_tracked)

    def forward(self, x: Tensor) -> Tensor:
        scale = ((self._batch_variance(x) if self.training else self.running_var) + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        return x * scale.view(1, -1, *[1] * (x.ndim - 2))

    def _batch_variance(self, x: Tensor) -> Tensor:
        """The variance of each channel over the batch, (C,), which also moves the running one."""
        axes = [axis for axis in range(x.ndim) if axis != 1]
        # Under autocast x comes in bf16: too coarse for a statistic, and of another dtype than the running one.
        variance = x.to(self.running_var.dtype).var(axes, unbiased=False)
        count = x.numel() // x.shape[1]
        with torch.no_grad():
            self.num_batches_tracked += 1
            momentum = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
            self.running_var.lerp_(variance.detach() * count / max(count - 1, 1), momentum)
        return variance
