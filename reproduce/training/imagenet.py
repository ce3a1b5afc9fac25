"""Training from scratch as the X-DNN authors trained: their ImageNet recipes on any torchvision-style folder.

X-DNN, imagenet/train_alexnet_vgg.py and train_resnet.py (defaults; the repository's README says they are the paper's):
SGD with momentum 0.9 and weight decay 1e-4, batch 256, 100 epochs, learning rate divided by 10 every 30 epochs; the last,
smaller batch is kept; the checkpoint with the best validation top-1 is the net. Fixup nets add mixup and a tenth of the
rate for biases and scales. A run is a folder:

    last.pth.tar   the run after its last finished epoch; the same command goes on from here
    best.pth.tar   the net with the best validation top-1, laid out as the released checkpoints
    curves.csv     a row per epoch;  curves.png, curves.pdf: the picture

What an epoch draws depends on (seed, epoch) alone, so an interrupted and continued run is the uninterrupted one: bit by
bit on CPU, up to cuDNN's order of summation on CUDA.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset

from reproduce.models.vgg import VGG
from reproduce.process_group import Rank, total
from reproduce.randomness import generator, seed_for
from reproduce.report import figures
from reproduce.report.curves import learning_curves
from reproduce.training import checkpoints
from reproduce.training.folders import Decoded, Folders, layout, normalised
from reproduce.training.supervised import Diverged
from xdnn.metrics.accuracy import topk_hits

MOMENTUM = 0.9
WEIGHT_DECAY = 1e-4  # of all parameters, Fixup's scalars included, as the released optimiser has it
DECAY = 0.1  # of the learning rate at each step
SCALAR_RATE = 0.1  # of the learning rate, for Fixup's biases and scales
CHECK_STEPS = 50  # the loss is looked at this often: each look waits for the device
EVAL_BATCH = 250  # forward passes only: does not change a number

Say = Callable[[str], None]  # told one line per epoch


def say_nothing(line: str) -> None:
    """The listener of whoever does not look."""


@dataclass(frozen=True)
class Recipe:
    """One architecture's recipe.

    Attributes:
        learning_rate: of the first epochs, for a batch of 256.
        mixup: alpha of Beta(alpha, alpha); 0 for none.
        fixup: biases and scales in groups of their own at SCALAR_RATE; weights' rate in proportion to the batch.
    """

    learning_rate: float
    epochs: int = 100
    batch: int = 256
    decay_epochs: int = 30
    mixup: float = 0.0
    fixup: bool = False

    def rate(self, epoch: int) -> float:
        """Factor on every group's first learning rate in ``epoch``, counted from 0."""
        return DECAY ** (epoch // self.decay_epochs)


ALEXNET_VGG = Recipe(0.01)
FIXUP = Recipe(0.1, mixup=0.7, fixup=True)


def recipe_for(model: str) -> Recipe:
    """The authors' recipe for an architecture; AlexNet's and VGG's where they trained none of its kind."""
    return FIXUP if model.startswith("resnet") and not model.endswith("_bn") else ALEXNET_VGG


def initialise_(model: nn.Module) -> nn.Module:
    """The initialisation that the authors trained from, where ours differs: VGG's linear layers are N(0, 0.01)."""
    if isinstance(model, VGG):
        for module in model.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
    return model


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """SGD's groups, told apart by name as train_resnet.py does: ``fc.bias`` counts as a bias too."""
    if not recipe.fixup:
        return [{"params": list(model.parameters()), "initial_lr": recipe.learning_rate}]
    named = list(model.named_parameters())
    small = [p for name, p in named if "bias" in name or "scale" in name]
    weights = [p for name, p in named if "bias" not in name and "scale" not in name]
    groups = [{"params": weights, "initial_lr": recipe.learning_rate * recipe.batch / 256}]
    if small:
        groups.append({"params": small, "initial_lr": recipe.learning_rate * SCALAR_RATE})
    return groups


def mix(inputs: Tensor, targets: Tensor, alpha: float) -> tuple[Tensor, Tensor, float]:
    """Mixup (Zhang et al. 2018): lam x + (1 - lam) x[order], the partners' targets, and lam ~ Beta(alpha, alpha).

    One lam per batch. Under several processes each mixes within its own share of the batch, with its own lam.
    """
    if alpha == 0:
        return inputs, targets, 1.0
    order = torch.randperm(len(inputs)).to(inputs.device)
    lam = torch.distributions.Beta(torch.tensor(alpha, dtype=torch.float64), alpha).sample().item()
    return lam * inputs + (1 - lam) * inputs[order], targets[order], lam


@dataclass(frozen=True)
class _Machine:
    """What a run uses, none of which decides what it computes but ``bfloat16``."""

    device: torch.device
    rank: Rank
    workers: int
    bfloat16: bool

    def loader(self, data: Any, **batches: Any) -> Iterator[tuple[Tensor, Tensor]]:
        """(inputs, targets) of batches, decoded by the workers, on the device."""
        pinned = self.device.type == "cuda"
        for pixels, labels in DataLoader(data, num_workers=self.workers, pin_memory=pinned, **batches):
            yield normalised(pixels.to(self.device, non_blocking=True)), labels.to(self.device, non_blocking=True)


def train(
    model: nn.Module,
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
) -> list[dict[str, Any]]:
    """Train ``model`` in place, going on from ``out``/last.pth.tar where there is one.

    Under a torch.distributed group each process computes its share of every batch; the loss of a share counts by its
    number of images, so the gradient is that of the whole batch for any number of processes, uneven shares included.

    Args:
        about:    JSON that says what is trained (architecture, variant, ...): a folder goes on with the same run only.
        workers:  processes that decode images; they do not change a number.
        bfloat16: autocast the training passes; weights, optimiser and validation stay float32. The authors did not.

    Returns:
        A row per epoch; the net with the best validation top-1 is in ``out``/best.pth.tar.

    Raises:
        Diverged: the loss is not finite. UserError: ``out`` belongs to another run.
    """
    machine = _Machine(device or torch.device("cpu"), rank or Rank(), workers, bfloat16)
    about = about | {"recipe": asdict(recipe), "seed": seed, "classes": data.classes}
    about |= {"image_px": data.image_px, "bfloat16": bfloat16}
    model.to(machine.device).to(memory_format=layout(machine.device))
    groups = parameter_groups(model, recipe)
    optimizer = torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    best, log = checkpoints.resume(out, about, model, optimizer, machine.device)
    if log:
        say(f"going on after epoch {len(log)} of {recipe.epochs} in {out}")
    shared: nn.Module = model
    if dist.is_initialized():
        shared = nn.parallel.DistributedDataParallel(model, [machine.device] if machine.device.type == "cuda" else None)
    with torch.random.fork_rng([machine.device] if machine.device.type == "cuda" else []):
        for epoch in range(len(log), recipe.epochs):
            log.append(_epoch(shared, model, data, recipe, optimizer, epoch, seed, machine))
            accuracy = log[-1]["val_top1"]
            if machine.rank.first:
                checkpoints.write(out, about, model, optimizer, max(best, accuracy), log, is_best=accuracy > best)
                _draw(log, about, out)
            best = max(best, accuracy)
            say(_line(log[-1], recipe))
    if dist.is_initialized():
        dist.barrier()  # the first process has written what the others may read now
    return log


def _epoch(
    shared: nn.Module,
    model: nn.Module,
    data: Folders,
    recipe: Recipe,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    seed: int,
    machine: _Machine,
) -> dict[str, Any]:
    """One epoch of training and a validation; its row."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * recipe.rate(epoch)
    rate = optimizer.param_groups[0]["lr"]
    torch.manual_seed(seed_for(seed, "epoch", epoch, machine.rank.number))  # dropout and mixup
    start = time.perf_counter()
    trained = _train_epoch(shared, data, recipe, optimizer, epoch, seed, machine)
    speed = round(len(data.train.samples) / (time.perf_counter() - start), 1)
    tested = validate(model, data, machine.device, machine.rank, machine.workers)
    _stop_if_diverged(tested["val_loss"], epoch, 0, rate)
    return {"epoch": epoch + 1, "learning_rate": rate, **trained, "images_per_second": speed, **tested}


def _train_epoch(
    model: nn.Module,
    data: Folders,
    recipe: Recipe,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    seed: int,
    machine: _Machine,
) -> dict[str, float]:
    """The updates of one epoch; mean loss and top-1 accuracy over the images as they were trained on."""
    model.train()
    rank, device, images = machine.rank, machine.device, len(data.train.samples)
    order = torch.randperm(images, generator=generator(seed, "order", epoch))
    batches = [batch.tolist() for batch in order.split(recipe.batch)]
    shares = [batch[rank.number :: rank.count] for batch in batches]
    # A process without a share of the last batch still takes part in the step, with a weight of 0.
    asked = [[(epoch, i) for i in share or batch[:1]] for share, batch in zip(shares, batches, strict=True)]
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    hits = torch.zeros((), dtype=torch.int64, device=device)
    rate = optimizer.param_groups[0]["lr"]
    loaded = machine.loader(data.augmented(seed), batch_sampler=asked)
    for step, (inputs, targets) in enumerate(loaded, start=1):
        count, weight = len(batches[step - 1]), int(bool(shares[step - 1]))
        inputs, partners, lam = mix(inputs, targets, recipe.mixup)
        with torch.autocast(device.type, torch.bfloat16, enabled=machine.bfloat16):
            logits = model(inputs)
        logits = logits.float()
        losses = lam * F.cross_entropy(logits, targets, reduction="none")
        if lam < 1:
            losses = losses + (1 - lam) * F.cross_entropy(logits, partners, reduction="none")
        optimizer.zero_grad()
        (weight * losses.sum() * rank.count / count).backward()  # DistributedDataParallel divides by rank.count
        optimizer.step()
        loss_sum += weight * losses.detach().double().sum()
        hits += weight * topk_hits(logits.detach(), targets, 1).sum()
        if step % CHECK_STEPS == 0:
            _stop_if_diverged(total(loss_sum).item(), epoch, step, rate)
    loss_total, hit_total = total(loss_sum, hits).tolist()
    _stop_if_diverged(loss_total, epoch, len(batches), rate)
    return {"train_loss": loss_total / images, "train_top1": 100 * hit_total / images}


@torch.no_grad()
def validate(
    model: nn.Module, data: Folders, device: torch.device, rank: Rank | None = None, workers: int = 0
) -> dict[str, float]:
    """Mean cross entropy (nats) and top-1 and top-5 accuracy (percent) over all validation images, in float32 eval mode."""
    machine = _Machine(device, rank or Rank(), workers, bfloat16=False)
    model.eval()
    images = data.validation()
    own = Subset(Decoded(images), range(machine.rank.number, len(images), machine.rank.count))
    sums = [torch.zeros((), dtype=torch.float64, device=device) for _ in range(3)]
    for inputs, targets in machine.loader(own, batch_size=EVAL_BATCH):
        logits = model(inputs)
        sums[0] += F.cross_entropy(logits.double(), targets, reduction="sum")
        sums[1] += topk_hits(logits, targets, 1).sum()
        sums[2] += topk_hits(logits, targets, 5).sum()
    loss, top1, top5 = (total(*sums) / len(images)).tolist()
    return {"val_loss": loss, "val_top1": 100 * top1, "val_top5": 100 * top5}


def _stop_if_diverged(loss: float, epoch: int, step: int, rate: float) -> None:
    if not math.isfinite(loss):
        where = f"step {step} of epoch {epoch + 1}" if step else f"validation after epoch {epoch + 1}"
        kept = f"{checkpoints.LAST} keeps epoch {epoch}" if epoch else "no epoch was finished"
        raise Diverged(f"the loss was {loss} at {where} (learning rate {rate:g}); {kept}; lower --learning-rate")


def _draw(log: list[dict[str, Any]], about: dict[str, Any], out: Path) -> None:
    """The rows as a table, and their picture."""
    pd.DataFrame(log).to_csv(out / "curves.csv", index=False)
    figures.save(learning_curves(log, f"{about.get('arch', '')} {about.get('variant', '')}"), out / "curves")


def _line(row: dict[str, Any], recipe: Recipe) -> str:
    return (
        f"[{row['epoch']}/{recipe.epochs}] loss {row['train_loss']:.3f}, validation {row['val_loss']:.3f}, "
        f"top-1 {row['val_top1']:.2f} %, top-5 {row['val_top5']:.2f} %, {row['images_per_second']:.0f} images/s"
    )
