"""How much and how fast a net is trained. A data set's file names the recipes of its nets."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Passes over the train split, and the one-cycle schedule's highest learning rate (AdamW).

    jitter: each image is mirrored in half of the cases, and each batch moved by up to so many px; None: neither.
    """

    epochs: int
    learning_rate: float
    jitter: int | None = None


@dataclass(frozen=True)
class Distillation:
    """How a net without biases learns what the net that it was made of says: AdamW without decay, a one-cycle schedule.

    Attributes:
        taught: images that it learns from, without their labels: the first of the train split, or, where a data set has
            none, the last of its only split, and then the converted net is measured on the others.
        steps: updates.
        batch: images of an update, drawn without replacement; all, where there are fewer.
        learning_rate: the highest.
        jitter: each image is mirrored in half of the cases, and each batch moved by up to so many px.
    """

    taught: int
    steps: int
    batch: int
    learning_rate: float
    jitter: int


DEFAULT_RECIPE = Recipe(epochs=6, learning_rate=1e-3)
