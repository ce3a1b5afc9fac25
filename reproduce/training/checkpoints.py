"""The folder of a training run: what is kept after each epoch, and how a run goes on from it."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from reproduce.errors import UserError
from reproduce.files import save_atomically
from reproduce.models.weights import load_weights

LAST, BEST = "last.pth.tar", "best.pth.tar"


def write(
    out: Path,
    about: dict[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: float,
    log: list[dict[str, Any]],
    *,
    is_best: bool,
) -> None:
    """Keep the run after its last finished epoch, laid out as the released checkpoints; where it is the best, its net too.

    Raises:
        UserError: the folder cannot be written.
    """
    net = {
        "epoch": len(log),
        "arch": str(about.get("arch", "")),
        "state_dict": {f"module.{name}": tensor for name, tensor in model.state_dict().items()},
        "best_acc1": best,
        "about": about,
        "log": log,
    }
    save_atomically(net | {"optimizer": optimizer.state_dict()}, out / LAST)
    if is_best:
        save_atomically(net, out / BEST)


def resume(
    out: Path, about: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device
) -> tuple[float, list[dict[str, Any]]]:
    """Put a run back where it stopped: its best accuracy (-1 before the first epoch) and its rows.

    Raises:
        UserError: the folder holds another run, or cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror}") from error
    path = out / LAST
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
