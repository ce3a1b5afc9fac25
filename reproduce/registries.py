"""Every registry that a plugin may add to, and what its values are."""

from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from pathlib import Path

from reproduce import plugins
from reproduce.datasets import DATASETS, NETS, TABLES, Dataset, TableSource
from reproduce.models import MODELS, PREPROCESSING, RADII
from reproduce.plugins import Registries, Registry
from reproduce.scales import SCALES, NetGroup, Scale
from reproduce.studies import STUDIES
from reproduce.study import Study
from xdnn import METHODS
from xdnn.attributions import Method
from xdnn.metrics import METRICS, Metric

REGISTRIES: Registries = {
    "METHODS": Registry(METHODS, Method),
    "MODELS": Registry(MODELS, Callable),
    "PREPROCESSING": Registry(PREPROCESSING, Mapping),
    "RADII": Registry(RADII, Real),
    "METRICS": Registry(METRICS, Metric),
    "DATASETS": Registry(DATASETS, Dataset),
    "NETS": Registry(NETS, NetGroup),
    "TABLES": Registry(TABLES, TableSource),
    "SCALES": Registry(SCALES, Scale),
    "STUDIES": Registry(STUDIES, Study),
    "PROTOCOLS": Registry({name: study.protocols for name, study in STUDIES.items()}, nested=True),
}


def load_plugins(paths: Sequence[Path]) -> None:
    """Load users' files in order. Raises UserError where one does not fit (see ``plugins.load``)."""
    for path in paths:
        plugins.load(path, REGISTRIES)
