"""SqueezeNet 1.1 with the ImageNet weights of ``data/squeezenet1_1``: a plain ReLU net without normalisation layers."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors import torch as safetensors
from torch import Tensor, nn

from reproduce.errors import UserError
from reproduce.paths import DATA

FILE = DATA / "squeezenet1_1" / "squeezenet1_1-fp16.safetensors"
SHA256 = "fd870fec25ccca1672f519fce4521be4417e56fb22c8f85b3fb295d6388f6036"
FIRST = "features.0.weight"  # the one layer that sees colours

# What the weights were trained with, in the order red, green, blue: pixels in 0..255 less their mean.
SQUEEZENET_INPUT: dict[str, Any] = {
    "mean": (123 / 255, 117 / 255, 104 / 255),
    "std": (1 / 255,) * 3,
    "interpolation": "bicubic",
    "resize": 227,
    "size": 227,
}
# Median Euclidean norm of inputs so normalised, over the 100 open photographs: the radius of its HomogeneousWrapper.
SQUEEZENET_RADIUS = 25_700.0


def squeezenet(classes: int = 1000, width: float = 1.0, image_px: int = 227) -> nn.Module:
    """SqueezeNet 1.1 (Iandola et al. 2016, arXiv 1602.07360) with ImageNet weights; torchvision's architecture.

    Its logits are means of ReLU units, so none is negative. The weights were trained on blue, green, red; the first
    convolution's channels are turned round here, so that inputs are red, green, blue as everywhere else.

    Raises:
        UserError: another number of classes or width than the weights have; weights that are not there, or not the ones
            with the known hash.
    """
    from torchvision import models

    if (classes, width) != (1000, 1.0):
        raise UserError(f"SqueezeNet comes with weights for 1000 classes at width 1, not {classes} at {width}")
    weights = read_weights()
    with torch.device("meta"):  # nothing is drawn: all weights are in the file
        net: nn.Module = models.squeezenet1_1(weights=None)
    net.load_state_dict(weights | {FIRST: weights[FIRST].flip(1)}, assign=True)
    return net


def read_weights(path: Path = FILE) -> dict[str, Tensor]:
    """The weights by torchvision's names, float32.

    Raises:
        UserError: the file is not there, or its hash is not SHA256.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; {_WAY_OUT}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        raise UserError(f"{path} is not the published file: its sha256 is {found}, expected {SHA256}; {_WAY_OUT}")
    return {name: tensor.float() for name, tensor in safetensors.load(data).items()}


_WAY_OUT = "restore it with `git checkout data/squeezenet1_1`"
