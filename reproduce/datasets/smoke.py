"""The smoke scale's data: coloured digits on noise, and the people of a made-up survey, drawn in milliseconds.

They show that every study runs from end to end. What is measured on them means nothing.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from reproduce.datasets.dataset import Dataset
from reproduce.datasets.fetch import Store
from reproduce.datasets.images import Images
from reproduce.datasets.tables import Table, TableSource, checked
from reproduce.scales import NetGroup
from reproduce.training.recipe import Distillation, Recipe

if TYPE_CHECKING:
    from reproduce.context import Context

IMAGE_PX = 32
COUNTS = {"train": 1_024, "test": 256}
GLYPHS = (  # the digits 0 to 9 on 5 rows of 3 places
    "111 101 101 101 111",
    "010 110 010 010 111",
    "111 001 111 100 111",
    "111 001 111 001 111",
    "101 101 111 001 001",
    "111 100 111 001 111",
    "111 100 111 101 111",
    "111 001 010 010 010",
    "111 101 111 101 111",
    "111 101 111 001 111",
)
ZOOM = 5  # px of a place's side
DARK, BRIGHT = (0, 120), (160, 256)  # grey levels of the noise, and of a digit's colour

PEOPLE, ANSWERS = 320, 8


def draw(count: int, generator: torch.Generator, classes: int = 10) -> Images:
    """``count`` images of digits in a random colour at a random place, with the digit's pixels as masks.

    Args:
        classes: of the nets that will look at them; the targets are the digits, 0 to 9, in any case.
    """
    rows = [[[float(place) for place in row] for row in glyph.split()] for glyph in GLYPHS]
    glyphs = torch.tensor(rows).repeat_interleave(ZOOM, 1).repeat_interleave(ZOOM, 2).bool()  # (10, 25, 15)
    height, width = glyphs.shape[1:]
    targets = torch.arange(count) % 10
    tops = torch.randint(IMAGE_PX - height + 1, (count,), generator=generator).tolist()
    lefts = torch.randint(IMAGE_PX - width + 1, (count,), generator=generator).tolist()
    masks = torch.zeros(count, IMAGE_PX, IMAGE_PX, dtype=torch.bool)
    for mask, target, top, left in zip(masks, targets.tolist(), tops, lefts, strict=True):
        mask[top : top + height, left : left + width] = glyphs[target]
    noise = torch.randint(*DARK, (count, 3, IMAGE_PX, IMAGE_PX), generator=generator)
    colours = torch.randint(*BRIGHT, (count, 3, 1, 1), generator=generator)
    pixels = torch.where(masks[:, None], colours, noise).to(torch.uint8)
    return Images(pixels, targets, (0.37,) * 3, (0.28,) * 3, classes=classes, masks=masks)


def survey(count: int = PEOPLE) -> Table:
    """People whose outcome depends on the first two of their answers; with gaps, and an answer that all gave alike."""
    generator = np.random.default_rng(0)
    answers = generator.normal(size=(count, ANSWERS))
    outcome = answers[:, 0] + 0.5 * answers[:, 1] + 0.5 * generator.normal(size=count) > 0
    answers[generator.random(count) < 0.1, 2] = np.nan
    answers[:, -1] = 1.0
    columns = [f"answer {number}" for number in range(1, ANSWERS + 1)]
    return checked("smoke-survey", pd.DataFrame(answers, columns=columns), outcome.astype(np.int64))


# --- entries ----------------------------------------------------------------------------------------------------------


def load(split: str, context: "Context") -> Images:
    """A split for nets of ten classes."""
    return draw(COUNTS[split], torch.Generator().manual_seed(list(COUNTS).index(split)))


def load_1000(split: str, context: "Context") -> Images:
    """The test split for nets of a thousand classes."""
    return draw(COUNTS[split], torch.Generator().manual_seed(list(COUNTS).index(split)), classes=1000)


def load_survey(store: Store) -> Table:
    """The made-up survey; it needs no file of the store."""
    return survey()


def key(store: Store) -> Mapping[str, str]:
    """Nothing but the code decides it."""
    return {}


MADE = "made here"
TINY = Distillation(taught=5, steps=2, batch=2, learning_rate=1e-4, jitter=2)
DATASETS = {
    "smoke-digits": Dataset(
        load,
        key,
        IMAGE_PX,
        10,
        MADE,
        splits=("train", "test"),
        recipes={
            "alexnet": Recipe(epochs=6, learning_rate=3e-3),
            "resnet18": Recipe(epochs=5, learning_rate=4e-3),
            "bn_resnet18": Recipe(epochs=2, learning_rate=4e-3),
        },
        conversion=TINY,
        train_seconds=2,
    ),
    "smoke-digits-1000": Dataset(load_1000, key, IMAGE_PX, 1000, MADE, conversion=TINY),
}
NETS = {
    "smoke-digits": NetGroup("smoke-digits", {"alexnet": 0.125, "resnet18": 0.125}, "trained", ("smoke",)),
    "smoke-package": NetGroup(
        "smoke-digits-1000", {"efficientnet_lite0": 1.0}, "package", ("smoke",), ("regular", "wrapped")
    ),
    "smoke-squeezenet": NetGroup(
        "smoke-digits-1000", {"squeezenet": 1.0}, "package", ("smoke",), ("regular", "wrapped", "converted")
    ),
    "smoke-untrained": NetGroup("smoke-digits", {"vgg11": 0.125}, "untrained", ("smoke",)),
}
TABLES = {"smoke-survey": TableSource(load_survey, key, "made-up people of the smoke scale")}
