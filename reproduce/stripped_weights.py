"""Weights as people save them: state dicts within checkpoints, and names with a wrapper's prefix, stripped by rule and said."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from reproduce.errors import UserError
from reproduce.models.weights import differences_from, read_checkpoint

ENTRIES = ("state_dict", "model_state_dict", "model")  # where checkpoints keep a state dict
PREFIXES = ("module.", "_orig_mod.", "model.", "net.")  # DataParallel, torch.compile, Lightning and its users
MOST_DIFFERENCES = 5


def load_stripped(model: nn.Module, path: Path) -> list[str]:
    """Load a checkpoint into ``model``, whatever wraps its state dict.

    The state dict may be an entry of ENTRIES. A prefix of PREFIXES is taken off where the net's own names do not begin with
    it; ``module.`` after a first part, of nets that were parallel in part, too. What does not begin with the prefix is left
    out where the rest is the whole net, such as the metrics of a Lightning module. BatchNorm's counter of batches may be
    missing.

    Returns:
        A sentence for each thing that was done.

    Raises:
        UserError: a file that cannot be read, or whose names or shapes are not the net's; names the first differences.
    """
    weights, said = _found(read_checkpoint(path), path)
    own = model.state_dict()
    weights, stripped = _without_prefixes(weights, own)
    said += [f"took {prefix!r} off the names of {path.name}" for prefix in stripped]
    weights = {name: own[name] for name in own if name.endswith("num_batches_tracked")} | weights
    if stripped and own.keys() < weights.keys():
        others = sorted(weights.keys() - own.keys())
        said.append(f"left out {len(others)} entries of {path.name} that are not the net's, such as {others[0]!r}")
        weights = {name: weights[name] for name in own}
    if differences := differences_from(model, weights):
        shown = "; ".join(differences[:MOST_DIFFERENCES])
        raise UserError(
            f"{path} does not fit {type(model).__name__}: {len(differences)} differences, such as {shown}"
            + _hint(weights, own)
        )
    model.load_state_dict(weights)
    return said


def _found(checkpoint: Any, path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The state dict within a checkpoint, and how it was found."""
    said: list[str] = []
    while isinstance(checkpoint, Mapping):
        inner = next((name for name in ENTRIES if isinstance(checkpoint.get(name), Mapping)), None)
        if inner is None:
            found = {name: value for name, value in checkpoint.items() if isinstance(value, Tensor)}
            if found:
                return found, said
            break
        said.append(f"took the entry {inner!r} of {path.name}")
        checkpoint = checkpoint[inner]
    raise UserError(f"{path} holds no state dict, names with tensors; save one with torch.save(net.state_dict(), FILE)")


def _without_prefixes(
    weights: dict[str, Tensor], own: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, None]]:
    """Names without the wrappers' prefixes, and which these were."""
    stripped: dict[str, None] = {}
    while True:
        found = [
            prefix
            for prefix in PREFIXES
            if any(name.startswith(prefix) for name in weights) and not any(name.startswith(prefix) for name in own)
        ]
        if not found:
            break
        weights = {name.removeprefix(found[0]): tensor for name, tensor in weights.items()}
        stripped[found[0]] = None
    if any(".module." in name for name in weights) and not any(".module." in name for name in own):
        weights = {name.replace(".module.", "."): tensor for name, tensor in weights.items()}
        stripped["module."] = None
    return weights, stripped


def _hint(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """What differs where only the last layer does."""
    if weights.keys() != own.keys():
        return ""
    both = [name for name in own if weights[name].shape != own[name].shape]
    rows = {len(weights[name]) for name in both if weights[name].ndim and own[name].ndim}
    inner_alike = all(weights[name].shape[1:] == own[name].shape[1:] for name in both)
    if both and len(both) <= 2 and len(rows) == 1 and inner_alike:
        return f"; they are of {rows.pop()} classes"
    return ""
