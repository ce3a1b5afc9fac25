"""What a user types besides running studies: attribute, compare, claims, plugins, and the examples as they are written."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from reproduce import attribute, plugins
from reproduce.__main__ import app
from reproduce.attributions import METHODS
from reproduce.cells import Cells
from reproduce.compare import compare
from reproduce.errors import UserError
from reproduce.run import Run
from reproduce.scales import SCALES
from reproduce.training import supervised

ROOT = Path(__file__).resolve().parent.parent
NET = """
import torch
from torch import nn

def tiny():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5))

def seven():
    return 7
"""


def invoke(*words):
    result = CliRunner().invoke(app, list(map(str, words)))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def folder(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "text.png").write_text("not a picture")
    return tmp_path


@pytest.fixture
def clean_plugins():
    """Registries as they were, after the test."""
    before = {name: dict(registry) for name, registry in plugins.registries().items()}
    yield
    for name, registry in plugins.registries().items():
        registry.clear()
        registry.update(before[name])
    plugins.LOADED.clear()
    plugins._ADDED.clear()


# --- attribute ---


def explain(folder, *words):
    return invoke(
        "attribute",
        folder / "photo.png",
        "--model",
        f"{folder / 'net.py'}:tiny",
        "--size",
        32,
        "--out",
        folder / "out",
        *words,
    )


def test_attribute_writes_maps_pictures_and_how_complete_they_are(folder):
    result = explain(folder, "--variant", "wrapped", "--method", "x_gradient,integrated_gradients,gradient")
    record = json.loads((folder / "out" / "photo.json").read_text())
    x_gradient, ig, gradient = record["methods"]
    assert (x_gradient["passes"], ig["passes"]) == (1, 128)
    assert x_gradient["gap"] < 1e-4 and ig["gap"] < 1e-4 < gradient["gap"]
    maps = {m["method"]: np.load(folder / "out" / f"photo.{m['method']}.npy") for m in record["methods"]}
    assert maps["x_gradient"].shape == (3, 32, 32)
    np.testing.assert_allclose(maps["x_gradient"], maps["integrated_gradients_128"], atol=1e-5)
    assert maps["x_gradient"].sum() == pytest.approx(x_gradient["total"], rel=1e-4)
    assert (folder / "out" / "photo.png").stat().st_size > 1000
    assert "completeness gap" in result.output and f"class {record['target']}" in result.output


def test_the_wrapper_leaves_the_picture_s_own_logits_as_they_are(folder):
    explain(folder, "--variant", "wrapped", "--method", "x_gradient", "--target", 2)
    wrapped = json.loads((folder / "out" / "photo.json").read_text())["methods"][0][
        "total"
    ]  # completeness: the logit itself
    _, x = attribute.read_picture(folder / "photo.png", 32, attribute.IMAGENET)
    with torch.no_grad():
        logit = attribute.load_model(f"{folder / 'net.py'}:tiny", "regular", None)(x)[0, 2]
    assert wrapped == pytest.approx(float(logit), rel=1e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "x_gradient"], "(?s)needs a homogeneous net.*--variant wrapped"),
        (["--method", "x_gradeint"], "unknown method 'x_gradeint'; did you mean 'x_gradient'"),
        (["--method", "expected_gradients_1"], "pass --references FOLDER"),
        (["--target", "5"], "class 5 is not one of the net's 5; use 0 to 4"),
        (["--variant", "y"], "unknown variant 'y'"),
        (["--model", "resnet50"], "resnet50 has no weights of its own: pass --weights FILE"),
        (["--model", "resnet51"], "unknown model 'resnet51'; did you mean 'resnet50'"),
        (["--model", "net.py:none"], "net.py is not a file"),
    ],
)
def test_attribute_says_what_is_wrong_and_the_way_out(folder, words, message):
    with pytest.raises(UserError, match=message):
        explain(folder, *words)


def test_attribute_names_a_file_that_does_not_fit(folder):
    with pytest.raises(UserError, match="returned int, not a torch"):
        attribute.load_model(f"{folder / 'net.py'}:seven", "regular", None)
    with pytest.raises(UserError, match="has no 'none'; there are: tiny, seven"):
        attribute.load_model(f"{folder / 'net.py'}:none", "regular", None)
    with pytest.raises(UserError, match="cannot be read as a picture"):
        attribute.read_picture(folder / "text.png", 32, attribute.IMAGENET)


def test_weights_are_loaded_and_the_x_variant_explains_itself(folder):
    model = attribute.load_model(f"{folder / 'net.py'}:tiny", "x", None)
    torch.save({name: 2 * tensor for name, tensor in model.state_dict().items()}, folder / "x.pt")
    explain(folder, "--variant", "x", "--weights", folder / "x.pt", "--method", "x_gradient", "--target", 0)
    record = json.loads((folder / "out" / "photo.json").read_text())
    _, x = attribute.read_picture(folder / "photo.png", 32, attribute.IMAGENET)
    with torch.no_grad():
        assert record["methods"][0]["total"] == pytest.approx(
            4 * float(model(x)[0, 0]), rel=1e-4
        )  # two layers, each doubled


# --- compare and claims ---


def result_folder(path, shift=0.0, verdict="reproduced"):
    path.mkdir(parents=True)
    rows = pd.DataFrame(
        {"model": ["a", "b", "c"], "factor": [0.1, 0.1, 0.2], "value": [1.0, 2.0 + shift, 3.0], "low": [0.9, 1.9 + shift, 3.0],
         "high": [1.1, 2.1 + shift, 3.0], "n": 10}
    )  # fmt: skip
    rows.to_csv(path / "toy.csv", index=False)
    claim = {
        "study": "toy",
        "claim": "It holds",
        "source": "X-DNN",
        "reported": "",
        "measured": "1",
        "verdict": verdict,
    }
    (path / "toy.json").write_text(json.dumps({"study": "toy", "claims": [claim]}))
    pd.DataFrame([claim]).to_csv(path / "claims.csv", index=False)
    return path


@pytest.mark.parametrize(("shift", "moved"), [(0.0, []), (0.19, []), (0.25, ["b 0.1"]), (-0.25, ["b 0.1"])])
def test_a_row_moved_where_its_intervals_do_not_touch(tmp_path, shift, moved):
    found = compare(result_folder(tmp_path / "a"), result_folder(tmp_path / "b", shift))
    assert found.moved["what"].tolist() == [f"{word}" for word in moved] and found.rows == 3 and found.claims.empty


def test_a_row_without_an_interval_moved_where_it_is_more_than_rounding(tmp_path):
    a, b = result_folder(tmp_path / "a"), result_folder(tmp_path / "b")
    text = (b / "toy.csv").read_text()
    (b / "toy.csv").write_text(text.replace("3.0,3.0,3.0", "3.001,3.001,3.001"))
    assert compare(a, b).same
    (b / "toy.csv").write_text(text.replace("3.0,3.0,3.0", "3.1,3.1,3.1"))
    assert compare(a, b).moved["after"].tolist() == ["3.1"]


def test_compare_prints_what_moved_and_check_exits_with_3(tmp_path):
    a, b = result_folder(tmp_path / "a"), result_folder(tmp_path / "b", 1.0, "not reproduced")
    result = invoke("compare", a, b, "--check")
    assert result.exit_code == 3
    assert "1 of 3 rows moved, 1 verdicts changed" in result.output and "not reproduced" in result.output
    assert invoke("compare", a, a, "--check").exit_code == 0
    shutil.copy(a / "toy.json", b / "new.json")
    assert f"new: only in {b}" in invoke("compare", a, b).output.replace("\n", "")
    with pytest.raises(UserError, match="no results in"):
        invoke("compare", a, tmp_path)


def test_claims_and_list_as_json(tmp_path):
    result_folder(tmp_path / "embedded")
    assert json.loads(invoke("claims", "--results", tmp_path, "--json").output)[0]["verdict"] == "reproduced"
    assert "It holds" in invoke("claims", "--results", tmp_path).output
    with pytest.raises(UserError, match="no results in"):
        invoke("claims", "--scale", "paper", "--results", tmp_path)
    listing = json.loads(invoke("list", "--json", "--cells", tmp_path / "cells").output)
    assert listing["methods"]["x_gradient"] == "X-Gradient" and listing["studies"]["table1"]["cells_done"] == 0


# --- plugins ---


def test_a_plugin_takes_part_in_lists_scales_and_cells(clean_plugins, tmp_path):
    before = Run(SCALES["embedded"], Cells(tmp_path, {}), tmp_path)
    net = before.nets("contrast")[0][0]
    cells = [before.cell("contrast", 1, net, None, images=1, seconds=1), before.training(net)]
    output = invoke("list", "--scale", "mine", "--plugin", ROOT / "examples/my_method.py", "--cells", tmp_path).output
    assert "squared_gradient" in output and "three_layers" in output and "mine: my net" in output
    assert METHODS["squared_gradient"].label == "Squared gradient"
    mine = Run(SCALES["mine"], Cells(tmp_path, {}), tmp_path).nets("contrast")
    assert [(n.model, n.variant, count) for n, count in mine] == [
        ("three_layers", "regular", 200),
        ("three_layers", "x", 200),
    ]
    after = [before.cell("contrast", 1, net, None, images=1, seconds=1), before.training(net)]
    assert cells[0].digest != after[0].digest, "what a plugin may change is measured again"
    assert cells[1].digest == after[1].digest, "the package's own nets are not trained again"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("METHODS = {'gradient': 1}", "METHODS already has 'gradient'"),
        ("x = 1", "adds nothing"),
        ("1 / 0", "cannot be run: ZeroDivisionError"),
    ],
)
def test_a_plugin_that_does_not_fit_is_refused(clean_plugins, tmp_path, text, message):
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(UserError, match=message):
        plugins.load(tmp_path / "bad.py")
    with pytest.raises(UserError, match="is not a Python file"):
        plugins.load(tmp_path / "none.py")


def test_a_picture_that_was_cut_short_is_named(folder):
    whole = (folder / "photo.png").read_bytes()
    (folder / "photo.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="photo.png cannot be read as a picture .* use a PNG or a JPEG"):
        explain(folder)


def test_bf16_prints_its_error_beside_the_result(folder):
    output = explain(folder, "--method", "integrated_gradients,gradient", "--precision", "bf16").output
    errors = [m["error"] for m in json.loads((folder / "out" / "photo.json").read_text())["methods"]]
    assert "error of bf16" in output and all(0 < error < 0.2 for error in errors)
    assert "error of bf16" not in explain(folder, "--method", "gradient").output
    with pytest.raises(UserError, match="unknown precision 'bf61'; did you mean 'bf16'"):
        explain(folder, "--precision", "bf61")


def test_a_plugin_s_method_explains_a_picture_and_loading_it_twice_does_nothing(clean_plugins, folder):
    for _ in range(2):
        explain(folder, "--method", "squared_gradient,gradient", "--plugin", ROOT / "examples/my_method.py")
    squared, plain = (np.load(folder / "out" / f"photo.{name}.npy") for name in ("squared_gradient", "gradient"))
    np.testing.assert_allclose(squared, plain**2, rtol=1e-6)


def test_a_plugin_s_method_net_and_metric_go_through_a_study(clean_plugins, tmp_path, monkeypatch):
    monkeypatch.setattr(supervised, "DEFAULT_RECIPE", supervised.Recipe(epochs=1, learning_rate=1e-3))
    invoke("run", "ground-truth", "contrast", "--scale", "mine", "--images", 8, "--plugin", ROOT / "examples/my_method.py",
           "--cells", tmp_path / "cells", "--results", tmp_path)  # fmt: skip
    rows = pd.read_csv(tmp_path / "mine-8" / "ground-truth.csv")
    mine = rows[(rows["method"] == "squared_gradient") & (rows["metric"] == "overlap")]
    assert set(mine["variant"]) == {"regular", "x"} and mine["value"].between(0, 100).all()
    table, page = ((tmp_path / "mine-8" / name).read_text() for name in ("ground-truth.md", "report.html"))
    assert "Squared gradient" in table and "overlap (%)" in table and "Squared gradient" in page
    assert set(pd.read_csv(tmp_path / "mine-8" / "contrast.csv")["model"]) == {"three_layers"}


# --- examples as they are written ---


def test_the_quickstart_runs_and_says_which_net_is_homogeneous():
    done = subprocess.run(
        [sys.executable, "examples/quickstart.py"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    regular, x_net, close, wrapped = done.stdout.splitlines()
    assert "not homogeneous" in regular and "not homogeneous" not in x_net + wrapped
    assert float(close.split()[5]) < 1e-4


def test_help_has_examples_for_every_command():
    for command in ("list", "run", "claims", "compare", "attribute", "report", "data"):
        assert "Example: python -m reproduce" in " ".join(invoke(command, "--help").output.split()), command


def test_the_notebook_s_cells_run_in_order_and_say_what_they_claim(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # batches of 100 tiny pictures: a second thread only waits
    cells = json.loads((ROOT / "examples/from_net_to_prior.ipynb").read_text())["cells"]
    assert [cell["cell_type"] for cell in cells].count("code") == 5
    space: dict[str, object] = {}
    for cell in cells:
        assert not cell.get("outputs"), "tracked without outputs: they would go stale"
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), space)  # plain Python, no magics: no kernel is needed to test it
    torch.set_num_threads(threads)
    assert space["x_gap"] < 1e-4 < 0.05 < space["regular_gap"]
    assert space["after"] < space["before"]
    assert space["accuracy"](space["x_net"]) > 0.85 and space["accuracy"](space["smooth"]) > 0.8
