"""Data sets of images and tables of people by name: made here, embedded in packages, or fetched; how each is verified.

To add one, write a file here that ends in ``DATASETS`` (name -> Dataset) and ``NETS`` (name -> the group of nets that are
explained on it), or in ``TABLES`` (name -> TableSource).
"""

from functools import lru_cache

from reproduce.datasets.dataset import Dataset, Split
from reproduce.datasets.fetch import Store
from reproduce.datasets.images import Images, Photographs
from reproduce.datasets.tables import Table, TableSource
from reproduce.scales import NetGroup, nearest
from xdnn.registry import discover

__all__ = [
    "DATASETS",
    "NETS",
    "TABLES",
    "Dataset",
    "Images",
    "Photographs",
    "Split",
    "Store",
    "Table",
    "TableSource",
    "load_table",
]

DATASETS: dict[str, Dataset] = discover(__name__, "DATASETS")
NETS: dict[str, NetGroup] = discover(__name__, "NETS")
TABLES: dict[str, TableSource] = discover(__name__, "TABLES")


@lru_cache(maxsize=4)
def load_table(name: str, store: Store) -> Table:
    """A table by name, read once. Raises UserError for an unknown name, or a file that is not there or not the published one."""
    if name not in TABLES:
        raise nearest("table", name, TABLES)
    return TABLES[name].load(store)
