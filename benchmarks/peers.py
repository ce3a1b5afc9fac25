"""At 224 px, on the papers' architectures at full width: IG (128) of one image against captum's, X-Gradient of 16 against its bound.

python -m benchmarks.peers [NET ...] [--out FOLDER]     writes a table named after the CPU; half an hour for all four nets
make peers                                              the same into results/published/peers, whose rows README shows

captum is run at its best: each batch size and memory format is tried first, and the fastest is compared, interleaved with
ours, which chooses its own chunks. A plain user's captum, on the net as it is built and all points at once where that fits,
stands beside it.
"""

import re
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import captum.attr
import pandas as pd
import torch
import typer
from torch import Tensor, nn

from benchmarks.cases import EQUAL
from reproduce import provenance
from reproduce.models import build
from reproduce.paths import ROOT
from reproduce.report.tables import markdown, write_csv
from reproduce.stopwatch import bare_passes
from reproduce.timing import clocked
from xdnn import integrated_gradients, x_gradient
from xdnn.allocator import keep_freed_memory
from xdnn.metrics.agreement import relative_l1

STEPS, BATCH = 128, 16
# captum's internal_batch_size: what is tried, None is all points at once, its default. In 16 GB no more fits of these nets.
PEER_BATCHES: dict[str, tuple[int | None, ...]] = {
    "alexnet": (16, 32, 64, None),
    "vgg16": (4, 8, 16, 32),
    "resnet50": (4, 8, 16, 32),
    "torchvision_resnet50": (4, 8, 16, 32),
}
TRIED_STEPS = {
    "alexnet": STEPS,
    "vgg16": 32,
    "resnet50": 32,
    "torchvision_resnet50": 32,
}  # fewer: a setting is only ranked
FORMATS = {"as built": torch.contiguous_format, "channels last": torch.channels_last}


@dataclass(frozen=True)
class Setting:
    """How captum is run: memory format of net and image, internal_batch_size."""

    memory_format: str
    batch: int | None


@dataclass(frozen=True)
class Compared:
    """A line of the table. ``ratio``: their seconds over ours, the median of the rounds; smallest and largest of them."""

    net: str
    what: str
    against: str
    ours_seconds: float
    their_seconds: float
    ratio: float
    smallest: float
    largest: float
    relative_l1: float | None
    rounds: int
    cpu: str
    threads: int


def build_net(name: str, variant: str = "regular") -> nn.Module:
    """The net with every parameter off its initial value: a Fixup net starts with a gradient of zero."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        net = build(name, variant).eval()
        for parameter in net.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape))
    return net


def captums(name: str, image: Tensor, target: Tensor) -> dict[Setting, Callable[..., Tensor]]:
    """captum's IG in every setting that is tried; called with ``n_steps``."""
    calls: dict[Setting, Callable[..., Tensor]] = {}
    for label, order in FORMATS.items():
        net, laid_out = build_net(name).to(memory_format=order), image.contiguous(memory_format=order)
        attribute = partial(captum.attr.IntegratedGradients(net).attribute, laid_out, torch.zeros_like(laid_out))
        for batch in PEER_BATCHES[name]:
            options = {"method": "gausslegendre", "internal_batch_size": batch}
            calls[Setting(label, batch)] = partial(attribute, target=target, **options)
    return calls


def compare_ig(name: str, rounds: int) -> list[Compared]:
    """Ours against captum at its best, and as a plain user runs it."""
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    target = torch.tensor([7])
    net = build_net(name).to(memory_format=torch.channels_last)
    ours = partial(integrated_gradients, net, image.contiguous(memory_format=torch.channels_last), target, steps=STEPS)
    theirs = captums(name, image, target)
    tried: dict[Setting, float] = {}
    for setting, call in theirs.items():
        call(n_steps=TRIED_STEPS[name])
        tried[setting] = clocked(partial(call, n_steps=TRIED_STEPS[name]))[0]
    fastest = min(tried, key=lambda setting: tried[setting])
    plain = min((s for s in tried if s.memory_format == "as built"), key=lambda s: tried[s] if s.batch else 0.0)
    result = ours()
    sides = {"at its best": fastest, "as built": plain}
    times: dict[str, list[float]] = {side: [] for side in ("ours", *sides)}
    distances = {}
    for _ in range(rounds):
        times["ours"].append(clocked(ours)[0])
        for side, setting in sides.items():
            seconds, theirs_result = clocked(partial(theirs[setting], n_steps=STEPS))
            times[side].append(seconds)
            distances[side] = relative_l1(theirs_result, result).item()
    return [
        line(name, f"IG ({STEPS})", f"captum {side}: {described(setting)}", times["ours"], times[side], distances[side])
        for side, setting in sides.items()
    ]


def described(setting: Setting) -> str:
    return f"{setting.memory_format}, {setting.batch or 'all'} points at once"


def line(net: str, what: str, against: str, ours: list[float], theirs: list[float], distance: float | None) -> Compared:
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    stamp = provenance.stamp(device=torch.device("cpu"), threads=torch.get_num_threads(), seed=0)
    return Compared(
        net,
        what,
        against,
        statistics.median(ours),
        statistics.median(theirs),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        distance,
        len(ratios),
        stamp["hardware"],
        stamp["threads"],
    )


def over_bound(name: str, rounds: int) -> Compared:
    """X-Gradient of one batch against as many rows in the batches that suit the net best: the ratio is bound over ours."""
    net = build_net(name, "x").to(memory_format=torch.channels_last)
    images = torch.randn(BATCH, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    images, targets = images.contiguous(memory_format=torch.channels_last), torch.arange(BATCH)
    row_seconds = bare_passes(net, images, targets)
    ours, bound = [], []
    for _ in range(rounds):
        ours.append(clocked(lambda: x_gradient(net, images, targets))[0])
        bound.append(BATCH * row_seconds())
    return line(name, f"X-Gradient of {BATCH} images", "bare passes", ours, bound, None)


def write(lines: list[Compared], folder: Path) -> None:
    """The table of this machine as CSV and Markdown, named after its CPU and threads."""
    rows = pd.DataFrame([asdict(one) for one in lines])
    cpu, threads = lines[0].cpu, lines[0].threads
    name = re.sub(r"[^a-z0-9]+", "-", f"{cpu} {threads} threads".lower()).strip("-")
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(rows, folder / f"{name}.csv")
    shown = rows.drop(columns=["cpu", "threads"]).round(4).astype(object)
    text = f"CPU: {cpu}, {threads} threads. `ratio`: their seconds over ours, median of the rounds.\n\n"
    (folder / f"{name}.md").write_text(text + markdown(shown.where(shown.notna(), "")) + "\n")


def main(
    nets: Annotated[list[str] | None, typer.Argument(help="; ".join(PEER_BATCHES))] = None,
    rounds: Annotated[int, typer.Option(min=1, help="interleaved; the median of their ratios counts")] = 3,
    out: Annotated[Path, typer.Option(help="folder of the table")] = ROOT / "results" / "peers",
) -> None:
    """Times as fast as captum, per net, then X-Gradient beside its bound; exit 1 where a result differs."""
    if unknown := set(nets or ()) - set(PEER_BATCHES):
        raise typer.BadParameter(f"unknown net {unknown.pop()!r}; there are: {', '.join(PEER_BATCHES)}")
    keep_freed_memory()  # as the command line does; both sides gain
    lines: list[Compared] = []
    for name in nets or PEER_BATCHES:
        lines += [*compare_ig(name, rounds), over_bound(name, rounds)]
        for found in lines[-3:]:
            print(f"{found.net}, {found.what} against {found.against}: {found.ratio:.2f} times as fast", flush=True)
        write(lines, out)
    raise typer.Exit(int(any(not one.relative_l1 <= EQUAL for one in lines if one.relative_l1 is not None)))


if __name__ == "__main__":
    typer.run(main)
