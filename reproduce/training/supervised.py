"""Supervised training of the embedded nets: minutes on 2 cores, the same bytes for the same seed, machine and threads.

The papers' ImageNet nets are not trained by this recipe; at the larger scales their released weights are loaded.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reproduce.datasets.images import Images

BATCH = 128
WEIGHT_DECAY = 0.05
WARM_UP = 0.2  # share of the one-cycle schedule in which the learning rate rises
CLIP_NORM = 1.0  # gradient norm; keeps the normalisation-free deep nets from diverging early
RECIPE_VERSION = 1  # raise when a change here changes a trained weight


@dataclass(frozen=True)
class Recipe:
    """Passes over the train split, and the one-cycle schedule's highest learning rate (AdamW).

    jitter: each image is mirrored in half of the cases, and each batch moved by up to so many px; None: neither.
    """

    epochs: int
    learning_rate: float
    jitter: int | None = None


DIGITS = "digits-on-photos"  # digits must not be mirrored
RECIPES: dict[tuple[str, str], Recipe] = {
    (DIGITS, "alexnet"): Recipe(epochs=5, learning_rate=2e-3),
    (DIGITS, "vgg16"): Recipe(epochs=3, learning_rate=7e-4),
    (DIGITS, "resnet50"): Recipe(epochs=4, learning_rate=4e-3),
    ("cifar10", "alexnet"): Recipe(epochs=14, learning_rate=2e-3, jitter=4),
    ("cifar10", "vgg16"): Recipe(epochs=14, learning_rate=7e-4, jitter=4),
    ("cifar10", "resnet50"): Recipe(epochs=14, learning_rate=4e-3, jitter=4),
}
DEFAULT_RECIPE = Recipe(epochs=6, learning_rate=1e-3)


def recipe(dataset: str, model: str) -> Recipe:
    """The recipe of an architecture on a data set; the default one where none was tuned."""
    return RECIPES.get((dataset, model), DEFAULT_RECIPE)


class Diverged(RuntimeError):
    """The loss became NaN or infinite."""


def train(
    build: Callable[[], nn.Module],
    images: Images,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    tick: Callable[[float], None] = lambda share: None,
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train a net with AdamW, a one-cycle schedule and bf16 autocast; weights and optimiser stay float32.

    bf16 moves attributions by 10 to 30 %, so it is used for training only: every study evaluates in float32.

    Args:
        build: makes the net; its initialisation and dropout draw from torch's global generator, seeded here and restored.
        tick:  told the share of steps that is done.

    Returns:
        The net in eval mode, and per epoch its mean loss and accuracy over the training batches.

    Raises:
        Diverged: with the step and the learning rate at which the loss stopped being finite.
    """
    device = torch.device(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        model = build().to(device).to(memory_format=torch.channels_last).train()
        order = torch.Generator().manual_seed(seed)
        steps = recipe.epochs * (len(images) // BATCH)
        groups = _groups(model, recipe)
        optimizer = torch.optim.AdamW(groups, fused=True)
        highest = [group["lr"] for group in groups]
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, highest, total_steps=steps, pct_start=WARM_UP)
        log: list[dict[str, float]] = []
        for epoch in range(recipe.epochs):
            losses, hits = [], []
            for inputs, targets in _shuffled(images, order, device):
                if recipe.jitter is not None:
                    inputs = _jittered(inputs, recipe.jitter, order)
                with torch.autocast(device.type, torch.bfloat16):
                    logits = model(inputs)
                loss = F.cross_entropy(logits.float(), targets)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
                optimizer.step()
                schedule.step()
                losses.append(loss.detach())
                hits.append((logits.detach().argmax(1) == targets).float().mean())
                if len(losses) % 20 == 0:
                    tick((epoch * (len(images) // BATCH) + len(losses)) / steps)
            mean_loss = torch.stack(losses).mean().item()
            if mean_loss != mean_loss or mean_loss in (float("inf"), float("-inf")):
                raise Diverged(f"the loss was {mean_loss} in epoch {epoch + 1} of {recipe}; lower the learning rate")
            log.append({"epoch": epoch + 1, "loss": mean_loss, "train_top1": torch.stack(hits).mean().item()})
    return model.eval(), log


def _groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Fixup's scalar biases and scales learn at a tenth of the rate and without decay (Zhang et al. 2019), the rest as given."""
    scalars = [p for p in model.parameters() if p.numel() == 1]
    others = [p for p in model.parameters() if p.numel() > 1]
    groups = [{"params": others, "lr": recipe.learning_rate, "weight_decay": WEIGHT_DECAY}]
    if scalars:
        groups.append({"params": scalars, "lr": recipe.learning_rate / 10, "weight_decay": 0.0})
    return groups


def _shuffled(images: Images, order: torch.Generator, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Full batches in random order; what is left over after the last full batch is seen in another epoch."""
    shuffled = torch.randperm(len(images), generator=order)
    for index in shuffled[: len(images) // BATCH * BATCH].split(BATCH):
        yield images.inputs(index).to(device), images.targets[index].to(device)


def _jittered(inputs: Tensor, shift: int, generator: torch.Generator) -> Tensor:
    """Mirror half of the images, and move the batch by up to ``shift`` px in each direction; what comes in is mirrored."""
    mirrored = torch.rand(len(inputs), generator=generator).lt(0.5).view(-1, 1, 1, 1).to(inputs.device)
    inputs = torch.where(mirrored, inputs.flip(3), inputs)
    y, x = torch.randint(2 * shift + 1, (2,), generator=generator).tolist()
    height, width = inputs.shape[2:]
    moved = F.pad(inputs, (shift,) * 4, mode="reflect")[:, :, y : y + height, x : x + width]
    return moved.contiguous(memory_format=torch.channels_last)
