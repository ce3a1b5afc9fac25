"""The tracked photographs and SqueezeNet: verified when read, and what the net makes of three of them."""

import hashlib
import re
import shutil
import urllib.parse

import pandas as pd
import pytest
import torch
import torchvision

from reproduce.datasets import DATASETS, NETS, open_photographs
from reproduce.datasets.open_photographs import NAME
from reproduce.errors import UserError
from reproduce.models import PREPROCESSING, build
from reproduce.models.squeezenet import FILE, SQUEEZENET_RADIUS, read_weights
from reproduce.studies.gallery import right_first
from xdnn import check_homogeneous, fit_radius


@pytest.fixture(scope="module")
def inputs():
    return open_photographs.open_photographs().preprocessed(**PREPROCESSING["squeezenet"])


@pytest.fixture
def copied(tmp_path):
    """The list and its first three photographs, in a folder that may be damaged."""
    listed = (open_photographs.FOLDER / "photographs.csv").read_text().splitlines()[:4]
    (tmp_path / "photographs.csv").write_text("\n".join(listed))
    for line in listed[1:]:
        shutil.copy(open_photographs.FOLDER / line.partition(",")[0], tmp_path)
    return tmp_path


# --- the photographs ---


def test_the_set_is_100_squares_with_classes(inputs):
    images = open_photographs.open_photographs()
    assert len(images) == 100 and images.targets.min() >= 0 and images.targets.max() < 1000
    assert images.inputs(slice(0, 2)).shape == (2, 3, 227, 227)
    assert images.targets.tolist()[:4] == [305, 582, 707, 476]
    assert [len(targets) for _, targets in images.first(7).batches(3)] == [3, 3, 1]


def test_every_photograph_names_its_author_its_page_and_an_open_licence():
    table = pd.read_csv(open_photographs.FOLDER / "photographs.csv", keep_default_na=False)
    assert table["file"].is_unique and table["author"].str.strip().all()
    assert set(table["licence"]) == {"https://creativecommons.org/licenses/by/2.0/"}
    assert all(urllib.parse.urlsplit(page).netloc.endswith("flickr.com") for page in table["page"])
    assert {path.name for path in open_photographs.FOLDER.glob("*.webp")} == set(table["file"])


def test_a_changed_photograph_is_refused_by_name(copied):
    assert len(open_photographs.open_photographs(copied)) == 3
    path = sorted(copied.glob("*.webp"))[1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=rf"{re.escape(path.name)} is not the photograph that photographs.csv names"):
        open_photographs.open_photographs(copied)
    path.unlink()
    with pytest.raises(UserError, match=rf"{re.escape(path.name)} is not there; restore it with `git checkout"):
        open_photographs.open_photographs(copied)


def test_the_key_changes_with_the_list(monkeypatch, copied):
    before = open_photographs.key(None)
    monkeypatch.setattr(open_photographs, "FOLDER", copied)
    assert open_photographs.key(None)["hash"] != before["hash"]


def test_what_an_accuracy_on_chosen_photographs_means_is_said_where_it_is_not_plain():
    assert all("ImageNet" in DATASETS[name].note for name in ("open-photographs", "imagenet-sample"))
    assert not DATASETS["digits-on-photos"].note and not DATASETS["imagenet-val"].note


# --- the net ---


def test_it_finds_the_classes_of_three_photographs(inputs):
    """None of which it finds with blue for red."""
    three = torch.tensor([0, 3, 5])
    net = build("squeezenet", "regular").eval()
    with torch.no_grad():
        found = net(inputs.inputs(three)).argmax(1)
        turned = net(inputs.inputs(three).flip(1)).argmax(1)
    assert torch.equal(found, inputs.targets[three])
    assert not (turned == inputs.targets[three]).any()


def test_the_gallery_finds_a_photograph_that_the_net_and_its_variants_classify_rightly(inputs):
    """Among the first three: where there is none it would show the first picture, right or wrong."""
    three = inputs.first(3)
    with torch.no_grad():
        classified = [build("squeezenet", v).eval()(three.inputs()).argmax(1).tolist() for v in NETS[NAME].variants]
    shown = right_first(three.targets.tolist(), classified)[0]
    assert NETS[NAME].variants == ("regular", "wrapped", "converted")
    assert [classes[shown] for classes in classified] == [three.targets[shown]] * 3


def test_the_weights_are_the_files_with_the_colours_turned_round(inputs):
    weights = read_weights()
    assert all(tensor.dtype == torch.float32 for tensor in weights.values())
    published = torchvision.models.squeezenet1_1(weights=None)
    published.load_state_dict(weights)
    x = inputs.inputs(slice(0, 1))
    with torch.no_grad():
        torch.testing.assert_close(build("squeezenet", "regular").eval()(x), published.eval()(x.flip(1)))


def test_the_preprocessing_is_the_pixels_less_their_mean(inputs):
    pixels, x = inputs.pixels[:1].float(), inputs.inputs(slice(0, 1))
    torch.testing.assert_close(x, pixels - torch.tensor([123.0, 117.0, 104.0]).view(3, 1, 1), atol=1e-3, rtol=0)


def test_the_radius_is_the_photographs_median_norm(inputs):
    assert fit_radius(inputs.inputs()) == pytest.approx(SQUEEZENET_RADIUS, rel=0.01)


def test_without_its_biases_it_is_homogeneous():
    net = build("squeezenet", "converted")
    check_homogeneous(net)
    assert not any(name.endswith("bias") for name in net.state_dict())
    weights = read_weights()
    assert torch.equal(net.state_dict()["classifier.1.weight"], weights["classifier.1.weight"])


def test_a_changed_byte_is_refused_with_a_sentence(tmp_path):
    data = bytearray(FILE.read_bytes())
    data[1000] ^= 1
    path = tmp_path / "weights.safetensors"
    path.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    with pytest.raises(UserError, match=f"weights.safetensors is not the published file: its sha256 is {digest}"):
        read_weights(path)
    with pytest.raises(UserError, match=r"none.safetensors cannot be read: No such file .*git checkout"):
        read_weights(tmp_path / "none.safetensors")


def test_other_sizes_than_the_weights_have_are_refused():
    with pytest.raises(UserError, match="1000 classes at width 1, not 10 at 0.5"):
        build("squeezenet", "regular", classes=10, width=0.5)
