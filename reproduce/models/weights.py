"""Fetched weights: the X-DNN authors' released nets and torchvision's, checked key by key before they are used."""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from reproduce.errors import UserError

# (model, variant) -> file of the manifest
FILES = {
    ("alexnet", "regular"): "released/alexnet_model_best.pth.tar",
    ("alexnet", "x"): "released/xalexnet_model_best.pth.tar",
    ("vgg16", "regular"): "released/vgg16_model_best.pth.tar",
    ("vgg16", "x"): "released/xvgg16_model_best.pth.tar",
    ("resnet50", "regular"): "released/fixup_resnet50_model_best.pth.tar",
    ("resnet50", "x"): "released/xfixup_resnet50_model_best.pth.tar",
    ("torchvision_alexnet", "regular"): "torchvision/alexnet-owt-7be5be79.pth",
    ("torchvision_vgg16", "regular"): "torchvision/vgg16-397923af.pth",
    ("torchvision_resnet50", "regular"): "torchvision/resnet50-0676ba61.pth",
    ("torchvision_inception_v3", "regular"): "torchvision/inception_v3_google-0cc3c7bd.pth",
}


def load_weights(model: nn.Module, path: Path) -> nn.Module:
    """Load a checkpoint into ``model``: a state dict, or the entry ``state_dict``.

    Names lose DataParallel's ``module.``, in front or after ``features``, where only that part was parallel, as the
    X-DNN authors' AlexNet and VGG script does on one GPU. BatchNorm's counter of batches may be missing, as in files from
    before there was one: it changes nothing in eval mode.

    Raises:
        UserError: a file that is cut short, that holds something other than tensors and plain values (it is not
            executed), or whose names or shapes are not the net's; names the first differences.
    """
    checkpoint = read_checkpoint(path)
    weights = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, dict) else {}
    weights = {name.removeprefix("module.").replace(".module.", "."): tensor for name, tensor in weights.items()}
    counters = {name: own for name, own in model.state_dict().items() if name.endswith("num_batches_tracked")}
    weights = counters | weights
    differences = differences_from(model, weights)
    if differences:
        shown = "; ".join(differences[:5])
        raise UserError(f"{path} does not fit {type(model).__name__}: {len(differences)} differences, such as {shown}")
    model.load_state_dict(weights)
    return model


def read_checkpoint(path: Path) -> object:
    """What the file holds. Torch's messages advise to load it unsafely, so they are not repeated."""
    try:
        with warnings.catch_warnings(action="ignore"):  # torch's, about pickles that are no checkpoints
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # what is no checkpoint fails in many ways
        if called := re.search(r"GLOBAL (\S+)", str(error)):
            raise UserError(
                f"{path} was not loaded: besides weights it holds {called[1]}, which could run code; "
                "save the net's state_dict alone"
            ) from None
        raise UserError(
            f"{path} is not a checkpoint, or a damaged one; if it was fetched, remove it and run `make data` again"
        ) from None


def differences_from(model: nn.Module, weights: Mapping[str, object]) -> list[str]:
    """In which names and shapes the weights are not the net's, in words and sorted."""
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items() if isinstance(tensor, torch.Tensor)}
    both = own.keys() & found.keys()
    return sorted(
        [
            *(f"{name} is missing" for name in own.keys() - found.keys()),
            *(f"{name} is not part of the net" for name in found.keys() - own.keys()),
            *(f"{name} is {found[name]}, not {own[name]}" for name in both if own[name] != found[name]),
        ]
    )
