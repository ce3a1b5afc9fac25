import numpy as np
import pytest
import torch
from PIL import Image

from reproduce.cells import Cells
from reproduce.datasets import DATASETS, Photographs, Store, load
from reproduce.datasets import digits_on_photos as digits
from reproduce.datasets.imagenet import imagenet_20
from reproduce.errors import UserError


def compose(split="test", count=300, seed=0):
    return digits.compose(split, count, torch.Generator().manual_seed(seed))


def test_the_same_seed_gives_the_same_bytes():
    first, again, other = compose(), compose(), compose(seed=1)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["images"], other["images"])


def test_shapes_types_and_balance():
    made = compose(count=1_000)
    assert made["images"].shape == (1_000, 3, 64, 64) and made["images"].dtype == torch.uint8
    assert made["masks"].shape == (1_000, 64, 64) and made["masks"].dtype == torch.bool
    assert made["targets"].bincount().tolist() == [100] * 10  # each test digit once
    assert made["masks"].flatten(1).any(1).all()


def test_train_and_test_share_neither_digits_nor_photographs(monkeypatch):
    ink, labels = digits.digits()
    assert labels.bincount().tolist() == [500] * 10
    used = {}
    real = digits._place

    def spy(placed, side, place):
        used.setdefault(split, set()).update(image.numpy().tobytes() for image in placed)
        return real(placed, side, place)

    monkeypatch.setattr(digits, "_place", spy)
    for split, count in (("train", 4_000), ("test", 1_000)):
        compose(split, count)
    assert len(used["train"]) > 3_900 and len(used["test"]) > 900  # nearly all digits are distinct as pictures
    assert not used["train"] & used["test"]
    photos = {s: {p.numpy().tobytes() for p in digits.photographs(s)} for s in ("train", "test")}
    assert len(photos["train"]) == 24 and len(photos["test"]) == 10 and not photos["train"] & photos["test"]


def test_a_composition_is_the_absolute_difference_and_its_mask_is_where_the_ink_is(monkeypatch):
    """Slow twin on one white photograph: |255 - 255 ink| is bright where there is no ink."""
    white = torch.full((3, 80, 80), 255.0, dtype=torch.float64)
    monkeypatch.setattr(digits, "photographs", lambda split: [white])
    made = compose(count=5)
    for image, mask in zip(made["images"], made["masks"], strict=True):
        assert torch.equal(image[0] < 255 * (1 - digits.MASK_LEVEL), mask)
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        assert rows.max() - rows.min() <= digits.DIGIT_PX[1] and columns.max() - columns.min() <= digits.DIGIT_PX[1]


def test_the_recipes_statistics_are_those_of_the_training_images():
    pixels = compose("train", 4_000, seed=5)["images"].double() / 255
    assert pixels.mean((0, 2, 3)).tolist() == pytest.approx(digits.MEAN, abs=0.01)
    assert pixels.transpose(0, 1).flatten(1).std(1).tolist() == pytest.approx(digits.STD, abs=0.01)


def test_loading_composes_once_and_normalises(tmp_path):
    images = load("digits-on-photos", "test", Cells(tmp_path, {}), Store())
    assert len(list(tmp_path.rglob("*.pt"))) == 1
    inputs = images.inputs(slice(0, 8))
    expected = (images.pixels[0, 1, 2, 3] / 255 - digits.MEAN[1]) / digits.STD[1]
    assert inputs[0, 1, 2, 3].item() == pytest.approx(expected.item(), rel=1e-5)
    assert inputs.is_contiguous(memory_format=torch.channels_last)
    assert len(images.fingerprint()) == 64


def test_imagenet_20_has_its_labels_and_the_standard_crop():
    images = imagenet_20()
    assert images.targets.tolist()[:4] == [243, 559, 438, 990] and len(images) == 20
    assert images.inputs(slice(0, 2)).shape == (2, 3, 224, 224)
    assert [len(targets) for _, targets in images.first(7).batches(3)] == [3, 3, 1]


def test_photographs_are_read_when_asked_for(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.full((300, 400, 3), 7, np.uint8)).save(path)
    pixels = Photographs((path, tmp_path / "missing.png"))
    assert pixels[:1].unique().tolist() == [7]
    with pytest.raises(UserError, match=r"missing.png cannot be read as an image .*make data"):
        pixels[1:]


def test_wrong_names_and_counts_are_named(tmp_path):
    cells = Cells(tmp_path, {})
    with pytest.raises(UserError, match="unknown data set 'mnist'; there are: digits-on-photos"):
        load("mnist", "test", cells, Store(tmp_path))
    with pytest.raises(UserError, match="imagenet-20 has no split 'train'; there are: test"):
        load("imagenet-20", "train", cells, Store(tmp_path))
    with pytest.raises(UserError, match="21 images asked for, and the data set has 20"):
        imagenet_20().first(21)


def test_every_data_set_says_what_decides_its_content(tmp_path):
    for entry in DATASETS.values():
        assert entry.key(Store(tmp_path)) and entry.source


def test_data_that_is_not_there_names_the_command(tmp_path):
    with pytest.raises(UserError, match="imagenet-sample is not there .make data SCALE=subset"):
        load("imagenet-sample", "test", Cells(tmp_path / "cells", {}), Store(tmp_path))
    with pytest.raises(UserError, match=r"imagenet-val is not in .*ILSVRC2012: get ILSVRC2012_img_val.tar and"):
        load("imagenet-val", "test", Cells(tmp_path / "cells", {}), Store(tmp_path))
