"""Attribution maps of a user's own picture and net: arrays, pictures, and how far each map is from complete."""

import importlib.util
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn

from reproduce.attributions import METHODS, Method
from reproduce.attributions.engine import PRECISIONS, in_precision
from reproduce.datasets.fetch import Store, manifest
from reproduce.datasets.images import Photographs
from reproduce.errors import UserError
from reproduce.metrics.agreement import relative_l1
from reproduce.metrics.timing import counted
from reproduce.models import MODELS, PREPROCESSING
from reproduce.models.weights import FILES, load_weights
from reproduce.report import figures
from reproduce.scales import nearest
from reproduce.xdnn import HomogeneousWrapper, NotHomogeneousError, to_x_variant

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "interpolation": "bilinear"}
BASELINE = "zero"  # what completeness is measured against: F(x) - F(0), 0 being the mean colour


@dataclass(frozen=True)
class Attribution:
    """One method's map and what it cost.

    Attributes:
        error: relative L1 to the same in float32; 0 where that is what was computed.
        gap: |sum A - (F(x) - F(0))| / |F(x) - F(0)|: 0 for Integrated Gradients in the limit and for X-Gradient.
        seconds: one call, after a warm-up pass; measured once.
    """

    method: str
    label: str
    passes: int
    seconds: float
    total: float
    gap: float
    error: float = 0.0


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


def read_picture(path: Path, size: int, preprocessing: dict[str, object]) -> tuple[Tensor, Tensor]:
    """Pixels (3, size, size) uint8 and normalised inputs (1, 3, size, size): shorter side to 8/7 of size, centre crop."""
    if not path.is_file():
        raise UserError(f"{path} is not a file; name a picture, e.g. photo.jpg")
    try:
        with Image.open(path) as file:
            file.load()  # all of it: the header of a file that was cut short is whole
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise UserError(f"{path} cannot be read as a picture ({error}); use a PNG or a JPEG") from error
    pixels = Photographs((path,), round(size * 8 / 7), size, str(preprocessing["interpolation"]))[0:1]
    mean, std = (torch.tensor(preprocessing[name]).view(3, 1, 1) for name in ("mean", "std"))
    return pixels[0], (pixels.float() / 255 - mean) / std


def load_model(name: str, variant: str, weights: Path | None) -> nn.Module:
    """A net of MODELS, or ``FILE.py:factory`` that returns one, in eval mode, with its weights.

    Args:
        weights: a state dict; default: the file that `make data` fetched for this net, if it did.

    Raises:
        UserError: an unknown net, a file that cannot be run, weights that are needed or do not fit, a net without X-variant.
    """
    file, colon, factory = name.rpartition(":")
    weights = weights or _fetched(name, variant)
    model = _from_file(Path(file), factory) if colon else _from_registry(name, weights)
    try:
        model = to_x_variant(model) if variant == "x" else model
    except NotHomogeneousError as error:
        raise UserError(f"{name} has no X-variant: {error}. `--variant wrapped` makes any net homogeneous") from error
    if weights is not None:
        load_weights(model, weights)
    return model.eval()


def _fetched(name: str, variant: str) -> Path | None:
    """The weights that `make data` has fetched for a net; None where there are none."""
    store, file = Store(), FILES.get((name, variant))
    return store.path(manifest()[0][file]) if file and store.has(manifest()[0][file]) else None


def _from_registry(name: str, weights: Path | None) -> nn.Module:
    if name not in MODELS:
        raise nearest("model", name, MODELS)
    if weights is None and name != "efficientnet_lite0":
        known = " (the papers' nets: `make data SCALE=subset`)" if any(name == model for model, _ in FILES) else ""
        raise UserError(
            f"{name} has no weights of its own: pass --weights FILE{known}, or take --model efficientnet_lite0"
        )
    return MODELS[name](classes=1000, width=1.0, image_px=224)


def _from_file(path: Path, factory: str) -> nn.Module:
    if not path.is_file():
        raise UserError(f"{path} is not a file; a net of yours is named as FILE.py:factory")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    make: Callable[[], object] | None = getattr(module, factory, None)
    if make is None:
        there = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UserError(f"{path} has no {factory!r}; there are: {', '.join(there) or 'no functions'}")
    model = make()
    if not isinstance(model, nn.Module):
        raise UserError(f"{factory}() in {path} returned {type(model).__name__}, not a torch.nn.Module")
    return model


def attribute(
    model: nn.Module,
    x: Tensor,
    target: int | None,
    methods: Sequence[str],
    *,
    references: Tensor | None = None,
    seed: int = 0,
    precision: str = "float32",
) -> tuple[int, list[tuple[Attribution, Tensor]]]:
    """Explain one input by each method.

    Args:
        x:          (1, 3, H, W) normalised.
        target:     class; None for the predicted one.
        references: (R, 3, H, W), for the methods that draw them.
        precision:  of the passes; for "bf16" each method is run in float32 too, to say how far it is off.

    Returns:
        The class that was explained, and per method what it cost and its map (3, H, W).

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
        explain = partial(_explain, method, model, x, target, references, seed)
        start = time.perf_counter()
        try:
            with counted(model) as passes, in_precision(x, precision):
                found = explain()
        except NotHomogeneousError as error:
            raise UserError(
                f"{key} needs a homogeneous net. {error}\nTry: --variant wrapped (no training, any net), --variant x with "
                "--weights of a net trained without biases, or --method integrated_gradients"
            ) from error
        seconds = time.perf_counter() - start
        moved = float(relative_l1(explain(), found.float())) if precision != "float32" else 0.0
        total = float(found.sum())
        gap = abs(total - change) / max(abs(change), 1e-12)
        out.append(
            (
                Attribution(key, method.label, max(passes.forward, passes.backward), seconds, total, gap, moved),
                found[0].detach().cpu(),
            )
        )
    return target, out


def _explain(method: Method, model: nn.Module, x: Tensor, target: int, references: Tensor | None, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return method(model, x, torch.tensor([target], device=x.device), references=references, generator=generator)


def write(
    folder: Path, stem: str, pixels: Tensor, target: int, found: Sequence[tuple[Attribution, Tensor]]
) -> list[Path]:
    """``<stem>.<method>.npy`` (3, H, W) float32, ``<stem>.png`` with all maps side by side, ``<stem>.json`` with the numbers."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for about, heat in found:
            paths.append(folder / f"{stem}.{about.method}.npy")
            np.save(paths[-1], heat.float().numpy())
        fig, axes = figures.subplots(1, 1 + len(found), height=figures.COLUMN_INCHES / (1 + len(found)) + 0.3)
        axes[0].imshow(pixels.permute(1, 2, 0).numpy())
        axes[0].set_title("picture")
        for ax, (about, heat) in zip(axes[1:], found, strict=True):
            ax.imshow(figures.heatmap(heat.float().numpy()), cmap="RdBu_r", vmin=-1, vmax=1)
            ax.set_title(about.label)
        for ax in axes:
            ax.set(xticks=[], yticks=[])
            ax.grid(visible=False)
        figures.save(fig, folder / stem)
        record = {"target": target, "baseline": BASELINE, "methods": [asdict(about) for about, _ in found]}
        (folder / f"{stem}.json").write_text(json.dumps(record, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}; choose another --out") from error
    return [*paths, folder / f"{stem}.png", folder / f"{stem}.pdf", folder / f"{stem}.json"]


def run(
    picture: Path, name: str, methods: Sequence[str], folder: Path, *, variant: str = "regular", weights: Path | None = None,
    target: int | None = None, size: int = 224, references: Path | None = None, seed: int = 0, precision: str = "float32",
) -> tuple[int, list[Attribution], list[Path]]:  # fmt: skip
    """All of it: read, build, explain, write. ``wrapped`` takes the picture's own norm as radius, so its logits stay as they are."""
    for method in methods:
        find_method(method)  # a mistyped name is said before a net is loaded
    if precision not in PRECISIONS:
        raise nearest("precision", precision, dict.fromkeys(PRECISIONS))
    if variant not in ("regular", "x", "wrapped"):
        raise UserError(f"unknown variant {variant!r}; there are: regular, x, wrapped")
    preprocessing = PREPROCESSING.get(name, IMAGENET)
    pixels, x = read_picture(picture, size, preprocessing)
    model = load_model(name, variant, weights)
    if variant == "wrapped":
        model = HomogeneousWrapper(model, max(float(x.norm()), 1e-6))
    drawn = None
    if references is not None:
        files = [p for p in sorted(references.glob("*")) if p.suffix.lower() in (".png", ".jpg", ".jpeg")]
        if not files:
            raise UserError(f"no PNG or JPEG in {references}")
        drawn = torch.cat([read_picture(file, size, preprocessing)[1] for file in files])
    try:
        explained, found = attribute(model, x, target, methods, references=drawn, seed=seed, precision=precision)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{name} cannot take a picture of {size} px: {error}") from error
    paths = write(folder, picture.stem, pixels, explained, found)
    return explained, [about for about, _ in found], paths
