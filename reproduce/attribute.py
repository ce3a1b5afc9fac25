"""Attribution maps of a user's own picture and net: arrays, pictures, and how far each map is from complete."""

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn

from reproduce import plugins
from reproduce.datasets import NETS
from reproduce.datasets.fetch import Store
from reproduce.datasets.images import Photographs
from reproduce.datasets.manifest import manifest
from reproduce.errors import UserError
from reproduce.models import MODELS, PREPROCESSING
from reproduce.models.fixup_resnet import FixupResNet
from reproduce.models.weights import FILES, load_weights
from reproduce.packaged_nets import is_packaged, packaged_net
from reproduce.scales import nearest
from xdnn import METHODS, HomogeneousWrapper, Method, NotHomogeneousError, to_x_variant
from xdnn.metrics.agreement import relative_l1
from xdnn.passes import count_passes
from xdnn.precision import PRECISIONS, in_precision

IMAGENET: dict[str, Any] = {
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "interpolation": "bilinear",
    "resize": 256,
    "size": 224,
}
BASELINE = "zero"  # what completeness is measured against: F(x) - F(0), 0 being the mean colour
VARIANTS = ("regular", "x", "wrapped")


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        model: a name of MODELS, or FILE.py:factory.
        methods: names of METHODS, or beginnings of one (``find_method``).
        folder: of what is written.
        variant: regular, x or wrapped; ``wrapped`` takes the picture's own norm as radius, so its logits stay as they are.
        weights: a state dict; None: the file that `make data` fetched for this net, if it did.
        target: the class; None: the predicted one.
        size: side of the net's input in px; None: what the net was trained with.
        references: a folder of pictures, for the methods that draw some.
        precision: of the passes.
    """

    picture: Path
    model: str
    methods: Sequence[str]
    folder: Path
    variant: str = "regular"
    weights: Path | None = None
    target: int | None = None
    size: int | None = None
    references: Path | None = None
    seed: int = 0
    precision: str = "float32"


@dataclass(frozen=True)
class Attribution:
    """One method's map and what it cost.

    Attributes:
        seconds: one call, after a warm-up pass; measured once.
        total: the sum of the map.
        gap: |total - (F(x) - F(0))| / |F(x) - F(0)|: 0 for Integrated Gradients in the limit and for X-Gradient.
        error: relative L1 to the same in float32; 0 where that is what was computed.
        heat: (3, H, W).
    """

    method: str
    label: str
    passes: int
    seconds: float
    total: float
    gap: float
    error: float
    heat: Tensor

    def numbers(self) -> dict[str, object]:
        """All but the map."""
        return {name: value for name, value in asdict(self).items() if name != "heat"}


def explain(request: Request) -> tuple[int, list[Attribution], list[Path]]:
    """All of it: read, build, explain, write.

    Returns:
        The class that was explained, what each method found, and the files that were written.

    Raises:
        UserError: anything in the request that does not fit; the message names it and the way out.
    """
    _check(request)
    model, preprocessing = prepared_net(request.model, request.variant, request.weights, request.size)
    pixels, x = read_picture(request.picture, preprocessing)
    if request.variant == "wrapped":
        model = HomogeneousWrapper(model, max(float(x.norm()), 1e-6))
    references = None
    if request.references is not None:
        references = read_references(request.references, preprocessing)
    try:
        target, found = attribute(
            model,
            x,
            request.target,
            request.methods,
            references=references,
            seed=request.seed,
            precision=request.precision,
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{request.model} cannot take a picture of {x.shape[-1]} px: {error}") from error
    return target, found, write(request.folder, request.picture.stem, pixels, target, found)


def _check(request: Request) -> None:
    """What can be said before a net is loaded."""
    if not request.methods:
        raise UserError(f"no method is named; name one or more of: {', '.join(METHODS)}")
    for method in request.methods:
        find_method(method)
    if request.precision not in PRECISIONS:
        raise nearest("precision", request.precision, dict.fromkeys(PRECISIONS))
    if request.variant not in VARIANTS:
        raise UserError(f"unknown variant {request.variant!r}; there are: {', '.join(VARIANTS)}")


def find_method(name: str) -> tuple[str, Method]:
    """The method of that name, or the only one that adds its number of steps: "integrated_gradients" finds the one with 128."""
    starts = [key for key in METHODS if re.fullmatch(rf"{re.escape(name)}_\d+", key)]
    if name in METHODS:
        return name, METHODS[name]
    if len(starts) == 1:
        return starts[0], METHODS[starts[0]]
    if starts:
        raise UserError(f"method {name!r} is short for {', '.join(starts)}; name one of them")
    raise nearest("method", name, METHODS)


# --- pictures ---


def read_picture(path: Path, preprocessing: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Pixels (3, size, size) uint8 and normalised inputs (1, 3, size, size): shorter side to ``resize`` px, centre crop."""
    photographs = Photographs((), preprocessing["resize"], preprocessing["size"], preprocessing["interpolation"])
    pixels = photographs.decode(open_picture(path))
    mean, std = (torch.tensor(preprocessing[name]).view(3, 1, 1) for name in ("mean", "std"))
    return pixels, ((pixels.float() / 255 - mean) / std)[None]


def open_picture(path: Path) -> Image.Image:
    """A picture as 8-bit RGB; 16-bit grey is scaled to it, not clipped.

    Raises:
        UserError: no such file, one that is no whole picture, or pixels that have no known range.
    """
    if not path.is_file():
        raise UserError(f"{path} is not a file; name a picture, e.g. photo.jpg")
    try:
        with Image.open(path) as file:
            file.load()  # all of it: the header of a file that was cut short is whole
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise UserError(f"{path} cannot be read as a picture ({error}); use a PNG or a JPEG") from error
    if file.mode == "I" or file.mode.startswith("I;16"):
        grey = np.asarray(file).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65_535:
            raise UserError(f"{path} has 32-bit pixels, whose range is not known; save it with 8 or 16 bits")
        return Image.fromarray((grey / 257).round().astype(np.uint8)).convert("RGB")
    if file.mode == "F":
        raise UserError(f"{path} has floating point pixels, whose range is not known; save it with 8 or 16 bits")
    return file.convert("RGB")


def read_references(folder: Path, preprocessing: Mapping[str, Any]) -> Tensor:
    """Every PNG and JPEG of a folder as normalised inputs (R, 3, size, size). Raises UserError where there is none."""
    files = [path for path in sorted(folder.glob("*")) if path.suffix.lower() in (".png", ".jpg", ".jpeg")]
    if not files:
        raise UserError(f"no PNG or JPEG in {folder}")
    return torch.cat([read_picture(file, preprocessing)[1] for file in files])


# --- nets ---


def prepared_net(
    name: str, variant: str, weights: Path | None, size: int | None
) -> tuple[nn.Module, Mapping[str, Any]]:
    """The net of ``load_model``, and how pictures are prepared for it: ``size`` px where that is given."""
    own = packaged_net(name)[1] if is_packaged(name) else PREPROCESSING.get(name, {})
    chosen = {} if size is None else {"size": size, "resize": round(size * 8 / 7)}
    return load_model(name, variant, weights), IMAGENET | dict(own) | chosen


def load_model(name: str, variant: str, weights: Path | None) -> nn.Module:
    """A net of MODELS, ``FILE.py:factory``, ``torchvision:NAME`` or ``timm:NAME``, in eval mode, with its weights.

    Args:
        weights: a state dict; default: the file that `make data` fetched for this net, if it did.

    Raises:
        UserError: an unknown net, a file that cannot be run, weights that are needed or do not fit, a net without X-variant.
    """
    file, colon, factory = name.rpartition(":")
    weights = weights or _fetched(name, variant)
    model = _make(name, file, factory) if colon else _from_registry(name, weights)
    try:
        model = to_x_variant(model) if variant == "x" else model
    except NotHomogeneousError as error:
        raise UserError(f"{name} has no X-variant: {error}. `--variant wrapped` makes any net homogeneous") from error
    if weights is not None:
        try:
            load_weights(model, weights)
        except UserError as error:
            if isinstance(model, FixupResNet) and "bn1." in str(error):
                raise UserError(
                    f"{name} is a Fixup-ResNet, which has no BatchNorm, as the X-DNN authors' is; for these weights "
                    f"take torchvision:{name}"
                ) from error
            raise
    return model.eval()


def _make(name: str, file: str, factory: str) -> nn.Module:
    """The net of a name with a colon."""
    return packaged_net(name)[0] if is_packaged(name) else _from_file(Path(file), factory)


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
    return MODELS[name](classes=1000, width=1.0, image_px=224)


def _from_file(path: Path, factory: str) -> nn.Module:
    if not path.is_file():
        raise UserError(f"{path} is not a file; a net of yours is named as FILE.py:factory")
    module = plugins.import_file(path, "net")
    make: Callable[[], object] | None = getattr(module, factory, None)
    if make is None:
        there = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UserError(f"{path} has no {factory!r}; there are: {', '.join(there) or 'no functions'}")
    try:
        model = make()
    except Exception as error:  # a user's function fails in any way; the line is what helps
        raise UserError(f"{factory}() in {path} failed: {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise UserError(f"{factory}() in {path} returned {type(model).__name__}, not a torch.nn.Module")
    return model


# --- maps ---


def attribute(
    model: nn.Module,
    x: Tensor,
    target: int | None,
    methods: Sequence[str],
    *,
    references: Tensor | None = None,
    seed: int = 0,
    precision: str = "float32",
) -> tuple[int, list[Attribution]]:
    """Explain one input by each method.

    Args:
        x:          (1, 3, H, W) normalised.
        target:     class; None for the predicted one.
        references: (R, 3, H, W), for the methods that draw them.
        precision:  of the passes; for "bf16" each method is run in float32 too, to say how far it is off.

    Returns:
        The class that was explained, and what each method found.

    Raises:
        UserError: a class that the net does not have, references that a method lacks, X-Gradient on a regular net.
    """
    with torch.no_grad():
        logits, zero = model(x)[0], model(torch.zeros_like(x))[0]
    target = int(logits.argmax()) if target is None else target
    if not 0 <= target < len(logits):
        raise UserError(f"class {target} is not one of the net's {len(logits)}; use 0 to {len(logits) - 1}")
    change = float(logits[target] - zero[target])
    out = []
    for name in methods:
        key, method = find_method(name)
        if method.references and references is None:
            raise UserError(f"{key} needs reference pictures: pass --references FOLDER")
        out.append(
            _measured(
                key, method, model, partial(_map, method, model, x, target, references, seed), x, change, precision
            )
        )
    return target, out


def _map(method: Method, model: nn.Module, x: Tensor, target: int, references: Tensor | None, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return method(model, x, torch.tensor([target], device=x.device), references=references, generator=generator)


def _measured(
    key: str, method: Method, model: nn.Module, make: Callable[[], Tensor], x: Tensor, change: float, precision: str
) -> Attribution:
    """A method's map with its passes, seconds, and distance from completeness; ``change`` is F(x) - F(0)."""
    start = time.perf_counter()
    try:
        with count_passes(model) as passes, in_precision(x, precision):
            found = make()
    except NotHomogeneousError as error:
        raise UserError(
            f"{key} needs a homogeneous net. {error}\nTry: --variant wrapped (no training, any net), --variant x with "
            "--weights of a net trained without biases, or --method integrated_gradients"
        ) from error
    seconds = time.perf_counter() - start
    total = float(found.sum())
    return Attribution(
        method=key,
        label=method.label,
        passes=max(passes.forward, passes.backward),
        seconds=seconds,
        total=total,
        gap=abs(total - change) / max(abs(change), 1e-12),
        error=float(relative_l1(make(), found.float())) if precision != "float32" else 0.0,
        heat=found[0].detach().float().cpu(),
    )


# --- files ---


def write(folder: Path, name: str, pixels: Tensor, target: int, found: Sequence[Attribution]) -> list[Path]:
    """<name>.<method>.npy (3, H, W) float32, <name>.png and .pdf with all maps side by side, <name>.json with the numbers.

    Raises:
        UserError: the folder cannot be written.
    """
    from reproduce.report import figures

    record = {"target": target, "baseline": BASELINE, "methods": [one.numbers() for one in found]}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for one in found:
            paths.append(folder / f"{name}.{one.method}.npy")
            np.save(paths[-1], one.heat.numpy())
        fig, axes = figures.subplots(1, 1 + len(found), height=figures.COLUMN_INCHES / (1 + len(found)) + 0.3)
        axes[0].imshow(pixels.permute(1, 2, 0).numpy())
        axes[0].set_title("picture")
        for ax, one in zip(axes[1:], found, strict=True):
            ax.imshow(figures.heatmap(one.heat.numpy()), cmap="RdBu_r", vmin=-1, vmax=1)
            ax.set_title(one.label)
        for ax in axes:
            ax.set(xticks=[], yticks=[])
            ax.grid(visible=False)
        figures.save(fig, folder / name)
        (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}; choose another --out") from error
    return [*paths, folder / f"{name}.png", folder / f"{name}.pdf", folder / f"{name}.json"]
