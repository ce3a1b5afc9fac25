"""Many small nets side by side: each product has one more axis, over repetitions that never meet.

Letters are R repetitions, N rows, d features.

The nets are MLPs with ReLUs. Where no ReLU changes sides such a net is linear, so the gradient of its logit by the input is a
product of its weights and of masks that have no gradient themselves. Written out as such a product, a prior on the gradient
trains with one ordinary backward pass: exactly what double backpropagation computes, without a graph of a graph.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

Layers = list[tuple[Tensor, Tensor | None]]  # weights (R, outputs, inputs) and biases (R, 1, outputs) or None
Generators = Sequence[torch.Generator]  # one for each repetition


def initial_layers(sizes: Sequence[int], bias: bool, generators: Generators, rows: Tensor) -> Layers:
    """A net for each generator: U(-1/sqrt(inputs), 1/sqrt(inputs)) for weights and biases, torch's default.

    Biases are drawn after all weights, so a net with and one without start from the same weights.

    Args:
        sizes: units of each layer, from the features to the logit.
        rows:  whose dtype and device the weights take.
    """
    steps = list(pairwise(sizes))

    def draw(shape: tuple[int, ...], inputs: int) -> Tensor:
        draws = [torch.rand(shape, generator=g, dtype=torch.float64) for g in generators]
        return ((2 * torch.stack(draws) - 1) / inputs**0.5).to(rows).requires_grad_()

    weights = [draw((o, i), i) for i, o in steps]
    biases = [draw((1, o), i) if bias else None for i, o in steps]
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
    signal, logits = layers[-1][0], rows.new_zeros(())  # (R, 1, units)
    if layers[-1][1] is not None:
        logits = layers[-1][1].squeeze(-1)
    for (weight, bias), mask in zip(layers[-2::-1], masks[::-1], strict=True):
        signal = signal * mask
        if bias is not None:
            logits = logits + (signal @ bias.mT).squeeze(-1)
        signal = signal @ weight
    return logits + (rows * signal).sum(-1), signal
