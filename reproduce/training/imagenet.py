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

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset

from reproduce.errors import UserError
from reproduce.metrics.accuracy import topk_hits
from reproduce.models.vgg import VGG
from reproduce.models.weights import load_weights
from reproduce.ranks import Rank, total
from reproduce.report import figures
from reproduce.report.curves import learning_curves
from reproduce.training.folders import Decoded, Folders, layout, normalised, seed_of

MOMENTUM = 0.9
WEIGHT_DECAY = 1e-4  # of all parameters, Fixup's scalars included, as the released optimiser has it
DECAY = 0.1  # of the learning rate at each step
SCALAR_RATE = 0.1  # of the learning rate, for Fixup's biases and scales
CHECK_STEPS = 50  # the loss is looked at this often: each look waits for the device
EVAL_BATCH = 250  # forward passes only: does not change a number


class Diverged(UserError):
    """The loss became NaN or infinite; the last good checkpoint is kept."""


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
    """The authors' recipe for an architecture; AlexNet's and VGG's where they trained none like it."""
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


def train(
    model: nn.Module, data: Folders, out: Path, recipe: Recipe, about: dict[str, Any], *,
    seed: int = 0, device: torch.device | None = None, rank: Rank | None = None, workers: int = 0, bfloat16: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Train ``model`` in place, going on from ``out``/last.pth.tar where there is one.

    Under a torch.distributed group each process computes its share of every batch; the loss of a share counts by its
    number of images, so the gradient is that of the whole batch for any number of processes, uneven shares included.

    Args:
        about:    JSON that says what is trained (architecture, variant, ...): a folder goes on with the same run only.
        workers:  processes that decode images; they do not change a number.
        bfloat16: autocast the training passes; weights, optimiser and validation stay float32. The authors did not.
        say:      told one line per epoch.

    Returns:
        A row per epoch; the net with the best validation top-1 is in ``out``/best.pth.tar.

    Raises:
        Diverged: the loss is not finite. UserError: ``out`` belongs to another run.
    """
    device, rank = device or torch.device("cpu"), rank or Rank()
    about = about | {"recipe": asdict(recipe), "seed": seed, "classes": data.classes, "image_px": data.image_px,
                     "bfloat16": bfloat16}  # fmt: skip
    model.to(device).to(memory_format=layout(device))
    groups = parameter_groups(model, recipe)
    optimizer = torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    best, log = _resume(out, about, model, optimizer, device)
    if log:
        say(f"going on after epoch {len(log)} of {recipe.epochs} in {out}")
    shared: nn.Module = model
    if dist.is_initialized():
        shared = nn.parallel.DistributedDataParallel(model, [device] if device.type == "cuda" else None)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        for epoch in range(len(log), recipe.epochs):
            for param_group in optimizer.param_groups:
                param_group["lr"] = param_group["initial_lr"] * recipe.rate(epoch)
            torch.manual_seed(seed_of(seed, "epoch", epoch, rank.number))  # dropout and mixup
            start = time.perf_counter()
            row = {"epoch": epoch + 1, "learning_rate": optimizer.param_groups[0]["lr"]}
            row |= _train_epoch(shared, data, recipe, optimizer, epoch, seed, device, rank, workers, bfloat16)
            row |= {"images_per_second": round(len(data.train.samples) / (time.perf_counter() - start), 1)}
            row |= validate(model, data, device, rank, workers)
            _stop_if_diverged(row["val_loss"], epoch, 0, row["learning_rate"])
            log.append(row)
            if rank.first:
                is_best = row["val_top1"] > best
                _write(out, _checkpoint(about, model, optimizer, max(best, row["val_top1"]), log), is_best)
                pd.DataFrame(log).to_csv(out / "curves.csv", index=False)
                figures.save(
                    learning_curves(log, f"{about.get('arch', '')} {about.get('variant', '')}"), out / "curves"
                )
            best = max(best, row["val_top1"])
            say(
                f"[{epoch + 1}/{recipe.epochs}] loss {row['train_loss']:.3f}, validation {row['val_loss']:.3f}, "
                f"top-1 {row['val_top1']:.2f} %, top-5 {row['val_top5']:.2f} %, {row['images_per_second']:.0f} images/s"
            )
    if dist.is_initialized():
        dist.barrier()  # the first process has written what the others may read now
    return log


def _train_epoch(
    model: nn.Module, data: Folders, recipe: Recipe, optimizer: torch.optim.Optimizer, epoch: int, seed: int,
    device: torch.device, rank: Rank, workers: int, bfloat16: bool,
) -> dict[str, float]:  # fmt: skip
    model.train()
    order = torch.randperm(
        len(data.train.samples), generator=torch.Generator().manual_seed(seed_of(seed, "order", epoch))
    )
    batches = [batch.tolist() for batch in order.split(recipe.batch)]
    shares = [batch[rank.number :: rank.count] for batch in batches]
    # A process without a share of the last batch still takes part in the step, with a weight of 0.
    asked = [[(epoch, i) for i in share or batch[:1]] for share, batch in zip(shares, batches, strict=True)]
    loader = DataLoader(
        data.augmented(seed), batch_sampler=asked, num_workers=workers, pin_memory=device.type == "cuda"
    )
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    hits = torch.zeros((), dtype=torch.int64, device=device)
    for step, (pixels, labels) in enumerate(loader, start=1):
        count, weight = len(batches[step - 1]), float(bool(shares[step - 1]))
        inputs, targets = normalised(pixels.to(device, non_blocking=True)), labels.to(device, non_blocking=True)
        inputs, partners, lam = mix(inputs, targets, recipe.mixup)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            logits = model(inputs)
        logits = logits.float()
        losses = lam * F.cross_entropy(logits, targets, reduction="none")
        if lam < 1:
            losses = losses + (1 - lam) * F.cross_entropy(logits, partners, reduction="none")
        optimizer.zero_grad()
        (weight * losses.sum() * rank.count / count).backward()  # DistributedDataParallel divides by rank.count
        optimizer.step()
        loss_sum += weight * losses.detach().double().sum()
        hits += int(weight) * topk_hits(logits.detach(), targets, 1).sum()
        if step % CHECK_STEPS == 0:
            _stop_if_diverged(total(loss_sum).item(), epoch, step, optimizer.param_groups[0]["lr"])
    loss_total, hit_total = total(loss_sum, hits).tolist()
    _stop_if_diverged(loss_total, epoch, len(batches), optimizer.param_groups[0]["lr"])
    images = len(data.train.samples)
    return {"train_loss": loss_total / images, "train_top1": 100 * hit_total / images}


@torch.no_grad()
def validate(
    model: nn.Module, data: Folders, device: torch.device, rank: Rank | None = None, workers: int = 0
) -> dict[str, float]:
    """Mean cross entropy (nats) and top-1 and top-5 accuracy (percent) over all validation images, in float32 eval mode."""
    rank = rank or Rank()
    model.eval()
    images = data.validation()
    own = Subset(Decoded(images), range(rank.number, len(images), rank.count))
    sums = [torch.zeros((), dtype=torch.float64, device=device) for _ in range(3)]
    for pixels, labels in DataLoader(own, EVAL_BATCH, num_workers=workers, pin_memory=device.type == "cuda"):
        inputs, targets = normalised(pixels.to(device, non_blocking=True)), labels.to(device, non_blocking=True)
        logits = model(inputs)
        sums[0] += F.cross_entropy(logits.double(), targets, reduction="sum")
        sums[1] += topk_hits(logits, targets, 1).sum()
        sums[2] += topk_hits(logits, targets, 5).sum()
    loss, top1, top5 = (total(*sums) / len(images)).tolist()
    return {"val_loss": loss, "val_top1": 100 * top1, "val_top5": 100 * top5}


def _stop_if_diverged(loss: float, epoch: int, step: int, rate: float) -> None:
    if loss != loss or abs(loss) == float("inf"):
        where = f"step {step} of epoch {epoch + 1}" if step else f"validation after epoch {epoch + 1}"
        kept = f"last.pth.tar keeps epoch {epoch}" if epoch else "no epoch was finished"
        raise Diverged(f"the loss was {loss} at {where} (learning rate {rate:g}); {kept}; lower --learning-rate")


def _checkpoint(
    about: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer, best: float, log: list[dict[str, Any]]
) -> dict[str, Any]:
    weights = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    return {
        "epoch": len(log), "arch": str(about.get("arch", "")), "state_dict": weights, "best_acc1": best,
        "optimizer": optimizer.state_dict(), "about": about, "log": log,
    }  # fmt: skip


def _write(out: Path, checkpoint: dict[str, Any], is_best: bool) -> None:
    """Beside its place, then renamed: what has a checkpoint's name is whole."""
    contents = {"last.pth.tar": checkpoint}
    if is_best:
        contents["best.pth.tar"] = {name: value for name, value in checkpoint.items() if name != "optimizer"}
    for name, content in contents.items():
        with tempfile.NamedTemporaryFile(dir=out, suffix=".tmp", delete=False) as file:
            try:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(out / name)
            except BaseException as error:
                Path(file.name).unlink(missing_ok=True)
                if isinstance(error, OSError):
                    raise UserError(f"cannot write to {out}: {error.strerror}") from error
                raise


def _resume(
    out: Path, about: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device
) -> tuple[float, list[dict[str, Any]]]:
    """Put a run back where it stopped: its best accuracy (-1 before the first epoch) and its rows."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror}") from error
    path = out / "last.pth.tar"
    if not path.is_file():
        return -1.0, []
    load_weights(model, path)
    checkpoint = torch.load(path, map_location=device, weights_only=True)
    was = checkpoint.get("about", {})
    if was != about:
        changed = [f"{name} {was.get(name)!r}, now {about[name]!r}" for name in about if was.get(name) != about[name]]
        raise UserError(f"{out} holds another run ({'; '.join(changed)}); name another --out")
    optimizer.load_state_dict(checkpoint["optimizer"])
    return checkpoint["best_acc1"], checkpoint["log"]
