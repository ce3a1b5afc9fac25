"""A user's own picture and net: maps, pictures, numbers, and what is said where something does not fit."""

import json

import numpy as np
import pytest
import torch
from command_line import NET, invoke
from PIL import Image

from reproduce import attribute
from reproduce.errors import UserError


@pytest.fixture
def folder(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "text.png").write_text("not a picture")
    return tmp_path


def explain(folder, *words, picture="photo.png"):
    model = ("--model", f"{folder / 'net.py'}:tiny")
    return invoke("attribute", folder / picture, *model, "--size", 32, "--out", folder / "out", *words)


def record(folder):
    return json.loads((folder / "out" / "photo.json").read_text())


def logit(folder, variant, target):
    """Of the picture, by the net of the file."""
    _, x = attribute.read_picture(folder / "photo.png", attribute.IMAGENET | {"resize": 37, "size": 32})
    with torch.no_grad():
        return float(attribute.load_model(f"{folder / 'net.py'}:tiny", variant, None)(x)[0, target])


def test_it_writes_maps_pictures_and_how_complete_they_are(folder):
    result = explain(folder, "--variant", "wrapped", "--method", "x_gradient,integrated_gradients,gradient")
    x_gradient, ig, gradient = record(folder)["methods"]
    assert (x_gradient["passes"], ig["passes"]) == (1, 128)
    assert x_gradient["gap"] < 1e-4 and ig["gap"] < 1e-4 < gradient["gap"]
    maps = {m["method"]: np.load(folder / "out" / f"photo.{m['method']}.npy") for m in record(folder)["methods"]}
    assert maps["x_gradient"].shape == (3, 32, 32)
    np.testing.assert_allclose(maps["x_gradient"], maps["integrated_gradients_128"], atol=1e-5)
    assert maps["x_gradient"].sum() == pytest.approx(x_gradient["total"], rel=1e-4)
    assert (folder / "out" / "photo.png").stat().st_size > 1000
    assert "completeness gap" in result.output and f"class {record(folder)['target']}" in result.output


def test_the_wrapper_leaves_the_picture_s_own_logits_as_they_are(folder):
    explain(folder, "--variant", "wrapped", "--method", "x_gradient", "--target", 2)
    (wrapped,) = record(folder)["methods"]
    assert wrapped["total"] == pytest.approx(logit(folder, "regular", 2), rel=1e-4)  # completeness: the logit itself


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "x_gradient"], "(?s)needs a homogeneous net.*--variant wrapped"),
        (["--method", "x_gradeint"], "unknown method 'x_gradeint'; did you mean 'x_gradient'"),
        (["--method", ""], "no method is named; name one or more of: .*gradient"),
        (["--method", " , "], "no method is named"),
        (["--method", "expected_gradients_1"], "pass --references FOLDER"),
        (["--target", "5"], "class 5 is not one of the net's 5; use 0 to 4"),
        (["--variant", "y"], "unknown variant 'y'"),
        (["--model", "resnet50"], "resnet50 has no weights of its own: pass --weights FILE"),
        (["--model", "resnet51"], "unknown model 'resnet51'; did you mean 'resnet50'"),
        (["--model", "net.py:none"], "net.py is not a file"),
        (["--precision", "bf61"], "unknown precision 'bf61'; did you mean 'bf16'"),
    ],
)
def test_it_says_what_is_wrong_and_the_way_out(folder, words, message):
    with pytest.raises(UserError, match=message):
        explain(folder, *words)


def test_a_file_that_does_not_fit_is_named(folder):
    for factory, message in (
        ("seven", "returned int, not a torch"),
        ("none", "has no 'none'; there are: tiny, seven, broken"),
        ("broken", r"broken\(\) in .*net.py failed: KeyError: 'weights'"),
    ):
        with pytest.raises(UserError, match=message):
            attribute.load_model(f"{folder / 'net.py'}:{factory}", "regular", None)
    (folder / "bad.py").write_text("1 / 0")
    with pytest.raises(UserError, match=r"net .*bad.py cannot be run: ZeroDivisionError"):
        attribute.load_model(f"{folder / 'bad.py'}:tiny", "regular", None)


def test_weights_are_loaded_and_the_x_variant_explains_itself(folder):
    model = attribute.load_model(f"{folder / 'net.py'}:tiny", "x", None)
    torch.save({name: 2 * tensor for name, tensor in model.state_dict().items()}, folder / "x.pt")
    explain(folder, "--variant", "x", "--weights", folder / "x.pt", "--method", "x_gradient", "--target", 0)
    (found,) = record(folder)["methods"]
    assert found["total"] == pytest.approx(4 * logit(folder, "x", 0), rel=1e-4)  # two layers, each doubled


def test_bf16_prints_its_error_beside_the_result(folder):
    output = explain(folder, "--method", "integrated_gradients,gradient", "--precision", "bf16").output
    errors = [method["error"] for method in record(folder)["methods"]]
    assert "error of bf16" in output and all(0 < error < 0.2 for error in errors)
    assert "error of bf16" not in explain(folder, "--method", "gradient").output


# --- pictures ---


def test_a_picture_that_is_none_or_was_cut_short_is_named(folder):
    with pytest.raises(UserError, match="text.png cannot be read as a picture"):
        explain(folder, picture="text.png")
    with pytest.raises(UserError, match="none.png is not a file; name a picture"):
        explain(folder, picture="none.png")
    whole = (folder / "photo.png").read_bytes()
    (folder / "photo.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="photo.png cannot be read as a picture .* use a PNG or a JPEG"):
        explain(folder)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_a_16_bit_picture_is_scaled_not_clipped(tmp_path, suffix):
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257  # 0 to 65,535
    Image.fromarray(grey).save(tmp_path / f"deep{suffix}")
    read = np.asarray(attribute.open_picture(tmp_path / f"deep{suffix}"))
    assert read.shape == (16, 16, 3)
    np.testing.assert_array_equal(read[..., 0], np.arange(256).reshape(16, 16))


def test_pixels_of_unknown_range_are_refused(tmp_path):
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "float.tiff")
    Image.fromarray(np.full((8, 8), 100_000, np.int32)).save(tmp_path / "wide.tiff")
    for name, message in (("float", "floating point pixels"), ("wide", "32-bit pixels")):
        with pytest.raises(UserError, match=f"{name}.tiff has {message}, whose range is not known"):
            attribute.open_picture(tmp_path / f"{name}.tiff")


@pytest.mark.parametrize("model", ["squeezenet", "efficientnet_lite0"])
def test_a_net_that_comes_with_its_weights_sees_pictures_as_it_was_trained(folder, model):
    invoke("attribute", folder / "photo.png", "--model", model, "--method", "gradient", "--out", folder / "out")
    heat = np.load(folder / "out" / "photo.gradient.npy")
    size = attribute.PREPROCESSING[model]["size"]
    assert heat.shape == (3, size, size) and np.abs(heat).max() > 0


def test_weights_of_torchvision_s_resnet_are_not_taken_for_fixup_s(tmp_path):
    torch.save({"bn1.weight": torch.ones(64), "bn1.bias": torch.zeros(64)}, tmp_path / "resnet50.pth")
    with pytest.raises(
        UserError, match="resnet50 is a Fixup-ResNet, which has no BatchNorm.* take torchvision:resnet50"
    ):
        attribute.load_model("resnet50", "regular", tmp_path / "resnet50.pth")


def test_nets_of_torchvision_and_timm_are_made_by_name_with_their_own_preprocessing():
    net, preprocessing = attribute.prepared_net("timm:resnet10t", "regular", None, None)
    assert not net.training and preprocessing["size"] == net.default_cfg["input_size"][-1]
    net, preprocessing = attribute.prepared_net("torchvision:resnet18", "regular", None, 64)
    assert net.fc.out_features == 1000 and (preprocessing["size"], preprocessing["resize"]) == (64, 73)
