"""CIFAR-10 in its three forms, made here in the true layout; what is refused."""

import hashlib
import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from reproduce.cache import ResultCache
from reproduce.context import Context
from reproduce.datasets import Store, cifar10
from reproduce.datasets.manifest import Remote
from reproduce.errors import UserError
from reproduce.scales import SCALES

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
def context(tmp_path, monkeypatch):
    """A data folder whose archives, made here, are those of the manifest."""

    def listed():
        files = [tmp_path / name for name in (cifar10.BINARY, cifar10.JPEG)]
        hashes = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files if f.exists()}
        return {name: Remote(name, (), f"sha256:{digest}", "") for name, digest in hashes.items()}, {}

    monkeypatch.setattr(cifar10, "manifest", listed)
    return Context(SCALES["subset"], ResultCache(tmp_path / "cache", {}), tmp_path / "results", store=Store(tmp_path))


FORMS = {"binary": (binary, cifar10.BINARY), "jpeg": (jpeg_tar, cifar10.JPEG), "folder": (folder, cifar10.FOLDER)}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_gives_the_same_pixels_and_classes(context, tmp_path, form):
    assert "make data" in cifar10.missing(context.store)
    make, name = FORMS[form]
    make(tmp_path / name)
    assert cifar10.missing(context.store) is None
    for split, count in COUNTS.items():
        images = context.images("cifar10", split)
        pairs = zip(images.pixels, images.targets, strict=True)
        found = {image.permute(1, 2, 0).numpy().tobytes(): int(target) for image, target in pairs}
        assert found == {picture(i).tobytes(): i % 10 for i in range(count)}
    train = context.images("cifar10", "train")
    assert images.mean == train.mean and train.inputs().mean().abs() < 1e-4
    fresh = Context(SCALES["subset"], ResultCache(tmp_path / "more", {}), tmp_path, store=context.store)
    assert torch.equal(fresh.images("cifar10", "train").pixels, train.pixels)


def test_the_archive_s_hash_decides_the_key(context, tmp_path):
    before = context.data_key("cifar10")
    folder(tmp_path / "cifar10")
    as_folder = context.data_key("cifar10")
    jpeg_tar(tmp_path / cifar10.JPEG)
    as_tar = context.data_key("cifar10")
    assert len({key["hash"] for key in (before, as_folder, as_tar)}) == 3


def test_a_strange_class_size_or_an_empty_split_is_refused(context, tmp_path):
    folder(tmp_path / "cifar10", {"train": 2})
    with pytest.raises(UserError, match="no images there"):
        context.images("cifar10")
    (tmp_path / "cifar10" / "train" / "airplane").rename(tmp_path / "cifar10" / "train" / "zeppelin")
    with pytest.raises(UserError, match="'zeppelin' is not a class"):
        context.images("cifar10", "train")
    (tmp_path / "cifar10" / "train" / "zeppelin").rename(tmp_path / "cifar10" / "train" / "airplane")
    Image.new("RGB", (40, 32)).save(tmp_path / "cifar10" / "train" / "airplane" / "wide.png")
    with pytest.raises(UserError, match="40 x 32 px"):
        context.images("cifar10", "train")
