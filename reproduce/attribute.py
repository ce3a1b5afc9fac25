"""Attribution maps of a user's own pictures and net: arrays, pictures, and how far each map is from complete."""

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from reproduce.errors import UserError
from reproduce.pictures import find_pictures, read_picture, read_references
from reproduce.scales import nearest
from reproduce.user_nets import NetChoice, UserNet, prepare
from xdnn import METHODS, HomogeneousWrapper, Method, NotHomogeneousError
from xdnn.metrics.agreement import relative_l1
from xdnn.passes import count_passes
from xdnn.precision import PRECISIONS, in_precision

BASELINE = "zero"  # what completeness is measured against: F(x) - F(0), 0 being the mean colour
VARIANTS = ("regular", "x", "wrapped")


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        pictures: files, and folders whose pictures are meant.
        net: its variant "wrapped" takes each picture's own norm as radius, so its logits stay as they are.
        methods: names of METHODS, or beginnings of one (``find_method``).
        folder: of what is written.
        target: the class; None: the predicted one.
        references: a folder of pictures, for the methods that draw some.
        precision: of the passes.
        steps: of methods that have a number of them; None: the number in their name.
    """

    pictures: Sequence[Path]
    net: NetChoice
    methods: Sequence[str]
    folder: Path
    target: int | None = None
    references: Path | None = None
    seed: int = 0
    precision: str = "float32"
    steps: int | None = None
    device: torch.device | str = "cpu"


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


@dataclass(frozen=True)
class Explained:
    """A picture's class, what each method found of it, and the files that were written."""

    picture: Path
    target: int
    found: list[Attribution]
    files: list[Path]


def explain(request: Request) -> tuple[UserNet, Iterator[Explained]]:
    """All of it: build the net, then read, explain and write picture by picture, as the iterator is asked.

    Raises:
        UserError: anything in the request that does not fit; the message names it and the way out.
    """
    _check(request)
    pictures = find_pictures(request.pictures)
    net = prepare(request.net)
    return net, _each(request, net, pictures)


def _each(request: Request, made: UserNet, pictures: Sequence[Path]) -> Iterator[Explained]:
    base = made.net.to(request.device)
    references = None
    if request.references is not None:
        references = read_references(request.references, made.preprocessing).to(request.device)
    for path, name in zip(pictures, _names(pictures), strict=True):
        pixels, x = read_picture(path, made.preprocessing)
        x = x.to(request.device)
        wrapped = request.net.variant == "wrapped"
        model = HomogeneousWrapper(base, max(float(x.norm()), 1e-6)) if wrapped else base
        try:
            target, found = attribute(
                model,
                x,
                request.target,
                request.methods,
                references=references,
                seed=request.seed,
                precision=request.precision,
                steps=request.steps,
            )
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{request.net.name} cannot take a picture of {x.shape[-1]} px: {error}") from error
        about = {"picture": str(path), "label": made.label(target)} | _notes(made)
        yield Explained(path, target, found, write(request.folder, name, pixels, target, found, about))


def _notes(made: UserNet) -> dict[str, object]:
    return {"weights": made.said, "warnings": made.warnings}


def _names(pictures: Sequence[Path]) -> list[str]:
    """A name for each picture's files: its own, with a number where two have the same."""
    counts, seen = Counter(path.stem for path in pictures), Counter[str]()
    out = []
    for path in pictures:
        seen[path.stem] += 1
        out.append(path.stem if counts[path.stem] == 1 else f"{path.stem}_{seen[path.stem]}")
    return out


def _check(request: Request) -> None:
    """What can be said before a net is loaded."""
    if not request.methods:
        raise UserError(f"no method is named; name one or more of: {', '.join(METHODS)}")
    found = [find_method(method, request.steps) for method in request.methods]
    if request.steps is not None and not any(_has_steps(method) for _, method in found):
        raise UserError("--steps: none of the methods has a number of steps; name integrated_gradients, for example")
    if request.precision not in PRECISIONS:
        raise nearest("precision", request.precision, dict.fromkeys(PRECISIONS))
    if request.net.variant not in VARIANTS:
        raise UserError(f"unknown variant {request.net.variant!r}; there are: {', '.join(VARIANTS)}")


def find_method(name: str, steps: int | None = None) -> tuple[str, Method]:
    """The method of that name, or the only one that adds its number of steps: "integrated_gradients" finds the one with 128.

    Args:
        steps: in place of its own number, where it has one.
    """
    starts = [key for key in METHODS if re.fullmatch(rf"{re.escape(name)}_\d+", key)]
    if name not in METHODS and len(starts) > 1:
        raise UserError(f"method {name!r} is short for {', '.join(starts)}; name one of them")
    if name not in METHODS and not starts:
        raise nearest("method", name, METHODS)
    key = name if name in METHODS else starts[0]
    method = METHODS[key]
    if steps is None or not _has_steps(method):
        return key, method
    changed = replace(
        method,
        attribute=partial(method.attribute, steps=steps),
        label=re.sub(r"\(\d+\)", f"({steps})", method.label),
        passes=None,
    )
    return re.sub(r"\d+$", str(steps), key), changed


def _has_steps(method: Method) -> bool:
    return "steps" in getattr(method.attribute, "keywords", {})


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
    steps: int | None = None,
) -> tuple[int, list[Attribution]]:
    """Explain one input by each method.

    Args:
        x:          (1, 3, H, W) normalised.
        target:     class; None for the predicted one.
        references: (R, 3, H, W), for the methods that draw them.
        precision:  of the passes; for "bf16" each method is run in float32 too, to say how far it is off.
        steps:      of methods that have a number of them; None: the number in their name.

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
        key, method = find_method(name, steps)
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


def write(
    folder: Path,
    name: str,
    pixels: Tensor,
    target: int,
    found: Sequence[Attribution],
    about: Mapping[str, object] | None = None,
) -> list[Path]:
    """<name>.<method>.npy (3, H, W) float32, <name>.png and .pdf with all maps side by side, <name>.json with the numbers.

    Args:
        about: what else the JSON says.

    Raises:
        UserError: the folder cannot be written.
    """
    from reproduce.report import figures

    numbers = [one.numbers() for one in found]
    record = {"target": target, **(about or {}), "baseline": BASELINE, "methods": numbers}
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
