"""What a data set is. Each has its own file in this folder, which ends in ``DATASETS`` and in the ``NETS`` explained on it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reproduce.datasets.fetch import Store
from reproduce.datasets.images import Images
from reproduce.training.recipe import Distillation, Recipe

if TYPE_CHECKING:
    from reproduce.context import Context


def always_there(store: Store) -> str | None:
    """``Dataset.missing`` of what comes inside packages or is made here."""
    return None


@dataclass(frozen=True)
class Dataset:
    """A data set's entry.

    Attributes:
        load: (split, context) -> images; what is composed here is kept in the context's result cache.
        key: store -> what decides its content besides the code of ``load``, as JSON.
        image_px: side of an image.
        source: where it comes from, for people.
        note: what a net's accuracy on it means, where that is not the plain one; for whoever prints such a number.
        missing: why it cannot be loaded from this store, with the way out; None where it can.
        recipes: architecture -> how it is trained; DEFAULT_RECIPE for the others.
        conversion: how its nets are fine-tuned once their biases are removed; None: nets are not converted on it.
        train_seconds: a guess for one net on 2 cores; only the progress bar's estimate uses it.
    """

    load: "Callable[[str, Context], Images]"
    key: Callable[[Store], Mapping[str, Any]]
    image_px: int
    classes: int
    source: str
    splits: tuple[str, ...] = ("test",)
    missing: Callable[[Store], str | None] = always_there
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    conversion: Distillation | None = None
    train_seconds: float = 60.0
    note: str = ""


@dataclass(frozen=True)
class Split:
    """What a task that composes or decodes images is about."""

    dataset: str
    split: str
