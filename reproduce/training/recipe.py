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


DEFAULT_RECIPE = Recipe(epochs=6, learning_rate=1e-3)
