"""From a trained regular net to an X-variant: remove the biases, fine-tune, and measure what was lost and what was won."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from reproduce.models.weights import load_weights
from reproduce.process_group import Rank
from reproduce.training import checkpoints
from reproduce.training.folders import Folders, layout
from reproduce.training.imagenet import Recipe, Say, say_nothing, train, validate
from xdnn import input_x_gradient, integrated_gradients, is_homogeneous, to_x_variant
from xdnn.metrics.agreement import mard

# Ours: the papers train X-nets from scratch. A tenth of the recipe's rate, divided by 10 twice.
FINE_TUNE_RATE = 0.1
FINE_TUNE_EPOCHS = 9
# As in Table 1: 128 Gauss-Legendre points, batches of 16.
IG_STEPS, MARD_BATCH = 128, 16
MARD_IMAGES = 64  # 2 x 128 passes each


def fine_tuning(recipe: Recipe, epochs: int = FINE_TUNE_EPOCHS) -> Recipe:
    """The recipe of ``convert`` from that of training from scratch."""
    rate = FINE_TUNE_RATE * recipe.learning_rate
    return replace(recipe, learning_rate=rate, epochs=epochs, decay_epochs=max(1, -(-epochs // 3)))


def convert(
    regular: nn.Module,
    data: Folders,
    out: Path,
    recipe: Recipe,
    about: dict[str, Any],
    *,
    seed: int = 0,
    device: torch.device | None = None,
    rank: Rank | None = None,
    workers: int = 0,
    bfloat16: bool = False,
    say: Say = say_nothing,
) -> pd.DataFrame:
    """Make, fine-tune and measure the X-variant of ``regular``; its weights are ``out``/best.pth.tar.

    Returns:
        Three rows (regular; biases removed; fine-tuned) with val_loss (nats), val_top1 and val_top5 (percent), deviation from
        homogeneity (unit-free, see ``is_homogeneous``) and MARD of IG and Input x Gradient (percent, 0 is equality).

    Raises:
        NotHomogeneousError: a part of the net has no X-variant, named with its path.
    """
    device, rank = device or torch.device("cpu"), rank or Rank()
    converted = to_x_variant(regular)

    def measure(name: str, model: nn.Module) -> dict[str, Any]:
        model = model.to(device).eval()
        row = {"net": name} | validate(model, data, device, rank, workers) | _axioms(model, data, device)
        say(
            f"{name}: top-1 {row['val_top1']:.2f} %, deviation {row['deviation']:.1e}, MARD {row['mard_percent']:.3g} %"
        )
        return row

    rows = [measure("regular", regular), measure("biases removed", copy.deepcopy(converted))]
    train(
        converted,
        data,
        out,
        recipe,
        about,
        seed=seed,
        device=device,
        rank=rank,
        workers=workers,
        bfloat16=bfloat16,
        say=say,
    )
    rows.append(measure("fine-tuned", load_weights(converted, out / checkpoints.BEST)))
    return pd.DataFrame(rows)


def _axioms(model: nn.Module, data: Folders, device: torch.device) -> dict[str, float]:
    images = data.validation()
    images = images.first(min(MARD_IMAGES, len(images)))
    gaps = []
    for inputs, targets in images.batches(MARD_BATCH, device):
        inputs = inputs.contiguous(memory_format=layout(device))
        reference = integrated_gradients(model, inputs, targets, steps=IG_STEPS)
        gaps.append(mard(reference, input_x_gradient(model, inputs, targets)))
    found = is_homogeneous(model, images.inputs(slice(0, 4)).to(device))
    return {"deviation": found.deviation, "mard_percent": 100 * torch.stack(gaps).mean().item()}
