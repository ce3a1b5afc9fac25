"""The data sets: what is in them, that splits share nothing, and the sentence where one cannot be had."""

import hashlib
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision.datasets import imagenet as torchvision_imagenet

from reproduce.cache import ResultCache
from reproduce.context import Context
from reproduce.datasets import DATASETS, NETS, TABLES, Images, Photographs, Store, imagenet, smoke
from reproduce.datasets import digits_on_photos as digits
from reproduce.datasets.open_photographs import open_photographs
from reproduce.errors import UserError
from reproduce.fingerprint import reached
from reproduce.models import MODELS
from reproduce.scales import SCALES


@pytest.fixture
def context(tmp_path):
    return Context(
        SCALES["smoke"], ResultCache(tmp_path / "cache", {}), tmp_path / "results", store=Store(tmp_path / "data")
    )


def compose(split="test", count=300, seed=0):
    return digits.compose(split, count, torch.Generator().manual_seed(seed))


def test_the_same_seed_gives_the_same_bytes():
    first, again, other = compose(), compose(), compose(seed=1)
    assert all(torch.equal(getattr(first, name), getattr(again, name)) for name in ("images", "targets", "masks"))
    assert not torch.equal(first.images, other.images)


def test_shapes_types_and_balance():
    made = compose(count=1_000)
    assert made.images.shape == (1_000, 3, 64, 64) and made.images.dtype == torch.uint8
    assert made.masks.shape == (1_000, 64, 64) and made.masks.dtype == torch.bool
    assert made.targets.bincount().tolist() == [100] * 10  # each test digit once
    assert made.masks.flatten(1).any(1).all()


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
    assert len(photos["train"]) == 90 and len(photos["test"]) == 24 and not photos["train"] & photos["test"]


def test_a_composition_is_the_absolute_difference_and_its_mask_is_where_the_ink_is(monkeypatch):
    """On one white photograph |255 - 255 ink| is bright where there is no ink."""
    white = torch.full((3, 80, 80), 255.0, dtype=torch.float64)
    monkeypatch.setattr(digits, "photographs", lambda split: [white])
    made = compose(count=5)
    for image, mask in zip(made.images, made.masks, strict=True):
        assert torch.equal(image[0] < 255 * (1 - digits.MASK_LEVEL), mask)
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        assert rows.max() - rows.min() <= digits.DIGIT_PX[1] and columns.max() - columns.min() <= digits.DIGIT_PX[1]


def test_the_recipes_statistics_are_those_of_the_training_images():
    pixels = compose("train", 4_000, seed=5).images.double() / 255
    assert pixels.mean((0, 2, 3)).tolist() == pytest.approx(digits.MEAN, abs=0.01)
    assert pixels.transpose(0, 1).flatten(1).std(1).tolist() == pytest.approx(digits.STD, abs=0.01)


def test_loading_composes_once_keeps_its_provenance_and_normalises(context):
    images = context.images("digits-on-photos")
    assert context.images("digits-on-photos") is images
    (kept,) = context.cache.folder.glob("*.pt")
    held = torch.load(kept, weights_only=True)
    assert {"date", "commit", "packages"} <= held["provenance"].keys() and held["seconds"] > 0
    again = digits.load("test", Context(SCALES["smoke"], context.cache, context.results))
    assert torch.equal(again.pixels, images.pixels) and torch.equal(again.masks, images.masks)
    assert len(list(context.cache.folder.glob("*.pt"))) == 1
    inputs = images.inputs(slice(0, 8))
    expected = (images.pixels[0, 1, 2, 3] / 255 - digits.MEAN[1]) / digits.STD[1]
    assert inputs[0, 1, 2, 3].item() == pytest.approx(expected.item(), rel=1e-5)
    assert inputs.is_contiguous(memory_format=torch.channels_last)
    assert len(images.fingerprint()) == 64


def test_workers_that_need_the_same_pictures_compose_them_once(context, monkeypatch):
    calls, compose_slowly = [], digits.compose

    def spy(*arguments):
        calls.append(arguments)
        time.sleep(0.3)
        return compose_slowly(*arguments)

    monkeypatch.setattr(digits, "compose", spy)
    monkeypatch.setattr(digits, "TEST_IMAGES", 200)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: digits.load("test", context), range(2))
    assert len(calls) == 1 and torch.equal(first.pixels, second.pixels)


@pytest.fixture
def decoders():
    """Sets how many threads torch may use, and so how many decode photographs."""
    threads = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(threads)


@pytest.mark.parametrize("count", [1, 4])
def test_photographs_are_read_when_asked_for(tmp_path, decoders, count):
    decoders(count)
    path = tmp_path / "a.png"
    Image.fromarray(np.full((300, 400, 3), 7, np.uint8)).save(path)
    pixels = Photographs((path, tmp_path / "missing.png"))
    assert pixels[:1].unique().tolist() == [7] and pixels[2:].shape == (0, 3, 224, 224)
    with pytest.raises(UserError, match=r"missing.png cannot be read as an image .*make data"):
        pixels[1:]
    read = pixels.read([slice(0, 1), slice(1, 2)])
    assert torch.equal(next(read), pixels[:1])  # what cannot be read is named in its turn
    with pytest.raises(UserError, match=r"missing.png cannot be read as an image .*make data"):
        next(read)


def test_several_decoders_give_the_same_batches_in_the_same_order(decoders):
    images = open_photographs().first(10)
    found = {}
    for count in (1, 4):
        decoders(count)
        found[count] = [*images.batches(4), (images.inputs(torch.tensor([7, 2])), images.targets[[7, 2]])]
    assert [len(inputs) for inputs, _ in found[4]] == [4, 4, 2, 2]
    for (inputs, targets), (same, alike) in zip(found[1], found[4], strict=True):
        assert torch.equal(inputs, same) and inputs.stride() == same.stride() and torch.equal(targets, alike)


@pytest.fixture
def spied(monkeypatch):
    """Twelve photographs without files, the last six slow to decode; and which were decoded, each with its thread's name."""
    read: dict[str, str] = {}

    def spy(_, path):
        if int(path.name) >= 6:
            time.sleep(0.3)
        read[path.name] = threading.current_thread().name
        return torch.full((3, 1, 1), int(path.name), dtype=torch.uint8)

    monkeypatch.setattr(Photographs, "_pixels", spy)
    pixels = Photographs(tuple(Path(str(number)) for number in range(12)), 1, 1)
    return Images(pixels, torch.arange(12), (0.0,) * 3, (1 / 255,) * 3, classes=12), read


def test_the_next_batch_is_decoded_while_one_is_used_and_no_more(decoders, spied):
    images, read = spied
    decoders(2)
    batches = images.batches(3)
    inputs, targets = next(batches)
    assert inputs.flatten(1)[:, 0].tolist() == targets.tolist() == [0, 1, 2]
    end = time.monotonic() + 60
    while len(read) < 6 and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.1)  # in which it would go on, if it did not wait
    assert sorted(map(int, read)) == [0, 1, 2, 3, 4, 5]
    assert len(set(read.values())) <= 2 and threading.current_thread().name not in read.values()
    assert [targets.tolist() for _, targets in batches] == [[3, 4, 5], [6, 7, 8], [9, 10, 11]]
    assert not decoding()


def test_one_decoder_is_the_callers_own_thread_and_decodes_nothing_ahead(decoders, spied):
    images, read = spied
    decoders(1)
    batches = images.batches(3)
    next(batches)
    assert read == dict.fromkeys("012", threading.current_thread().name)


def test_an_interrupted_loop_leaves_no_decoder_running(decoders, spied):
    images, read = spied
    decoders(2)
    with pytest.raises(KeyboardInterrupt):
        for _ in images.batches(6):
            raise KeyboardInterrupt
    assert not decoding() and len(read) < 12


def decoding() -> list[str]:
    """The names of the threads that decode photographs now."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("photographs")]


def test_wrong_names_and_counts_are_named(context):
    with pytest.raises(UserError, match="unknown data set 'cifar'; did you mean 'cifar10'"):
        context.images("cifar")
    with pytest.raises(UserError, match="open-photographs has no split 'train'; there are: test"):
        context.images("open-photographs", "train")
    with pytest.raises(UserError, match="101 images asked for, and the data set has 100"):
        open_photographs().first(101)


def test_every_data_set_and_table_says_what_decides_its_content(context):
    keys = [context.data_key(name) for name in DATASETS] + [context.table_key(name) for name in TABLES]
    assert len({str(key) for key in keys}) == len(keys)
    assert all(key["code"] and isinstance(key["name"], str) for key in keys)
    assert all(entry.source for entry in DATASETS.values()) and all(source.about for source in TABLES.values())


def test_how_a_file_is_downloaded_decides_no_picture(context):
    """Files are verified against hashes, and those are in the keys: the downloader's code is not."""
    found = {module for module, _ in reached(("reproduce.datasets.cifar10", "load"))}
    assert "reproduce.datasets.cifar10" in found and "reproduce.datasets.fetch" not in found


def test_a_file_that_leaves_the_list_of_photographs_changes_the_key(context):
    before = imagenet.sample_key(context.store)
    name = "imagenet-sample/n01440764_tench.JPEG"
    (context.store.folder / name).parent.mkdir(parents=True)
    (context.store.folder / name).write_bytes(b"")
    assert imagenet.sample_key(context.store) != before and before["files"] == 0


def test_groups_name_what_there_is():
    for name, group in NETS.items():
        assert group.dataset in DATASETS and set(group.widths) <= set(MODELS), name
        assert set(group.scales) <= set(SCALES) and group.variants[0] == "regular", name
        if group.weights == "trained":
            assert "train" in DATASETS[group.dataset].splits, name
    assert {scale for group in NETS.values() for scale in group.scales} == set(SCALES)


def test_data_that_is_not_there_names_the_command(context):
    with pytest.raises(UserError, match="imagenet-sample is not there .make data SCALE=subset"):
        context.images("imagenet-sample")
    with pytest.raises(UserError, match=r"imagenet-val is not in .*ILSVRC2012: get ILSVRC2012_img_val.tar and"):
        context.images("imagenet-val")
    assert "needs nhanes1/X_sparsity.csv" in context.missing_table("nhanes1")
    with pytest.raises(UserError, match="unknown table 'nhanes7'; did you mean 'nhanes"):
        context.table("nhanes7")


def test_a_part_of_photographs_keeps_its_files_and_takes_another_preprocessing():
    images = open_photographs()
    part = images.first(8).part(3, 5)
    assert part.start == 3 and torch.equal(part.inputs(), images.inputs(slice(3, 5)))
    other = part.preprocessed((0.5,) * 3, (0.5,) * 3, "bilinear")
    assert other.start == 3 and other.pixels[:].shape == part.pixels[:].shape
    assert not torch.equal(other.pixels[:], part.pixels[:])
    smaller = part.preprocessed((0.5,) * 3, (0.5,) * 3, "bicubic", resize=256, size=224)
    assert smaller.inputs().shape == (2, 3, 224, 224)
    assert torch.equal(smaller.pixels[:1][0], smaller.pixels.decode(Image.open(part.pixels.paths[0]).convert("RGB")))


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
        imagenet.imagenet_val(store)
    md5 = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.glob("*.tar*")}
    archives = {key: (name, md5.get(name, digest)) for key, (name, digest) in torchvision_imagenet.ARCHIVE_META.items()}
    monkeypatch.setattr(torchvision_imagenet, "ARCHIVE_META", archives)
    with pytest.raises(UserError, match="has 6 files in 2 classes, not 50000 in 1000; remove the folder"):
        imagenet.imagenet_val(store)
    monkeypatch.setattr(imagenet, "VAL_IMAGES", 6)
    monkeypatch.setattr(imagenet, "VAL_CLASSES", 2)
    images = imagenet.imagenet_val(store)
    shade = (images.pixels[:].float().mean((1, 2, 3)) / 40).round().long()  # which image of the archive it is, 1 to 6
    assert sorted(shade.tolist()) == [1, 2, 3, 4, 5, 6] != shade.tolist()
    assert images.targets.tolist() == [
        n % 2 for n in shade.tolist()
    ]  # odd ones are "2", the second class by WordNet id
    assert torch.equal(images.first(2).targets, images.targets[:2])


# --- the smoke scale's own ---


def test_the_smoke_digits_are_the_same_at_each_drawing_and_brighter_than_what_is_behind(context):
    for split, count in smoke.COUNTS.items():
        images = context.images("smoke-digits", split)
        assert len(images) == count and images.targets.bincount(minlength=10).min() >= count // 10
        again = smoke.load(split, context)
        assert torch.equal(images.pixels, again.pixels)
        inside = images.pixels.permute(0, 2, 3, 1)[images.masks]
        outside = images.pixels.permute(0, 2, 3, 1)[~images.masks]
        assert inside.min() >= smoke.BRIGHT[0] > smoke.DARK[1] > outside.max()
        areas = images.masks.flatten(1).sum(1)
        ink = torch.tensor([glyph.count("1") for glyph in smoke.GLYPHS]) * smoke.ZOOM**2
        assert torch.equal(areas, ink[images.targets])
    pixels = context.images("smoke-digits", "train").pixels.double() / 255
    assert pixels.mean((0, 2, 3)).tolist() == pytest.approx(images.mean, abs=0.02)
    assert pixels.transpose(0, 1).flatten(1).std(1).tolist() == pytest.approx(images.std, abs=0.02)


def test_the_smoke_survey_can_be_learnt_from_and_has_gaps_and_a_constant(context):
    table = context.table("smoke-survey")
    assert 0.3 < table.labels.mean() < 0.7 and np.isnan(table.features[:, 2]).any()
    assert np.ptp(table.features[:, -1]) == 0
    assert np.corrcoef(table.features[:, 0], table.labels)[0, 1] > 0.4
