"""Attribution priors on tables (X-DNN Sec. 4.3), trained for many repetitions at once.

A repetition is a split of the rows, fresh weights and its own random draws. Letters are R repetitions, N training rows,
K references, d features.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from reproduce.training.side_by_side import Generators, Layers, forward, initial_layers, linearised
from xdnn.metrics.gini import gini
from xdnn.metrics.ranking import roc_auc

# sparsity/run_sparsity_experiments.py of the released code
HIDDEN = (512, 128, 32)
LEARNING_RATE = 1e-3  # Adam
EPOCHS = 100  # full batch


@dataclass(frozen=True)
class Prior:
    """What is added to the loss: -strength * Gini(mean over training rows of |attribution|).

    Attributes:
        attribution: "" (nothing), "x_gradient" x dz/dx, "gradient" dz/dx, "rrr" the gradient of the sum of both
            classes' log probabilities (Ross et al. 2017), "expected_gradients".
        bias: does the net have biases? X-Gradient needs a net without.
        references: of expected_gradients, per row and epoch; each costs about as much as a training step
            without a prior.
    """

    attribution: str = ""
    strength: float = 0.0
    bias: bool = True
    references: int = 1

    def __post_init__(self) -> None:
        if self.attribution and self.attribution not in ATTRIBUTIONS:
            raise ValueError(f"unknown attribution {self.attribution!r}; there are: {', '.join(ATTRIBUTIONS)}")
        if self.references < 1:
            raise ValueError(f"references must be >= 1, got {self.references}")
        if self.attribution == "x_gradient" and self.bias:
            raise ValueError("X-Gradient is defined on nets without biases: Prior('x_gradient', bias=False)")


# (rows x, logits z, dz/dx) -> attributions (R, N, d)
AT_THE_ROWS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "x_gradient": lambda x, z, gradient: x * gradient,
    "gradient": lambda x, z, gradient: gradient,
    "rrr": lambda x, z, gradient: -torch.tanh(z / 2)[..., None] * gradient,  # d(log p + log(1 - p))/dx = (1 - 2p) dz/dx
}
ATTRIBUTIONS = (*AT_THE_ROWS, "expected_gradients")


def expected_gradients(layers: Layers, x: Tensor, references: int, generators: Generators) -> Tensor:
    """mean over K references r of (x - r) dz/dx at r + a (x - r), a ~ U(0, 1).

    Erion et al. 2021. References are dealt out as by the released loader: all rows K times over, shuffled, without
    replacement, so in each epoch every row is a reference exactly K times.

    Returns (R, N, d); sums over d to z(x) - mean z(r) in expectation.
    """
    _, n, d = x.shape
    dealt = n * references
    chosen = torch.stack([torch.randperm(dealt, generator=g) for g in generators]).to(x.device) % n
    a = torch.stack([torch.rand(dealt, generator=g, dtype=torch.float64) for g in generators]).to(x)[..., None]
    delta = x.repeat_interleave(references, 1) - x.gather(1, chosen[..., None].expand(-1, -1, d))  # (R, N*K, d)
    points = torch.addcmul(x.repeat_interleave(references, 1), 1 - a, delta, value=-1)
    with torch.no_grad():
        _, masks = forward(layers, points)
    _, gradient = linearised(layers, points, masks)
    return (delta * gradient).unflatten(1, (n, references)).mean(2)


@dataclass(frozen=True)
class Trained:
    """The nets of the epoch with the best validation ROC-AUC, and what was measured on the way; all (R,) but losses.

    Attributes:
        losses: (R, epochs) binary cross entropy plus prior, before each epoch's update
        epoch: the chosen one, counted from 0: so many updates have been made
        gini: of the mean |x dz/dx| over training rows, the same measure for every method
        gini_own: of the prior's own attribution; gini where there is no prior
    """

    layers: Layers
    losses: Tensor
    epoch: Tensor
    validation_auc: Tensor
    gini: Tensor
    gini_own: Tensor


def train(
    train_rows: Tensor,
    train_labels: Tensor,
    validation_rows: Tensor,
    validation_labels: Tensor,
    prior: Prior,
    generators: Generators,
    *,
    epochs: int = EPOCHS,
    hidden: Sequence[int] = HIDDEN,
) -> Trained:
    """Train a net for each repetition, all at once: X-DNN Sec. 4.3 as released.

    loss = BCE - strength * Gini(mean_n |A_n|), Adam, full batch. Each epoch is measured before its update, and the first
    with the best validation ROC-AUC is kept.

    Args:
        train_rows: (R, N, d), standardised; labels (R, N) bool. Their dtype and device are those of the training.
        generators: one for each repetition: weights, then references. A repetition does not depend on its neighbours.
        hidden:     units of the hidden layers.

    Raises:
        ValueError: validation rows of one class.
    """
    layers = initial_layers((train_rows.shape[-1], *hidden, 1), prior.bias, generators, train_rows)
    parameters = [p for pair in layers for p in pair if p is not None]
    optimizer = torch.optim.Adam(parameters, LEARNING_RATE, fused=True)
    wanted = train_labels.to(train_rows)
    best, losses = _Best(parameters, len(generators)), []
    for epoch in range(epochs):
        z, own = _attributed(layers, train_rows, prior, generators)
        loss = F.binary_cross_entropy_with_logits(z, wanted, reduction="none").mean(1)
        if own is not None:
            loss = loss - prior.strength * own
        with torch.no_grad():
            auc = roc_auc(forward(layers, validation_rows)[0], validation_labels)
            best.update(epoch, auc, own, parameters)
        losses.append(loss.detach())
        optimizer.zero_grad()
        loss.sum().backward()  # repetitions share no weight: the sum keeps them apart
        optimizer.step()
    kept = _as_layers(best.parameters, prior.bias)
    with torch.no_grad():
        _, masks = forward(kept, train_rows)
        _, gradient = linearised(kept, train_rows, masks)
        spread = gini((train_rows * gradient).abs().mean(1)).double()
    own_spread = best.own if prior.attribution else spread
    return Trained(kept, torch.stack(losses, 1), best.epoch, best.auc, spread, own_spread)


class _Best:
    """The weights of each repetition's first epoch with the best validation ROC-AUC; what was measured then, (R,) each."""

    def __init__(self, parameters: list[Tensor], repetitions: int) -> None:
        device = parameters[0].device
        self.parameters = [parameter.detach().clone() for parameter in parameters]
        self.auc = torch.full((repetitions,), -1.0, dtype=torch.float64, device=device)
        self.epoch = torch.zeros(repetitions, dtype=torch.int64, device=device)
        self.own = torch.zeros_like(self.auc)

    def update(self, epoch: int, auc: Tensor, own: Tensor | None, parameters: list[Tensor]) -> None:
        better = auc > self.auc
        self.auc, self.epoch = self.auc.where(~better, auc), self.epoch.masked_fill(better, epoch)
        if own is not None:
            self.own = self.own.where(~better, own.double())
        for kept, parameter in zip(self.parameters, parameters, strict=True):
            kept[better] = parameter[better]


def _attributed(layers: Layers, x: Tensor, prior: Prior, generators: Generators) -> tuple[Tensor, Tensor | None]:
    """Logits (R, N) and the Gini coefficient (R,) of the prior's attribution, None without a prior."""
    if prior.attribution not in AT_THE_ROWS:
        z, _ = forward(layers, x)
        if not prior.attribution:
            return z, None
        attributions = expected_gradients(layers, x, prior.references, generators)
    else:
        with torch.no_grad():
            _, masks = forward(layers, x)
        z, gradient = linearised(layers, x, masks)
        attributions = AT_THE_ROWS[prior.attribution](x, z, gradient)
    return z, gini(attributions.abs().mean(1))


def _as_layers(parameters: list[Tensor], bias: bool) -> Layers:
    if not bias:
        return [(weight, None) for weight in parameters]
    return list(zip(parameters[::2], parameters[1::2], strict=True))
