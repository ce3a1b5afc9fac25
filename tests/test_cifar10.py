"""CIFAR-10 in its three forms, made here in the true layout; what is refused."""

import hashlib
import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from reproduce.cells import Cells
from reproduce.datasets import cifar10
from reproduce.datasets.fetch import Remote, Store
from reproduce.errors import UserError

COUNTS = {"train": 6, "test": 3}


def picture(number):
    return np.random.default_rng(number).integers(0, 255, (32, 32, 3), dtype=np.uint8)


def member(tar, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def binary(path):
    with tarfile.open(path, "w:gz") as tar:
        for split, count in COUNTS.items():
            names = [f"data_batch_{i}.bin" for i in range(1, count + 1)] if split == "train" else ["test_batch.bin"]
            records = [bytes([i % 10]) + picture(i).transpose(2, 0, 1).tobytes() for i in range(count)]
            for name, record in zip(names, records if split == "train" else [b"".join(records)], strict=True):
                member(tar, f"cifar-10-batches-bin/{name}", record)
        member(tar, "cifar-10-batches-bin/batches.meta.txt", b"airplane")


def jpeg_tar(path):
    with tarfile.open(path, "w") as tar:
        for split, count in COUNTS.items():
            for i in range(count):
                member(tar, f"CIFAR-10-images/{split}/{cifar10.CLASSES[i % 10]}/{i:04}.jpg", png(picture(i)))


def folder(path, count=COUNTS):
    for split, n in count.items():
        for i in range(n):
            place = path / split / cifar10.CLASSES[i % 10]
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{i}.png").write_bytes(png(picture(i)))


@pytest.fixture
def store(tmp_path, monkeypatch):
    def listed():
        files = [tmp_path / name for name in (cifar10.BINARY, cifar10.JPEG)]
        return {
            f.name: Remote(f.name, (), f"sha256:{hashlib.sha256(f.read_bytes()).hexdigest()}", "")
            for f in files
            if f.exists()
        }, {}

    monkeypatch.setattr(cifar10, "manifest", listed)
    cifar10.load.cache_clear()
    return Store(folder=tmp_path)


FORMS = {"binary": (binary, cifar10.BINARY), "jpeg": (jpeg_tar, cifar10.JPEG), "folder": (folder, cifar10.FOLDER)}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_gives_the_same_pixels_and_classes(store, tmp_path, form):
    assert "make data" in cifar10.missing(store)
    make, name = FORMS[form]
    make(tmp_path / name)
    assert cifar10.missing(store) is None
    cells = Cells(tmp_path / "cells", {})
    for split, count in COUNTS.items():
        images = cifar10.load(split, cells, store)
        found = {
            image.permute(1, 2, 0).numpy().tobytes(): int(t)
            for image, t in zip(images.pixels, images.targets, strict=True)
        }
        assert found == {picture(i).tobytes(): i % 10 for i in range(count)}
    train = cifar10.load("train", cells, store)
    assert images.mean == train.mean and train.inputs().mean().abs() < 1e-4
    again = cifar10.load("train", Cells(tmp_path / "more", {}), Store(folder=tmp_path))
    assert torch.equal(again.pixels, train.pixels)


def test_a_strange_class_size_or_an_empty_split_is_refused(store, tmp_path):
    cells = Cells(tmp_path / "cells", {})
    folder(tmp_path / "cifar10", {"train": 2})
    with pytest.raises(UserError, match="no images there"):
        cifar10.load("test", cells, store)
    (tmp_path / "cifar10" / "train" / "airplane").rename(tmp_path / "cifar10" / "train" / "zeppelin")
    with pytest.raises(UserError, match="'zeppelin' is not a class"):
        cifar10.load("train", cells, store)
    (tmp_path / "cifar10" / "train" / "zeppelin").rename(tmp_path / "cifar10" / "train" / "airplane")
    Image.new("RGB", (40, 32)).save(tmp_path / "cifar10" / "train" / "airplane" / "wide.png")
    with pytest.raises(UserError, match="40 x 32 px"):
        cifar10.load("train", cells, store)
