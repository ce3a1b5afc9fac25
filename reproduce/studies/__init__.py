"""The studies, one file each: to add one, write a file here that ends in ``STUDY = Study(...)``."""

import pkgutil
from importlib import import_module

from reproduce.study import Study


def _found() -> dict[str, Study]:
    modules = (import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    return {study.name: study for study in sorted((module.STUDY for module in modules), key=lambda study: study.order)}


STUDIES: dict[str, Study] = _found()
