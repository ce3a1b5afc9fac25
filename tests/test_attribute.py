"""A user's own picture and net: maps, pictures, numbers, and what is said where something does not fit."""

import json

import numpy as np
import pytest
import torch
from command_line import NET, invoke
from PIL import Image

from reproduce.attribute import find_method
from reproduce.errors import UserError
from reproduce.models import PREPROCESSING
from reproduce.pictures import open_picture, read_picture
from reproduce.stripped_weights import load_stripped
from reproduce.user_nets import IMAGENET, NetChoice, prepare


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
    _, x = read_picture(folder / "photo.png", IMAGENET | {"resize": 37, "size": 32})
    with torch.no_grad():
        return float(prepare(NetChoice(f"{folder / 'net.py'}:tiny", variant)).net(x)[0, target])


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
            prepare(NetChoice(f"{folder / 'net.py'}:{factory}"))
    (folder / "bad.py").write_text("1 / 0")
    with pytest.raises(UserError, match=r"net .*bad.py cannot be run: ZeroDivisionError"):
        prepare(NetChoice(f"{folder / 'bad.py'}:tiny"))


def test_weights_are_loaded_and_the_x_variant_explains_itself(folder):
    model = prepare(NetChoice(f"{folder / 'net.py'}:tiny", "x")).net
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
    read = np.asarray(open_picture(tmp_path / f"deep{suffix}"))
    assert read.shape == (16, 16, 3)
    np.testing.assert_array_equal(read[..., 0], np.arange(256).reshape(16, 16))


def test_pixels_of_unknown_range_are_refused(tmp_path):
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "float.tiff")
    Image.fromarray(np.full((8, 8), 100_000, np.int32)).save(tmp_path / "wide.tiff")
    for name, message in (("float", "floating point pixels"), ("wide", "32-bit pixels")):
        with pytest.raises(UserError, match=f"{name}.tiff has {message}, whose range is not known"):
            open_picture(tmp_path / f"{name}.tiff")


@pytest.mark.parametrize("model", ["squeezenet", "efficientnet_lite0"])
def test_a_net_that_comes_with_its_weights_sees_pictures_as_it_was_trained(folder, model):
    invoke("attribute", folder / "photo.png", "--model", model, "--method", "gradient", "--out", folder / "out")
    heat = np.load(folder / "out" / "photo.gradient.npy")
    size = PREPROCESSING[model]["size"]
    assert heat.shape == (3, size, size) and np.abs(heat).max() > 0


def test_weights_of_torchvision_s_resnet_are_not_taken_for_fixup_s(tmp_path):
    torch.save({"bn1.weight": torch.ones(64), "bn1.bias": torch.zeros(64)}, tmp_path / "resnet50.pth")
    with pytest.raises(
        UserError, match="resnet50 is a Fixup-ResNet, which has no BatchNorm.* take torchvision:resnet50"
    ):
        prepare(NetChoice("resnet50", weights=tmp_path / "resnet50.pth"))


def test_nets_of_torchvision_and_timm_are_made_by_name_with_their_own_preprocessing():
    made = prepare(NetChoice("timm:resnet10t"))
    assert not made.net.training and made.preprocessing["size"] == made.net.default_cfg["input_size"][-1]
    made = prepare(NetChoice("torchvision:resnet18", size=64))
    assert made.net.fc.out_features == 1000 and (made.preprocessing["size"], made.preprocessing["resize"]) == (64, 73)
    assert made.warnings == [
        "torchvision:resnet18 has random weights: nothing here is of a trained net; pass --weights FILE"
    ]
    assert made.label(0) == "class 0, tench"


# --- weights of a user's own ---


def tiny(folder):
    return prepare(NetChoice(f"{folder / 'net.py'}:tiny")).net


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        (lambda own: own, []),
        (lambda own: {"state_dict": own}, ["took the entry 'state_dict' of w.pt"]),
        (lambda own: {"model": {f"module.{n}": t for n, t in own.items()}, "epoch": 3},
         ["took the entry 'model' of w.pt", "took 'module.' off the names of w.pt"]),
        (lambda own: {"state_dict": {f"model.{n}": t for n, t in own.items()} | {"loss.weight": torch.ones(2)},
                      "pytorch-lightning_version": "2.0"},
         ["took the entry 'state_dict' of w.pt", "took 'model.' off the names of w.pt",
          "left out 1 entries of w.pt that are not the net's, such as 'loss.weight'"]),
        (lambda own: {f"module._orig_mod.{n}": t for n, t in own.items()},
         ["took 'module.' off the names of w.pt", "took '_orig_mod.' off the names of w.pt"]),
    ],
)  # fmt: skip
def test_weights_are_taken_out_of_what_wraps_them_and_that_is_said(folder, saved, said):
    doubled = {name: 2 * tensor for name, tensor in tiny(folder).state_dict().items()}
    torch.save(saved(doubled), folder / "w.pt")
    net = tiny(folder)
    assert load_stripped(net, folder / "w.pt") == said
    assert all(torch.equal(tensor, doubled[name]) for name, tensor in net.state_dict().items())


def test_a_prefix_that_is_the_net_s_own_stays(tmp_path):
    net = torch.nn.ModuleDict({"model": torch.nn.Linear(2, 2)})
    torch.save(net.state_dict(), tmp_path / "w.pt")
    assert load_stripped(net, tmp_path / "w.pt") == []


def test_weights_that_are_none_end_in_a_sentence_without_advice_to_load_them_unsafely(folder):
    class Hostile:
        def __reduce__(self):
            return print, ("run",)

    torch.save({"state_dict": {"0.weight": Hostile()}}, folder / "hostile.pt")
    (folder / "text.pt").write_text("these are no weights")
    torch.save([1, 2], folder / "list.pt")
    for name, message in (
        ("hostile.pt", "hostile.pt was not loaded: besides weights it holds .*print, which could run code"),
        ("text.pt", "text.pt is not a checkpoint, or a damaged one"),
        ("list.pt", "list.pt holds no state dict, names with tensors"),
        ("none.pt", "none.pt cannot be read: No such file"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            load_stripped(tiny(folder), folder / name)
        assert "weights_only" not in str(caught.value) and "arbitrary" not in str(caught.value)


def test_another_number_of_classes_is_named_and_a_new_head_takes_them(folder):
    own = tiny(folder).state_dict()
    torch.save(own | {"4.weight": torch.ones(7, 16), "4.bias": torch.zeros(7)}, folder / "seven.pt")
    name = f"{folder / 'net.py'}:tiny"
    with pytest.raises(UserError, match="they are of 7 classes; pass --head 7"):
        prepare(NetChoice(name, weights=folder / "seven.pt"))
    made = prepare(NetChoice(name, weights=folder / "seven.pt", head=7, size=32))
    assert torch.equal(made.net[4].weight, torch.ones(7, 16))
    assert "random weights" in prepare(NetChoice(name, head=7, size=32)).warnings[0]
    for packaged in ("torchvision:squeezenet1_1", "timm:resnet10t"):
        assert prepare(NetChoice(packaged, head=3, size=64)).net(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


# --- pictures, steps and names ---


def test_a_folder_is_explained_picture_by_picture_with_class_names(folder):
    (folder / "more" / "deep").mkdir(parents=True)
    for file in ("more/photo.png", "more/deep/photo.webp"):
        Image.open(folder / "photo.png").save(folder / file)
    (folder / "names.txt").write_text("ant\nbee\ncat\ndog\neel\n")
    words = ("--method", "gradient", "--labels", folder / "names.txt", "--mean", "0.5", "--std", "0.5,0.5,0.5")
    output = explain(folder, *words, picture="more").output
    target = json.loads((folder / "out" / "photo_1.json").read_text())["target"]
    assert output.count(f"class {target}, {['ant', 'bee', 'cat', 'dog', 'eel'][target]}") == 2
    assert (folder / "out" / "photo_2.png").is_file()
    assert max(len(line) for line in output.splitlines() if not line.startswith(("wrote", "gap"))) <= 80


def test_steps_change_the_methods_that_have_some(folder):
    explain(folder, "--method", "integrated_gradients,gradient", "--steps", "8")
    ig, gradient = record(folder)["methods"]
    assert (ig["method"], ig["passes"], gradient["passes"]) == ("integrated_gradients_8", 8, 1)
    assert find_method("idgi", 8)[1].label == "IDGI (8)"


def test_a_net_whose_biases_were_just_removed_is_said_to_be_untrained(folder):
    assert "its biases were just removed" in explain(folder, "--variant", "x", "--method", "x_gradient").output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mean", "a,b"], "--mean 'a,b': give one number, or three"),
        (["--std", "0"], "--std 0: must be above 0"),
        (["--labels", "none.txt"], "--labels none.txt cannot be read"),
        (["--steps", "8", "--method", "gradient"], "none of the methods has a number of steps"),
        (["--device", "cudo"], "unknown device 'cudo'"),
    ],
)
def test_options_that_do_not_fit_are_named(folder, words, message):
    with pytest.raises(UserError, match=message):
        explain(folder, *words)
