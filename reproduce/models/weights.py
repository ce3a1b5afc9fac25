"""Fetched weights: the X-DNN authors' released nets and torchvision's, checked key by key before they are used."""

import pickle
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
    """Load a checkpoint into ``model``: a state dict, or the entry ``state_dict``, names without DataParallel's ``module.``
    (in front, or after ``features`` where only that part was parallel, as the X-DNN authors' AlexNet and VGG script does on
    one GPU).

    Raises:
        UserError: a file that is cut short, that holds something other than tensors and plain values (it is not executed),
            or whose names or shapes are not the net's; names the first differences.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} holds more than weights and was not loaded: {str(error).splitlines()[0]}") from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read as a checkpoint ({error}); remove it and run `make data` again"
        ) from error
    weights = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, dict) else {}
    weights = {name.removeprefix("module.").replace(".module.", "."): tensor for name, tensor in weights.items()}
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items() if isinstance(tensor, torch.Tensor)}
    differences = [f"{name} is missing" for name in own.keys() - found.keys()]
    differences += [f"{name} is not part of the net" for name in found.keys() - own.keys()]
    differences += [
        f"{name} is {found[name]}, not {own[name]}" for name in own.keys() & found.keys() if own[name] != found[name]
    ]
    if differences:
        shown = "; ".join(sorted(differences)[:5])
        raise UserError(f"{path} does not fit {type(model).__name__}: {len(differences)} differences, such as {shown}")
    model.load_state_dict(weights)
    return model
