import hashlib
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision.datasets import imagenet as torchvision_imagenet

from reproduce.cells import Cells
from reproduce.datasets import DATASETS, Photographs, Store, imagenet, load
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


def test_a_part_of_photographs_keeps_its_files_and_takes_another_preprocessing():
    images = imagenet_20()
    part = images.first(8).part(3, 5)
    assert part.start == 3 and torch.equal(part.inputs(), images.inputs(slice(3, 5)))
    bicubic = part.preprocessed((0.5,) * 3, (0.5,) * 3, "bicubic")
    assert bicubic.start == 3 and not torch.equal(bicubic.pixels[:], part.pixels[:])


def test_ilsvrc_is_read_from_its_archives_shuffled_once_and_counted(tmp_path, monkeypatch):
    """Two classes, six images, in archives laid out as the publisher's: a devkit with its .mat and a flat tar of JPEGs."""
    folder = tmp_path / "data" / "ILSVRC2012"
    folder.mkdir(parents=True)
    synsets = np.zeros(
        2, [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    )
    for i, (wnid, words) in enumerate(
        (("n01440764", "tench, Tinca tinca"), ("n01443537", "goldfish, Carassius auratus"))
    ):
        synsets[i] = (i + 1, wnid, words, "", 0)
    kit = tmp_path / "kit" / "ILSVRC2012_devkit_t12" / "data"
    kit.mkdir(parents=True)
    savemat(kit / "meta.mat", {"synsets": synsets})
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("2\n1\n2\n1\n2\n1\n")
    with tarfile.open(folder / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as tar:
        tar.add(kit.parent, kit.parent.name)
    with tarfile.open(folder / "ILSVRC2012_img_val.tar", "w") as tar:
        for i in range(1, 7):
            name = f"ILSVRC2012_val_{i:08d}.JPEG"
            Image.fromarray(np.full((260, 300, 3), 40 * i, np.uint8)).save(tmp_path / name, "JPEG")
            tar.add(tmp_path / name, name)
    store = Store(tmp_path / "data")
    with pytest.raises(UserError, match="ILSVRC2012 in .*"):  # the archives' md5 is not the publisher's
        imagenet.imagenet_val.__wrapped__(store)
    md5 = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.glob("*.tar*")}
    archives = {key: (name, md5.get(name, digest)) for key, (name, digest) in torchvision_imagenet.ARCHIVE_META.items()}
    monkeypatch.setattr(torchvision_imagenet, "ARCHIVE_META", archives)
    with pytest.raises(UserError, match="has 6 files in 2 classes, not 50000 in 1000; remove the folder"):
        imagenet.imagenet_val.__wrapped__(store)
    monkeypatch.setattr(imagenet, "VAL_IMAGES", 6)
    monkeypatch.setattr(imagenet, "VAL_CLASSES", 2)
    images = imagenet.imagenet_val.__wrapped__(store)
    shade = (images.pixels[:].float().mean((1, 2, 3)) / 40).round().long()  # which image of the archive it is, 1 to 6
    assert sorted(shade.tolist()) == [1, 2, 3, 4, 5, 6] != shade.tolist()
    assert images.targets.tolist() == [
        n % 2 for n in shade.tolist()
    ]  # odd ones are "2", the second class by WordNet id
    assert torch.equal(images.first(2).targets, images.targets[:2])
