"""Data that come inside installed packages are read from where the package lies, without importing it."""

from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from reproduce.errors import UserError


def package_folder(package: str) -> Path:
    """Folder of an installed package.

    Raises:
        UserError: the package is not installed.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise UserError(f"the data of package {package!r} are needed and it is not installed: run `make setup`")
    return Path(spec.origin).parent


def versions(*packages: str) -> dict[str, str]:
    """Distribution -> its installed version: what decides the data that come inside, for the keys of tasks."""
    return {package: _version(package) for package in packages}


@cache
def _version(package: str) -> str:
    return version(package)
