"""Attribution priors on tables (X-DNN Sec. 4.3), trained for many repetitions at once.

A repetition is a split of the rows, fresh weights and its own random draws. Repetitions never meet, so they are one more
axis of every product: letters are R repetitions, N training rows, K references, d features.

The net is an MLP with ReLUs. Where no ReLU changes sides it is linear, so the gradient of its logit by the input is a
product of its weights and of masks that have no gradient themselves. Written out as such a product, a prior on the gradient
trains with one ordinary backward pass: exactly what double backpropagation computes, without a graph of a graph.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.nn import functional as F

from reproduce.metrics.gini import gini
from reproduce.metrics.ranking import roc_auc

# sparsity/run_sparsity_experiments.py of the released code
TRAIN_ROWS, VALIDATION_ROWS = 100, 100
HIDDEN = (512, 128, 32)
LEARNING_RATE = 1e-3  # Adam
EPOCHS = 100  # full batch
VERSION = 1  # raise when a change here changes a trained weight

# Points (repetitions x rows x references) whose activations are alive at once: more fall out of the cache, and memory grows.
GROUP_POINTS = 400


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


# --- rows -------------------------------------------------------------------------------------------------------------


def split_rows(rows: int, repetition: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of training, validation and test rows: 200 by ``random_state=repetition``, of them 100, the rest is tested."""
    both, test = train_test_split(np.arange(rows), train_size=TRAIN_ROWS + VALIDATION_ROWS, random_state=repetition)
    train, validation = train_test_split(both, train_size=TRAIN_ROWS, random_state=repetition)
    return train, validation, test


@dataclass(frozen=True)
class Scaling:
    """Mean imputation and standardisation, (d,) each, fitted on training rows: a gap becomes 0, the mean.

    A column that is constant there is centred only. One with no value there carries nothing to learn from: it is 0 for everybody,
    which is leaving it out.
    """

    mean: Tensor
    deviation: Tensor

    @staticmethod
    def fit(rows: Tensor) -> "Scaling":
        mean = rows.nanmean(0)
        filled = rows.where(~rows.isnan(), mean)
        deviation = filled.var(0, unbiased=False).sqrt()  # NaN where the whole column is
        return Scaling(mean, deviation.where(deviation != 0, 1.0))

    def __call__(self, rows: Tensor) -> Tensor:
        return ((rows - self.mean) / self.deviation).nan_to_num_(0.0)


# --- nets -------------------------------------------------------------------------------------------------------------

Layers = list[tuple[Tensor, Tensor | None]]  # weights (R, outputs, inputs) and biases (R, 1, outputs) or None


def initial_layers(features: int, bias: bool, generators: Sequence[torch.Generator], like: Tensor) -> Layers:
    """A net for each generator: U(-1/sqrt(inputs), 1/sqrt(inputs)) for weights and biases, torch's default.

    Biases are drawn after all weights, so a net with and one without start from the same weights.
    """
    sizes = list(pairwise((features, *HIDDEN, 1)))

    def draw(shape: tuple[int, ...], inputs: int) -> Tensor:
        draws = [torch.rand(shape, generator=g, dtype=torch.float64) for g in generators]
        return ((2 * torch.stack(draws) - 1) / inputs**0.5).to(like).requires_grad_()

    weights = [draw((o, i), i) for i, o in sizes]
    biases = [draw((1, o), i) if bias else None for i, o in sizes]
    return list(zip(weights, biases, strict=True))


def forward(layers: Layers, rows: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits (R, N) of rows (R, N, d), and for each hidden layer which units are on, (R, N, units) of 0 and 1."""
    masks = []
    for weight, bias in layers[:-1]:
        rows = (rows @ weight.mT if bias is None else torch.baddbmm(bias, rows, weight.mT)).relu()
        masks.append(rows.detach().sign())
    weight, bias = layers[-1]
    logits = rows @ weight.mT if bias is None else torch.baddbmm(bias, rows, weight.mT)
    return logits.squeeze(-1), masks


def linearised(layers: Layers, rows: Tensor, masks: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Logits (R, N) and d logit / d input (R, N, d) from the masks of ``forward``; both differentiable in the weights.

    Between its kinks the net is linear, so z = x . dz/dx + sum_l b_l . dz/db_l + b (completeness of FullGrad; without
    biases Euler's identity). One backward pass through this product trains the loss and the prior together.
    """
    signal, logits = layers[-1][0], rows.new_zeros(())  # (R, 1, 32)
    if layers[-1][1] is not None:
        logits = layers[-1][1].squeeze(-1)
    for (weight, bias), mask in zip(layers[-2::-1], masks[::-1], strict=True):
        signal = signal * mask
        if bias is not None:
            logits = logits + (signal @ bias.mT).squeeze(-1)
        signal = signal @ weight
    return logits + (rows * signal).sum(-1), signal


# --- attributions -----------------------------------------------------------------------------------------------------

# (rows x, logits z, dz/dx) -> attributions (R, N, d)
AT_THE_ROWS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "x_gradient": lambda x, z, gradient: x * gradient,
    "gradient": lambda x, z, gradient: gradient,
    "rrr": lambda x, z, gradient: -torch.tanh(z / 2)[..., None] * gradient,  # d(log p + log(1 - p))/dx = (1 - 2p) dz/dx
}
ATTRIBUTIONS = (*AT_THE_ROWS, "expected_gradients")
Generators = Sequence[torch.Generator]


def expected_gradients(layers: Layers, x: Tensor, references: int, generators: Generators) -> Tensor:
    """mean over references r of (x - r) dz/dx at r + a (x - r): r a training row, a ~ U(0, 1), both drawn for each row.

    Erion et al. 2021. Returns (R, N, d); sums over d to z(x) - mean z(r) in expectation.
    """
    _, n, d = x.shape
    drawn = n * references
    chosen = torch.stack([torch.randint(n, (drawn,), generator=g) for g in generators]).to(x.device)
    a = torch.stack([torch.rand(drawn, generator=g, dtype=torch.float64) for g in generators]).to(x)[..., None]
    delta = x.repeat_interleave(references, 1) - x.gather(1, chosen[..., None].expand(-1, -1, d))  # (R, N*K, d)
    points = torch.addcmul(x.repeat_interleave(references, 1), 1 - a, delta, value=-1)
    with torch.no_grad():
        _, masks = forward(layers, points)
    _, gradient = linearised(layers, points, masks)
    return (delta * gradient).unflatten(1, (n, references)).mean(2)


# --- training ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trained:
    """The nets of the epoch with the best validation ROC-AUC, and what was measured on the way; all (R,) but losses.

    Attributes:
        losses: (R, EPOCHS) binary cross entropy plus prior, before each epoch's update
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
    train_rows: Tensor, train_labels: Tensor, validation_rows: Tensor, validation_labels: Tensor,
    prior: Prior, generators: Generators, *, epochs: int | None = None,
) -> Trained:  # fmt: skip
    """Train a net for each repetition, all at once: X-DNN Sec. 4.3 as released.

    loss = BCE - strength * Gini(mean_n |A_n|), Adam, full batch. Each epoch is judged before its update, and the first with
    the best validation ROC-AUC is kept.

    Args:
        train_rows:   (R, N, d), standardised; labels (R, N) bool. Their dtype and device are those of the training.
        generators:   one for each repetition: weights, then references. A repetition does not depend on its neighbours.

    Raises:
        ValueError: validation rows of one class.
    """
    epochs = epochs or EPOCHS
    layers = initial_layers(train_rows.shape[-1], prior.bias, generators, train_rows)
    parameters = [p for pair in layers for p in pair if p is not None]
    best = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.Adam(parameters, LEARNING_RATE, fused=True)
    wanted, device = train_labels.to(train_rows), train_rows.device
    top = torch.full((len(generators),), -1.0, dtype=torch.float64, device=device)
    chosen = torch.zeros(len(generators), dtype=torch.int64, device=device)
    own_top, losses = torch.zeros_like(top), []
    for epoch in range(epochs):
        z, own = _attributed(layers, train_rows, prior, generators)
        loss = F.binary_cross_entropy_with_logits(z, wanted, reduction="none").mean(1)
        if own is not None:
            loss = loss - prior.strength * own
        with torch.no_grad():
            auc = roc_auc(forward(layers, validation_rows)[0], validation_labels)
            better = auc > top
            top, chosen = top.where(~better, auc), chosen.masked_fill(better, epoch)
            if own is not None:
                own_top = own_top.where(~better, own.double())
            for kept, parameter in zip(best, parameters, strict=True):
                kept[better] = parameter[better]
        losses.append(loss.detach())
        optimizer.zero_grad()
        loss.sum().backward()  # repetitions share no weight: the sum keeps them apart
        optimizer.step()
    kept_layers = _as_layers(best, prior.bias)
    with torch.no_grad():
        _, masks = forward(kept_layers, train_rows)
        _, gradient = linearised(kept_layers, train_rows, masks)
        spread = gini((train_rows * gradient).abs().mean(1)).double()
    return Trained(kept_layers, torch.stack(losses, 1), chosen, top, spread, own_top if prior.attribution else spread)


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


# --- a configuration --------------------------------------------------------------------------------------------------


def run_repetitions(
    features: Tensor, labels: Tensor, prior: Prior, repetitions: Sequence[int],
    generator: Callable[[int], torch.Generator], *, epochs: int | None = None, group: int | None = None,
    tick: Callable[[float], None] = lambda share: None,
) -> dict[str, list[float]]:  # fmt: skip
    """Split, standardise, train and test each repetition; one number per repetition for each metric.

    Groups of repetitions run side by side, each on one thread: products of this size gain nothing from two.

    Args:
        features:  (n, d) float with NaN gaps, labels (n,) bool; dtype and device are those of the training.
        generator: repetition -> its generator.
        group:     repetitions trained at once; default: what keeps GROUP_POINTS points alive. Does not change a number
                   beyond rounding.

    Returns:
        test_auc, validation_auc, gini, gini_own, epoch.
    """
    group = group or max(1, GROUP_POINTS // (TRAIN_ROWS * prior.references))
    parts = [repetitions[start : start + group] for start in range(0, len(repetitions), group)]
    out: dict[str, list[float]] = {metric: [] for metric in ("test_auc", "validation_auc", "gini", "gini_own", "epoch")}
    with _one_thread_each(features.device) as pool:
        run_part = partial(_run_group, features, labels, prior, generator, epochs)
        for number, measured in enumerate(pool.map(run_part, parts), start=1):
            for metric, values in measured.items():
                out[metric] += values
            tick(number / len(parts))
    return out


@contextmanager
def _one_thread_each(device: torch.device) -> Iterator[ThreadPoolExecutor]:
    """As many workers as torch has threads, one thread for each; a GPU gets one worker. Interrupted, no further group starts."""
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads if device.type == "cpu" else 1)
    torch.set_num_threads(1)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _run_group(
    features: Tensor, labels: Tensor, prior: Prior, generator: Callable[[int], torch.Generator], epochs: int | None, part: Sequence[int]
) -> dict[str, list[float]]:  # fmt: skip
    splits = [[torch.from_numpy(rows).to(features.device) for rows in split_rows(len(labels), r)] for r in part]
    scalings = [Scaling.fit(features[train_rows]) for train_rows, _, _ in splits]
    train_rows, validation_rows = (
        torch.stack([scale(features[split[i]]) for scale, split in zip(scalings, splits, strict=True)]) for i in (0, 1)
    )
    train_labels, validation_labels = (torch.stack([labels[split[i]] for split in splits]) for i in (0, 1))
    generators = [generator(r) for r in part]
    trained = train(train_rows, train_labels, validation_rows, validation_labels, prior, generators, epochs=epochs)
    tested = []
    for number, (scale, split) in enumerate(
        zip(scalings, splits, strict=True)
    ):  # many test rows: one repetition at a time
        layers = [(w[number, None], None if b is None else b[number, None]) for w, b in trained.layers]
        with torch.no_grad():
            scores, _ = forward(layers, scale(features[split[2]])[None])
        tested.append(float(roc_auc(scores[0], labels[split[2]])))
    return {
        "test_auc": tested, "validation_auc": trained.validation_auc.tolist(), "gini": trained.gini.tolist(),
        "gini_own": trained.gini_own.tolist(), "epoch": trained.epoch.tolist(),
    }  # fmt: skip
