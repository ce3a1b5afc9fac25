"""Fetching: verified files, mirrors. Nothing outside the data folder is written.

A file gets its name only after its hash is right: it is downloaded beside its place, checked, and renamed. A file that is
there is checked and not fetched again. DATA_MIRROR names folders or addresses (separated by spaces) that are tried first; what
comes from a mirror is checked as everything else is.
"""

import hashlib
import json
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import pooch
import requests

from reproduce.datasets.manifest import MANIFEST, Remote, manifest
from reproduce.errors import UserError
from reproduce.paths import DATA

TRIES = 3
BACK_OFF = 1.0  # seconds before the second try; doubled before each further one
TIMEOUT = (10, 30)  # seconds to connect, seconds without a byte
LOCK = "lock"
SHORTEST_HASH = 8  # hex digits; torchvision publishes the first eight


class WrongHash(UserError):
    """A file is not what its publisher says; the file that was there before is kept."""


def digest_of(path: Path, algorithm: str) -> str:
    """Hex digest of a file: any algorithm of hashlib, or ``git-blob`` (sha1 over git's header and the bytes)."""
    if algorithm == "git-blob":
        sha = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                sha.update(block)
        return sha.hexdigest()
    return str(pooch.file_hash(path, alg=algorithm))


@dataclass(frozen=True)
class Store:
    """The data folder. ``fetch`` fills it, ``path`` reads it.

    Attributes:
        mirrors: folders or addresses tried before a file's own addresses.
        offline: True: only folders are asked.
        wait: how to pass the time between tries; tests replace it.
        unreachable: hosts that did not answer; they are not asked for the next file.
    """

    folder: Path = DATA
    mirrors: tuple[str, ...] = field(default_factory=lambda: tuple(os.environ.get("DATA_MIRROR", "").split()))
    offline: bool = False
    progress: bool = False
    wait: Callable[[float], None] = time.sleep
    unreachable: set[str] = field(default_factory=set, compare=False)

    def path(self, file: Remote, scale: str = "subset") -> Path:
        """Where a verified file lies.

        Raises:
            UserError: it is not there, with the command that fetches it; WrongHash: it is there and damaged.
        """
        path = self.folder / file.name
        if not path.is_file():
            raise UserError(f"{path} is not there; fetch it with `make data SCALE={scale}`")
        self.verify(path, file)
        return path

    def has(self, file: Remote) -> bool:
        """Is the file there? (Not verified: ``path`` does that.)"""
        return (self.folder / file.name).is_file()

    def verify(self, path: Path, file: Remote) -> None:
        """Compare with the manifest's hash, or with the recorded one of the first download.

        Raises:
            WrongHash: with both hashes.
        """
        expected = self._locked().get(file.name) if file.hash == LOCK else file.hash
        if expected is None:
            return
        algorithm, _, digest = expected.partition(":")
        found = digest_of(path, algorithm)
        if not found.startswith(digest) or len(digest) < SHORTEST_HASH:
            raise WrongHash(
                f"{file.name}: {algorithm} is {found}, expected {digest}. "
                f"Remove {self.folder / file.name} if it is damaged and run `make data` again."
            )

    def fetch(self, file: Remote) -> Path:
        """The file, verified: the one that is there, or fetched from the mirrors and addresses in order.

        Raises:
            UserError: no source had it; lists what each one answered. WrongHash: a source had other bytes.
        """
        path = self.folder / file.name
        if path.is_file():
            self.verify(path, file)
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        answers = []
        for label, take in self._sources(file):
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fetch-") as scratch:
                part = Path(scratch) / "part"
                try:
                    self._try(take, part)
                except (OSError, requests.RequestException, tarfile.TarError) as error:
                    answers.append(f"{label}: {error}")
                    continue
                try:
                    self.verify(part, file)
                except WrongHash as error:
                    answers.append(f"{label}: {error}")
                    continue
                part.replace(path)
            if file.hash == LOCK:
                self._record(file, path)
            return path
        kind = WrongHash if any(" expected " in answer for answer in answers) else UserError
        raise kind(
            f"{file.name} could not be fetched. "
            + ("; ".join(answers) or "No address is known and no mirror is named.")
        )

    def _try(self, take: Callable[[Path], None], part: Path) -> None:
        """Up to TRIES times; a missing file (404, or not in a folder) is not asked for again."""
        for attempt in range(TRIES):
            try:
                take(part)
                return
            except requests.HTTPError as error:
                if error.response is not None and error.response.status_code in (401, 403, 404, 410):
                    raise
                last: Exception = error
            except (requests.RequestException, ConnectionError, TimeoutError) as error:
                last = error
            part.unlink(missing_ok=True)
            if attempt < TRIES - 1:
                self.wait(BACK_OFF * 2**attempt)
        raise last

    def _sources(self, file: Remote) -> list[tuple[str, Callable[[Path], None]]]:
        sources: list[tuple[str, Callable[[Path], None]]] = []
        base = PurePosixPath(file.name).name
        for mirror in self.mirrors:
            if "://" in mirror:
                if not self.offline:
                    address = f"{mirror.rstrip('/')}/{file.name}"
                    sources.append((address, partial(self._download, address)))
                continue
            for place in (Path(mirror) / file.name, Path(mirror) / base):
                if place.is_file():
                    sources.append((str(place), partial(_copy, place)))
                    break
            sources += [
                (f"{archive} in {mirror}", partial(_member, Path(mirror) / archive, base))
                for archive in file.archives
                if (Path(mirror) / archive).is_file()
            ]
        if not self.offline:
            sources += [(url, partial(self._download, url)) for url in file.urls]
        return sources

    def _download(self, url: str, part: Path) -> None:
        host = urlsplit(url).netloc
        if host in self.unreachable:
            raise FileNotFoundError(f"{host} cannot be reached")
        try:
            pooch.HTTPDownloader(progressbar=self.progress, timeout=TIMEOUT)(url, str(part), None)
        except (requests.ConnectionError, requests.Timeout) as error:
            connected = part.exists() and part.stat().st_size > 0
            if not connected:  # a connection that was cut half-way is worth another try
                self.unreachable.add(host)
                raise FileNotFoundError(f"{host} cannot be reached") from error
            raise

    def _locked(self) -> dict[str, str]:
        try:
            locked: dict[str, str] = json.loads((self.folder / "lock.json").read_text())
        except FileNotFoundError:
            return {}
        return locked

    def _record(self, file: Remote, path: Path) -> None:
        locked = self._locked() | {file.name: f"sha256:{digest_of(path, 'sha256')}"}
        part = self.folder / "lock.json.tmp"
        part.write_text(json.dumps(locked, indent=1, sort_keys=True) + "\n")
        part.replace(self.folder / "lock.json")


def _copy(place: Path, part: Path) -> None:
    shutil.copyfile(place, part)


@lru_cache(maxsize=8)
def _index(archive: Path) -> dict[str, tuple[int, int]]:
    """Base name -> (offset, size) of the regular files in an uncompressed tar; paths inside it are not used for anything."""
    with tarfile.open(archive, "r:") as tar:
        return {PurePosixPath(member.name).name: (member.offset_data, member.size) for member in tar if member.isfile()}


def _member(archive: Path, name: str, part: Path) -> None:
    index = _index(archive)
    if name not in index:
        raise FileNotFoundError(f"no file {name} inside")
    offset, size = index[name]
    with archive.open("rb") as tar:
        tar.seek(offset)
        part.write_bytes(tar.read(size))


def fetched(name: str, store: Store | None = None) -> Path:
    """Verified local path of a file of the manifest.

    Raises:
        UserError: an unknown name, or a file that is not there, with the command that fetches it.
    """
    files, _ = manifest()
    if name not in files:
        raise UserError(f"{name!r} is not in {MANIFEST}")
    file = files[name]
    return (store or Store()).path(file, file.scales[0] if file.scales else "subset")


def needed(scale: str, files: Sequence[Remote], store: Store) -> list[Remote]:
    """The files that a scale needs, in the manifest's order, without those whose stand-in is there."""
    replaced = {file.instead_of for file in files if file.instead_of and store.has(file)}
    return [file for file in files if scale in file.scales and file.name not in replaced]


def fetch_all(
    scale: str, files: Sequence[Remote], store: Store, done: Callable[[str], None] = lambda line: None
) -> tuple[list[Remote], dict[str, str]]:
    """Fetch what a scale needs; a file that cannot be had keeps none of the others from being fetched.

    Args:
        done: told the name of each file that is new.

    Returns:
        The files that the scale needs, stand-ins known, and why, by name, for those that are not there.
    """
    failed: dict[str, str] = {}
    for stands_in in (True, False):  # stand-ins first: where one can be had, ``needed`` leaves the other file out
        for file in needed(scale, files, store):
            if bool(file.instead_of) != stands_in:
                continue
            try:
                fresh = not store.has(file)
                store.fetch(file)
                if fresh:
                    done(file.name)
            except UserError as error:
                failed[file.name] = str(error)
    wanted = [file for file in needed(scale, files, store) if not file.instead_of or store.has(file)]
    return wanted, {file.name: failed[file.name] for file in wanted if file.name in failed}
