"""Nets of other packages by name, ``torchvision:NAME`` and ``timm:NAME``: architecture, and how pictures are prepared for it."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from reproduce.errors import UserError
from reproduce.scales import nearest

PACKAGES = ("torchvision", "timm")


def is_packaged(name: str) -> bool:
    """Does the name begin with a package's?"""
    return name.partition(":")[0] in PACKAGES


def packaged_net(name: str) -> tuple[nn.Module, Mapping[str, Any]]:
    """The architecture as initialised, in eval mode, and what its preprocessing changes of ImageNet's.

    Raises:
        UserError: a name that the package does not have.
    """
    package, _, model = name.partition(":")
    if package == "torchvision":
        from torchvision import models

        known = models.list_models(module=models)
        if model not in known:
            raise nearest("torchvision model", model, dict.fromkeys(known))
        extra = {"init_weights": True} if model in ("googlenet", "inception_v3") else {}
        net: nn.Module = models.get_model(model, weights=None, **extra)
        return net.eval(), {"size": 299, "resize": 342} if model == "inception_v3" else {}
    import timm
    from timm.data.config import resolve_data_config

    if not timm.is_model(model):
        raise nearest("timm model", model, dict.fromkeys(timm.list_models()))
    try:
        made = timm.create_model(model, pretrained=False).eval()
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{name} cannot be made: {error}") from error
    data = resolve_data_config({}, model=made)
    size = data["input_size"][-1]
    interpolation = data["interpolation"] if data["interpolation"] in ("bilinear", "bicubic") else "bilinear"
    resize = round(size / data["crop_pct"])
    return made, {
        "mean": data["mean"], "std": data["std"], "interpolation": interpolation, "size": size, "resize": resize,
    }  # fmt: skip
