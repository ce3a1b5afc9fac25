"""A net of the user's by name, with its weights, its number of classes, how pictures are prepared for it, and its class names."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from reproduce import plugins
from reproduce.datasets import NETS
from reproduce.datasets.fetch import Store
from reproduce.datasets.manifest import manifest
from reproduce.errors import UserError
from reproduce.models import MODELS, PREPROCESSING
from reproduce.models.fixup_resnet import FixupResNet
from reproduce.models.weights import FILES
from reproduce.packaged_nets import is_packaged, packaged_net
from reproduce.scales import nearest
from reproduce.stripped_weights import load_stripped
from xdnn import NotHomogeneousError, to_x_variant

IMAGENET: dict[str, Any] = {
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "interpolation": "bilinear",
    "resize": 256,
    "size": 224,
}
IMAGENET_CLASSES = 1000
RESIZE = 8 / 7  # shorter side before the crop over the side of the crop, where only the latter is given: 256 / 224


@dataclass(frozen=True)
class NetChoice:
    """Which net, and what of it is not as its name says.

    Attributes:
        name: of MODELS, ``FILE.py:factory``, ``torchvision:NAME`` or ``timm:NAME``.
        weights: a state dict, or a checkpoint that holds one; None: the file that `make data` fetched for this net, if it did.
        head: number of classes of a new classifier; None: the net's own.
        size: side of the net's input in px; None: what the net was trained with.
        mean, std: that pictures in 0..1 are normalised with, one for each channel; None: what the net was trained with.
        labels: a file with a class name a line, or JSON; "imagenet"; "" for what is known of the net.
    """

    name: str
    variant: str = "regular"
    weights: Path | None = None
    head: int | None = None
    size: int | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    labels: str = ""


@dataclass
class UserNet:
    """A net that is ready for pictures.

    Attributes:
        preprocessing: mean, std, interpolation, resize and size of pictures.
        said: what was done to the weights.
        warnings: why its numbers say less than they seem to.
        labels: names of the classes; empty where none are known.
    """

    net: nn.Module
    preprocessing: Mapping[str, Any]
    said: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    labels: Sequence[str] = ()

    def label(self, target: int) -> str:
        """A class by number, and by name where that is known."""
        return f"class {target}" + (f", {self.labels[target]}" if target < len(self.labels) else "")


def prepare(choice: NetChoice) -> UserNet:
    """Make the net, give it its head and weights, and say what its numbers cannot.

    Raises:
        UserError: an unknown net, a file that cannot be run, weights that are needed or do not fit, a net without X-variant,
            class names that cannot be read.
    """
    own = packaged_net(choice.name)[1] if is_packaged(choice.name) else PREPROCESSING.get(choice.name, {})
    given: dict[str, Any] = {name: getattr(choice, name) for name in ("mean", "std") if getattr(choice, name)}
    if choice.size is not None:
        given |= {"size": choice.size, "resize": round(choice.size * RESIZE)}
    weights = choice.weights or _fetched(choice.name, choice.variant)
    net = make(choice.name, weights)
    preprocessing = IMAGENET | dict(own) | given
    new_head = choice.head is not None and choice.head != _class_count(net, preprocessing["size"], choice.name)
    if choice.head is not None and new_head:
        net = with_classes(net, choice.head, preprocessing["size"], choice.name)
    net = as_variant(net, choice.variant, choice.name).eval()
    said = _load(net, weights, choice.name) if weights is not None else []
    labels = read_labels(choice)
    return UserNet(net, preprocessing, said, _warnings(choice, weights, new_head=new_head), labels)


def make(name: str, weights: Path | None = None) -> nn.Module:
    """The net of that name as it is initialised; ``weights`` are those that it is to be given."""
    file, colon, factory = name.rpartition(":")
    if not colon:
        return _from_registry(name, weights)
    return packaged_net(name)[0] if is_packaged(name) else from_file(Path(file), factory)


def as_variant(net: nn.Module, variant: str, name: str) -> nn.Module:
    """The net, or its X-variant where ``variant`` is "x". Raises UserError where it has none."""
    if variant != "x":
        return net
    try:
        return to_x_variant(net)
    except NotHomogeneousError as error:
        raise UserError(f"{name} has no X-variant: {error}. `--variant wrapped` makes any net homogeneous") from error


def _load(net: nn.Module, weights: Path, name: str) -> list[str]:
    try:
        return load_stripped(net, weights)
    except UserError as error:
        if isinstance(net, FixupResNet) and "bn1." in str(error):
            raise UserError(
                f"{name} is a Fixup-ResNet, which has no BatchNorm, as the X-DNN authors' is; for these weights "
                f"take torchvision:{name}"
            ) from error
        if classes := re.search(r"are of (\d+) classes", str(error)):
            raise UserError(f"{error}; pass --head {classes[1]}") from error
        raise


def _warnings(choice: NetChoice, weights: Path | None, *, new_head: bool) -> list[str]:
    """Why numbers of this net say less than they seem to."""
    found = []
    if weights is None and is_packaged(choice.name):
        found.append(f"{choice.name} has random weights: nothing here is of a trained net; pass --weights FILE")
    elif weights is None and new_head:
        found.append("the classifier of --head is new and has random weights; pass --weights FILE")
    if choice.variant == "x" and weights is None:
        found.append("its biases were just removed, and it was not trained without them; `convert` fine-tunes it")
    return found


def _fetched(name: str, variant: str) -> Path | None:
    """The weights that `make data` has fetched for a net; None where there are none."""
    store, file = Store(), FILES.get((name, variant))
    return store.path(manifest()[0][file]) if file and store.has(manifest()[0][file]) else None


def _from_registry(name: str, weights: Path | None) -> nn.Module:
    if name not in MODELS:
        raise nearest("model", name, MODELS)
    with_weights = [model for group in NETS.values() if group.weights == "package" for model in group.widths]
    if weights is None and name not in with_weights:
        known = " (the papers' nets: `make data SCALE=subset`)" if any(name == model for model, _ in FILES) else ""
        raise UserError(
            f"{name} has no weights of its own: pass --weights FILE{known}, or take --model {with_weights[0]}"
        )
    return MODELS[name](classes=IMAGENET_CLASSES, width=1.0, image_px=224)


def from_file(path: Path, factory: str) -> nn.Module:
    """What a function of a user's file returns. Raises UserError where that is no net."""
    if not path.is_file():
        raise UserError(f"{path} is not a file; a net of yours is named as FILE.py:factory")
    module = plugins.import_file(path, "net")
    function: Callable[[], object] | None = getattr(module, factory, None)
    if function is None:
        there = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UserError(f"{path} has no {factory!r}; there are: {', '.join(there) or 'no functions'}")
    try:
        net = function()
    except Exception as error:  # a user's function fails in any way; the line is what helps
        raise UserError(f"{factory}() in {path} failed: {type(error).__name__}: {error}") from error
    if not isinstance(net, nn.Module):
        raise UserError(f"{factory}() in {path} returned {type(net).__name__}, not a torch.nn.Module")
    return net


# --- another number of classes ---


def with_classes(net: nn.Module, classes: int, size: int, name: str) -> nn.Module:
    """The net with that many logits for pictures of ``size`` px: as it is where it has them, else with a new last layer.

    Raises:
        UserError: no layer is found whose replacement does it.
    """
    if _class_count(net, size, name) == classes:
        return net
    net = with_head(net, classes, name)
    if (found := _class_count(net, size, name)) != classes:
        raise UserError(
            f"{name} still gives {found} logits: its last layer is no classifier that can be replaced; "
            "give the number of classes to its factory"
        )
    return net


def _class_count(net: nn.Module, size: int, name: str) -> int:
    was = net.training
    try:
        with torch.no_grad():
            return int(net.eval()(torch.zeros(1, 3, size, size)).shape[1])
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{name} cannot take a picture of {size} px: {error}") from error
    finally:
        net.train(was)


def with_head(net: nn.Module, classes: int, name: str) -> nn.Module:
    """The net, changed in place, with a new classifier: timm's own way, else its last linear layer or 1x1 convolution.

    Raises:
        UserError: it has no such layer.
    """
    if name.startswith("timm:"):
        net.reset_classifier(classes)  # type: ignore[operator]
        return net
    kinds = (nn.Linear, nn.Conv2d)
    layers = [
        (path, layer) for path, layer in net.named_modules() if isinstance(layer, kinds) and not path.startswith("Aux")
    ]
    if not layers or (isinstance(layers[-1][1], nn.Conv2d) and layers[-1][1].kernel_size != (1, 1)):
        raise UserError(
            f"{name} ends in no linear layer that could be replaced; give the number of classes to its factory"
        )
    path, last = layers[-1]
    new: nn.Module
    if isinstance(last, nn.Linear):
        new = nn.Linear(last.in_features, classes, bias=last.bias is not None)
    else:
        new = nn.Conv2d(last.in_channels, classes, 1, bias=last.bias is not None)
    parent, _, own = path.rpartition(".")
    setattr(net.get_submodule(parent), own, new)
    if hasattr(net, "num_classes"):  # torchvision's SqueezeNet shapes its output by it
        setattr(net, "num_classes", classes)  # noqa: B010 - a name that nn.Module does not have
    return net


# --- names of classes ---


def read_labels(choice: NetChoice) -> Sequence[str]:
    """Names of the classes: the file's, or ImageNet's where the net has its classes. Raises UserError for another file."""
    if not choice.labels:
        ours = ":" not in choice.name and choice.name not in plugins.added("MODELS")
        known = ours or is_packaged(choice.name)
        return imagenet_labels() if known and choice.head is None else ()
    if choice.labels == "imagenet":
        return imagenet_labels()
    path = Path(choice.labels)
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix == ".json" else text.splitlines()
    except (OSError, ValueError) as error:
        raise UserError(
            f"--labels {path} cannot be read ({error}); a class name a line, or JSON, or imagenet"
        ) from error
    if isinstance(found, Mapping):  # {"0": "cat"}
        found = [found.get(str(number), f"class {number}") for number in range(len(found))]
    if not isinstance(found, list) or not found:
        raise UserError(f"--labels {path} has no list of class names")
    return [str(name) for name in found]


@lru_cache(maxsize=1)
def imagenet_labels() -> Sequence[str]:
    """ImageNet's 1,000 class names, as torchvision has them with its weights."""
    from torchvision.models import AlexNet_Weights

    names: Sequence[str] = AlexNet_Weights.IMAGENET1K_V1.meta["categories"]
    return names
