"""Training with a prior on where attributions may lie: right for the right reasons (Ross et al. 2017), with any attribution."""

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reproduce.datasets.decoy import DecoyDigits
from reproduce.tasks import Progress, no_progress
from xdnn import expected_gradients, integrated_gradients, to_x_variant, x_gradient

BATCH, EPOCHS, LEARNING_RATE = 100, 8, 2e-3  # Adam


def build(variant: str) -> nn.Module:
    """A convolution over 4 x 4 patches and two linear layers, (B, 1, 28, 28) to 10 classes; "regular", or "x" without biases.

    The patches are as large as the decoy and on its grid: this small net does read it (one with overlapping, pooled or
    strided 5 x 5 convolutions hardly does, and would have nothing to unlearn).
    """
    net = nn.Sequential(
        nn.Conv2d(1, 16, 4, stride=4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(784, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )
    return to_x_variant(net) if variant == "x" else net


# --- attributions that can be trained through: (net, inputs, targets, pool, generator) -> (B, 1, 28, 28) ---------------

Attribute = Callable[[nn.Module, Tensor, Tensor, Tensor, torch.Generator], Tensor]


def _rrr(net: nn.Module, inputs: Tensor, targets: Tensor, pool: Tensor, generator: torch.Generator) -> Tensor:
    """Gradient of the sum of all classes' log probabilities, as Ross et al. penalise it."""
    x = inputs.clone().requires_grad_()
    return torch.autograd.grad(net(x).log_softmax(1).sum(), x, create_graph=True)[0]


def _expected(
    samples: int, net: nn.Module, inputs: Tensor, targets: Tensor, pool: Tensor, generator: torch.Generator
) -> Tensor:
    return expected_gradients(
        net, inputs, targets, references=pool, generator=generator, samples=samples, create_graph=True
    )


def _integrated(
    steps: int, net: nn.Module, inputs: Tensor, targets: Tensor, pool: Tensor, generator: torch.Generator
) -> Tensor:
    return integrated_gradients(net, inputs, targets, steps=steps, create_graph=True)


def _x_gradient(net: nn.Module, inputs: Tensor, targets: Tensor, pool: Tensor, generator: torch.Generator) -> Tensor:
    return x_gradient(net, inputs, targets, create_graph=True, check=False)


ATTRIBUTIONS: dict[str, Attribute] = {
    "rrr": _rrr,
    "expected_gradients_1": partial(_expected, 1),
    "expected_gradients_8": partial(_expected, 8),
    "integrated_gradients_8": partial(_integrated, 8),
    "x_gradient": _x_gradient,
}


def penalty(attributions: Tensor, forbidden: Tensor) -> Tensor:
    """mean over images of the sum of squared attributions on forbidden pixels; a scalar. Ross et al. 2017, Eq. 1."""
    return (attributions * forbidden).square().flatten(1).sum(1).mean()


def train(
    variant: str,
    digits: DecoyDigits,
    attribution: str,
    strength: float,
    generator: torch.Generator,
    *,
    device: torch.device | str = "cpu",
    epochs: int = EPOCHS,
    progress: Progress = no_progress,
) -> tuple[nn.Module, list[float]]:
    """Cross entropy + strength * penalty(attribution on the digits' squares); "" is training without a prior.

    Args:
        generator: decides weights, order of images and references.

    Returns:
        The net in eval mode, and the seconds of each epoch.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        net = build(variant).to(device)
    pool, targets, squares = digits.inputs.to(device), digits.targets.to(device), digits.squares.to(device)
    optimizer = torch.optim.Adam(net.parameters(), LEARNING_RATE, fused=True)
    seconds = []
    for epoch in range(epochs):
        start = time.perf_counter()
        for index in torch.randperm(len(digits), generator=generator).to(device).split(BATCH):
            loss = F.cross_entropy(net(pool[index]), targets[index])
            if attribution:
                attributions = ATTRIBUTIONS[attribution](net, pool[index], targets[index], pool, generator)
                loss = loss + strength * penalty(attributions, squares[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seconds.append(time.perf_counter() - start)
        progress((epoch + 1) / epochs)
    return net.eval(), seconds
