"""Scales: how much of each study is run, and on what. What defines a number is not here but beside its function.

    embedded  2 cores, no network: real data that comes inside packages, narrow nets trained in minutes.
    subset    the 1,000 one-per-class ImageNet photographs and the released weights, fetched.
    paper     ILSVRC2012 validation and the released weights.

The code is the same at each; SCALES names the nets, the data and the counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches

from reproduce.errors import UserError


@dataclass(frozen=True)
class Testbed:
    """Nets and the data that they are judged on.

    Attributes:
        dataset: a key of DATASETS.
        widths: architecture -> channel multiplier.
        weights: "trained": here, on the train split; "package": inside an installed package;
            "untrained": as initialised, for timing;
            "released": the X-DNN authors' checkpoints; "torchvision": torchvision's.
        images: study -> number of test images, for one architecture where the key is (study, architecture).
        variants: which kinds of each net, the regular one first.
        seeds: training seeds, relative to the run's.
    """

    dataset: str
    widths: Mapping[str, float]
    weights: str
    images: Mapping[str | tuple[str, str], int]
    variants: tuple[str, ...] = ("regular", "x")
    seeds: tuple[int, ...] = (0,)

    def count(self, study: str, model: str) -> int:
        """Number of test images of ``study`` for an architecture."""
        return self.images.get((study, model), self.images.get(study, 0))


@dataclass(frozen=True)
class PriorAmount:
    """How much of the studies of attribution priors is run; nothing by default.

    Attributes:
        tables: keys of TABLES.
        repetitions: of the main study; ``sweep_repetitions`` of EG with 2, 4, ... up to ``references`` references.
        decoy_seeds: training seeds of the images with a planted shortcut; 0 leaves that study out.
    """

    tables: tuple[str, ...] = ()
    repetitions: int = 200
    sweep_repetitions: int = 200
    references: int = 128
    decoy_seeds: int = 0


@dataclass(frozen=True)
class Scale:
    """A name, what it costs, and its testbeds.

    ``part``: images per piece of a long cell, a multiple of every batch that a definition names; None: cells are not split.
    ``estimates_paper``: do its numbers estimate the papers' quantities? Only then do reported values stand beside them.
    """

    name: str
    about: str
    testbeds: tuple[Testbed, ...]
    estimates_paper: bool = False
    priors: PriorAmount = PriorAmount()
    part: int | None = None

    def first(self, images: int) -> "Scale":
        """The same with at most ``images`` images in each study. Raises UserError below 1."""
        if images < 1:
            raise UserError(f"--images must be at least 1, got {images}")
        beds = (replace(bed, images={key: min(images, n) for key, n in bed.images.items()}) for bed in self.testbeds)
        return replace(self, testbeds=tuple(beds))


CIFAR_NETS = {"alexnet": 0.25, "vgg16": 0.25, "resnet50": 0.125}
MFABA_NETS = {"torchvision_inception_v3": 1.0, "torchvision_resnet50": 1.0, "torchvision_vgg16": 1.0}
NHANES1 = ("nhanes1", "nhanes1-shap-18", "nhanes1-shap-79")
PAPER_NETS = {"alexnet": 1.0, "vgg16": 1.0, "resnet50": 1.0}

SCALES: dict[str, Scale] = {
    "embedded": Scale(
        "embedded",
        "narrow nets trained here on digits-on-photos, 64 px; for 2 cores, nothing is downloaded",
        (
            Testbed(
                "digits-on-photos",
                {"alexnet": 0.25, "vgg16": 0.125, "resnet50": 0.125},
                "trained",
                {"table1": 1_000, "mard": 80, "convergence": 6, ("convergence", "alexnet"): 8, "contrast": 1_000, ("gallery", "alexnet"): 3,
                 "table2": 200, ("table2", "alexnet"): 500, "ground-truth": 200, ("ground-truth", "alexnet"): 500,
                 "mfaba-table1": 100, "axioms": 1, "steps": 8, "cost": 16},
            ),
            Testbed(
                "imagenet-20", {"efficientnet_lite0": 1.0}, "package",
                {"gallery": 1, "table2": 4, "mfaba-table1": 2, "mfaba-table2": 1}, ("regular", "wrapped"),
            ),
            Testbed("imagenet-20-32px", {"torchvision_resnet50": 1.0}, "untrained", {"mfaba-table2": 4}),
        ),
        priors=PriorAmount(("nhanes2017",), repetitions=30, sweep_repetitions=10, references=16, decoy_seeds=5),
    ),
    "subset": Scale(
        "subset",
        "released nets on 1,000 ImageNet photographs, one per class, for one GPU; small nets trained here on CIFAR-10, for 2 cores",
        (
            Testbed(
                "cifar10", CIFAR_NETS, "trained",
                {"table1": 10_000, "mard": 160, "table2": 500, "mfaba-table1": 100, ("mfaba-table2", "resnet50"): 128},
            ),
            Testbed(
                "imagenet-sample", PAPER_NETS, "released",
                {"table1": 1_000, "mard": 320, "convergence": 16, "contrast": 1_000, ("gallery", "alexnet"): 4, "table2": 1_000, "cost": 16,
                 "axioms": 2, "steps": 16},
            ),
            Testbed(
                "imagenet-sample", {"efficientnet_lite0": 1.0}, "package",
                {"table1": 1_000, "mard": 32, "contrast": 1_000, "gallery": 4, "table2": 48,
                 "mfaba-table2": 4}, ("regular", "wrapped"),
            ),
            Testbed("imagenet-sample", MFABA_NETS, "torchvision",
                    {"mfaba-table1": 200, ("mfaba-table2", "torchvision_resnet50"): 16}, ("regular",)),
        ),
        estimates_paper=True,
        priors=PriorAmount(NHANES1[:2], repetitions=60, sweep_repetitions=60, references=64, decoy_seeds=5),
    ),
    "paper": Scale(
        "paper",
        "the authors' released nets on the 50,000 images of ILSVRC2012's validation set; for one GPU or several",
        (
            Testbed(
                "imagenet-val", PAPER_NETS, "released",
                {"table1": 50_000, "mard": 50_000, "convergence": 256, "contrast": 50_000, "cost": 16, "table2": 2_000, "axioms": 16,
                 "steps": 256},
            ),
            Testbed("imagenet-val", MFABA_NETS, "torchvision",
                    {"mfaba-table1": 1_000, ("mfaba-table2", "torchvision_resnet50"): 128}, ("regular",)),
        ),
        estimates_paper=True,
        priors=PriorAmount(NHANES1, decoy_seeds=5),
        part=2_000,
    ),
}  # fmt: skip


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
