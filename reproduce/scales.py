"""Scales: on which nets and data the studies are run. How much of each study is run stands in its own protocol.

    smoke     synthetic images and tables, seconds per study: checks that everything runs; its numbers mean nothing.
    embedded  2 cores, no network: real data that comes inside packages, narrow nets trained in minutes.
    subset    the 1,000 one-per-class ImageNet photographs and the released weights, fetched.
    paper     ILSVRC2012 validation and the released weights.

The code is the same at each.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from reproduce.errors import UserError


@dataclass(frozen=True)
class Scale:
    """A name and what it is.

    Attributes:
        estimates_paper: do its numbers estimate the papers' quantities? Only then do reported values stand beside them.
        shard: images per shard of a long task, a multiple of every batch that a definition names; None: tasks stay whole.
    """

    name: str
    about: str
    estimates_paper: bool = False
    shard: int | None = None


@dataclass(frozen=True)
class NetGroup:
    """Nets that are explained on one data set. Groups stand at the foot of their data set's file, in ``NETS``.

    Attributes:
        dataset: a key of DATASETS.
        widths: architecture -> channel multiplier.
        weights: "trained": here, on the train split; "package": inside an installed package;
            "untrained": as initialised, for timing;
            "released": the X-DNN authors' checkpoints; "torchvision": torchvision's.
        scales: the scales that have these nets.
        variants: which kinds of each net, the regular one first.
    """

    dataset: str
    widths: Mapping[str, float]
    weights: str
    scales: tuple[str, ...]
    variants: tuple[str, ...] = ("regular", "x")


SCALES: dict[str, Scale] = {
    "smoke": Scale(
        "smoke", "synthetic images and tables; checks in minutes that everything runs, and measures nothing"
    ),
    "embedded": Scale(
        "embedded", "narrow nets trained here on digits-on-photos, 64 px; for 2 cores, nothing is downloaded"
    ),
    "subset": Scale(
        "subset",
        "released nets on 1,000 ImageNet photographs, one per class, for one GPU; "
        "small nets trained here on CIFAR-10, for 2 cores",
        estimates_paper=True,
    ),
    "paper": Scale(
        "paper",
        "the authors' released nets on the 50,000 images of ILSVRC2012's validation set; for one GPU or several",
        estimates_paper=True,
        shard=2_000,
    ),
}


def nearest(kind: str, name: str, known: Mapping[str, object]) -> UserError:
    """The error for an unknown name, with the nearest known one."""
    close = get_close_matches(name, known, 1, cutoff=0.4)
    hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"
    return UserError(f"unknown {kind} {name!r}; {hint}")


def find_scale(name: str) -> Scale:
    """The scale of that name. Raises UserError with the nearest name where there is none."""
    if name not in SCALES:
        raise nearest("scale", name, SCALES)
    return SCALES[name]
