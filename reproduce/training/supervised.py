"""Supervised training of small nets: the same bytes for the same seed, machine and threads.

The papers' ImageNet nets are not trained so; at the larger scales their released weights are loaded.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reproduce.datasets.images import Images
from reproduce.errors import UserError
from reproduce.tasks import Progress, no_progress
from reproduce.training.recipe import Recipe

BATCH = 128
WEIGHT_DECAY = 0.05
WARM_UP = 0.2  # share of the one-cycle schedule in which the learning rate rises
CLIP_NORM = 1.0  # gradient norm; keeps the normalisation-free deep nets from diverging early
REPORT_STEPS = 20  # progress is reported this often


class Diverged(UserError):
    """The loss became NaN or infinite."""


def train(
    build: Callable[[], nn.Module],
    images: Images,
    recipe: Recipe,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    progress: Progress = no_progress,
) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train a net with AdamW, a one-cycle schedule and bf16 autocast; weights and optimiser stay float32.

    bf16 moves attributions by 10 to 30 %, so it is used for training only: every study evaluates in float32.

    Args:
        build: makes the net; its initialisation and dropout draw from torch's global generator, seeded here and restored.

    Returns:
        The net in eval mode, and per epoch its mean loss and accuracy over the training batches.

    Raises:
        Diverged: with the epoch in which the loss stopped being finite.
    """
    device = torch.device(device)
    batch = min(BATCH, len(images))
    per_epoch = len(images) // batch
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        model = build().to(device).to(memory_format=torch.channels_last).train()
        order = torch.Generator().manual_seed(seed)
        groups = _groups(model, recipe)
        optimizer = torch.optim.AdamW(groups, fused=True)
        highest, steps = [group["lr"] for group in groups], recipe.epochs * per_epoch
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, highest, total_steps=steps, pct_start=WARM_UP)
        log: list[dict[str, float]] = []
        for epoch in range(recipe.epochs):
            losses, hits = [], []
            for inputs, targets in _shuffled(images, batch, order, device):
                if recipe.jitter is not None:
                    inputs = jittered(inputs, recipe.jitter, order)
                loss, hit = _step(model, inputs, targets, optimizer)
                schedule.step()
                losses.append(loss)
                hits.append(hit)
                done = epoch * per_epoch + len(losses)
                if done % REPORT_STEPS == 0 or done == steps:
                    progress(done / steps)
            mean_loss = torch.stack(losses).mean().item()
            if not math.isfinite(mean_loss):
                raise Diverged(f"the loss was {mean_loss} in epoch {epoch + 1} of {recipe}; lower the learning rate")
            log.append({"epoch": epoch + 1, "loss": mean_loss, "train_top1": torch.stack(hits).mean().item()})
    return model.eval(), log


def _step(model: nn.Module, inputs: Tensor, targets: Tensor, optimizer: torch.optim.Optimizer) -> tuple[Tensor, Tensor]:
    """One update; the loss and the accuracy before it, on the device: reading them would wait for it."""
    with torch.autocast(inputs.device.type, torch.bfloat16):
        logits = model(inputs)
    loss = F.cross_entropy(logits.float(), targets)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
    optimizer.step()
    return loss.detach(), (logits.detach().argmax(1) == targets).float().mean()


def _groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Fixup's scalar biases and scales learn at a tenth of the rate and without decay (Zhang et al. 2019), the rest as given."""
    scalars = [p for p in model.parameters() if p.numel() == 1]
    others = [p for p in model.parameters() if p.numel() > 1]
    groups = [{"params": others, "lr": recipe.learning_rate, "weight_decay": WEIGHT_DECAY}]
    if scalars:
        groups.append({"params": scalars, "lr": recipe.learning_rate / 10, "weight_decay": 0.0})
    return groups


def _shuffled(
    images: Images, batch: int, order: torch.Generator, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Full batches in random order; what is left over after the last full batch is seen in another epoch."""
    shuffled = torch.randperm(len(images), generator=order)
    for index in shuffled[: len(images) // batch * batch].split(batch):
        yield images.inputs(index).to(device), images.targets[index].to(device)


def jittered(inputs: Tensor, shift: int, generator: torch.Generator) -> Tensor:
    """Mirror half of the images, and move the batch by up to ``shift`` px in each direction; what comes in is mirrored."""
    mirrored = torch.rand(len(inputs), generator=generator).lt(0.5).view(-1, 1, 1, 1).to(inputs.device)
    inputs = torch.where(mirrored, inputs.flip(3), inputs)
    y, x = torch.randint(2 * shift + 1, (2,), generator=generator).tolist()
    height, width = inputs.shape[2:]
    moved = F.pad(inputs, (shift,) * 4, mode="reflect")[:, :, y : y + height, x : x + width]
    return moved.contiguous(memory_format=torch.channels_last)
