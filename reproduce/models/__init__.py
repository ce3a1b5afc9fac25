"""Architectures by name, regular or as X-variants, and where their weights come from.

MODELS["alexnet"](classes=10, width=0.25, image_px=64)
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from reproduce.errors import UserError
from reproduce.models.alexnet import AlexNet
from reproduce.models.batch_norm_resnet import BatchNormResNet
from reproduce.models.fixup_resnet import FixupResNet
from reproduce.models.pretrained import (
    EFFICIENTNET_LITE0_INPUT,
    EFFICIENTNET_LITE0_RADIUS,
    efficientnet_lite0,
    torchvision_net,
)
from reproduce.models.squeezenet import SQUEEZENET_INPUT, SQUEEZENET_RADIUS, squeezenet
from reproduce.models.vgg import VGG
from xdnn import HomogeneousWrapper, to_x_variant

VARIANTS = ("regular", "x", "wrapped", "converted")

MODELS: dict[str, Callable[..., nn.Module]] = {
    "alexnet": AlexNet,
    **{f"vgg{depth}": partial(VGG, depth) for depth in (11, 13, 16, 19)},
    **{f"resnet{depth}": partial(FixupResNet, depth) for depth in (18, 34, 50, 101, 152)},
    **{f"bn_resnet{depth}": partial(BatchNormResNet, depth) for depth in (18, 34)},
    "efficientnet_lite0": efficientnet_lite0,
    "squeezenet": squeezenet,
    **{
        f"torchvision_{name}": partial(torchvision_net, name)
        for name in ("alexnet", "vgg16", "resnet50", "inception_v3")
    },
}
# The other nets take their data set's own.
PREPROCESSING: dict[str, dict[str, Any]] = {
    "efficientnet_lite0": EFFICIENTNET_LITE0_INPUT,
    "squeezenet": SQUEEZENET_INPUT,
}
RADII = {"efficientnet_lite0": EFFICIENTNET_LITE0_RADIUS, "squeezenet": SQUEEZENET_RADIUS}


def build(name: str, variant: str, *, classes: int = 1000, width: float = 1.0, image_px: int = 224) -> nn.Module:
    """A net, initialised from torch's global generator, or with the weights that its package ships.

    Args:
        name:    a key of MODELS.
        variant: "regular", "x" (to_x_variant, to be trained), "wrapped" (HomogeneousWrapper, for nets with a known radius) or
                 "converted" (to_x_variant of a trained net, whose weights are then fine-tuned: ``nets.conversion_task``).
        width:   channel multiplier; 1 with 1000 classes and 224 px is the papers' network.
    """
    if name not in MODELS:
        raise UserError(f"unknown model {name!r}; there are: {', '.join(MODELS)}")
    if variant not in VARIANTS:
        raise UserError(f"unknown variant {variant!r}; there are: {', '.join(VARIANTS)}")
    model = MODELS[name](classes=classes, width=width, image_px=image_px)
    if variant == "wrapped":
        if name not in RADII:
            raise UserError(f"no radius is known for {name}; wrapped nets are: {', '.join(RADII)}")
        return HomogeneousWrapper(model, RADII[name])
    return model if variant == "regular" else to_x_variant(model)
