"""Methods by metrics on any net and data: values as the metrics give them, and reasons where there is none."""

import io
import math

import numpy as np
import pandas as pd
import pytest
import torch
from command_line import NET, invoke
from conftest import small_cnn
from PIL import Image
from rich.console import Console

from reproduce import evaluate as evaluating
from reproduce import plugins
from reproduce.cli import user_net
from reproduce.errors import UserError
from reproduce.evaluate import COLUMNS, evaluate, find_metrics
from xdnn import METHODS, METRICS, Metric, to_x_variant
from xdnn.metrics.masks import mask_metrics

QUICK = ["gradient", "input_x_gradient", "x_gradient"]


@pytest.fixture
def data():
    images = torch.randn(6, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return [(images[:4], torch.tensor([0, 1, 2, 3])), (images[4:], [4, 0])]


def entry(table, method, metric):
    (row,) = table[(table["method"] == method) & (table["metric"] == metric)].to_dict("records")
    return row


def test_a_row_for_each_method_and_metric_with_its_interval_n_passes_and_reason(data):
    table = evaluate(small_cnn(), data, QUICK)
    assert list(table) == list(COLUMNS) and len(table) == len(QUICK) * len(find_metrics(None))
    found = entry(table, "gradient", "kpm")
    assert found["n"] == 6 and found["low"] < found["value"] < found["high"] and found["passes"] == 1
    assert "not nonnegatively homogeneous" in entry(table, "x_gradient", "kpm")["reason"]
    assert entry(table, "gradient", "completeness_gap")["reason"] == "the method claims no sum from the zero baseline"
    assert entry(table, "gradient", "ap")["reason"].startswith("needs masks")
    assert (table["value"].isna() == (table["reason"] != "")).all()


def test_values_are_those_of_the_metrics(data):
    net, values = small_cnn(), []
    for inputs, targets in data:
        found = METHODS["gradient"](net, inputs, targets)
        values.append(mask_metrics(net, inputs, targets, found)[:, 0])
    table = evaluate(net, data, ["gradient"], ["kpm"])
    assert table["value"].item() == pytest.approx(float(torch.cat(values).mean()))


def test_on_an_x_net_x_gradient_is_complete(data):
    table = evaluate(to_x_variant(small_cnn()), data, ["x_gradient", "integrated_gradients_128"], ["completeness_gap"])
    assert (table["value"] < 1e-9).all() and table["passes"].tolist()[1] == 128


def test_homogeneity_spread_pairs_and_draws_are_those_of_their_definitions(data):
    metrics = ["homogeneity", "gini", "relative_l1", "infidelity", "mard"]
    table = evaluate(to_x_variant(small_cnn()), data, ["x_gradient", "gradient"], metrics)
    assert entry(table, "x_gradient", "homogeneity")["value"] < 1e-12  # A(a x) = a A(x)
    assert entry(table, "gradient", "homogeneity")["value"] == pytest.approx(2 / 3)  # A(a x) = A(x), a = 2
    assert entry(table, "x_gradient", "relative_l1")["value"] < 1e-9  # X-Gradient is Integrated Gradients there
    own = [METHODS["gradient"](to_x_variant(small_cnn()), *batch).flatten(1).abs() for batch in data]
    expected = torch.cat([METRICS["gini"].function(sizes) for sizes in own]).mean()
    assert entry(table, "gradient", "gini")["value"] == pytest.approx(float(expected))
    assert entry(table, "gradient", "infidelity")["value"] > 0
    assert entry(table, "gradient", "mard")["reason"].startswith("gives no number for each image")


def test_metrics_of_a_plugin_of_every_kind(data, tmp_path, monkeypatch):
    ones = {
        "mask": lambda maps, masks: maps.flatten(1).sum(1) * 0 + masks.flatten(1).sum(1),
        "masking": lambda model, inputs, targets, attributions: torch.ones(len(inputs)),
        "model": lambda model, inputs, targets, attributions, *, generator: torch.rand(
            len(inputs), generator=generator
        ),
        "curve": lambda curves: curves[:, 0],
        "method": lambda explain, inputs, targets, *, generator: explain(inputs, targets).flatten(1).sum(1),
        "sum": lambda attributions, change: change,
        "spread": lambda sizes: sizes.amax(-1),
        "pair": lambda reference, other: (reference - other).abs().flatten(1).sum(1),
    }
    own = {f"my_{kind}": Metric(f"my {kind}", "", "higher", kind, function) for kind, function in ones.items()}
    own["my_broken"] = Metric("broken", "", "higher", "spread", lambda sizes: {}["x"])
    own["my_empty"] = Metric("empty", "", "higher", "model")
    for name, metric in own.items():
        monkeypatch.setitem(METRICS, name, metric)
    monkeypatch.setattr(plugins, "_ADDED", {"METRICS": list(own)})
    masked = [(*batch, torch.ones(len(batch[0]), 16, 16, dtype=torch.bool)) for batch in data]
    table = evaluate(small_cnn(), masked, ["input_x_gradient"], list(own)).set_index("metric")
    assert table.loc[[f"my_{kind}" for kind in ones], "n"].tolist() == [6] * len(ones)
    assert (table.loc["my_mask", "value"], table.loc["my_masking", "value"]) == (256, 1)
    assert table.loc["my_broken", "reason"] == "KeyError: 'x'"
    assert table.loc["my_empty", "reason"] == "has no function to measure it with"


def test_masks_make_localisation_apply_and_other_shapes_say_what_is_needed(data):
    inputs, targets = data[0]
    masks = torch.zeros(4, 16, 16, dtype=torch.bool)
    masks[:, 4:8, 4:8] = True
    assert 0 <= evaluate(small_cnn(), [(inputs, targets, masks)], ["gradient"], ["rank"])["value"].item() <= 1
    table = evaluate(torch.nn.Linear(7, 3), [(torch.randn(6, 7), None)], ["gradient"], ["kpm", "max_sensitivity"])
    assert table["reason"].tolist() == ["needs images (B, C, H, W)", ""] and math.isnan(table["value"][0])


def test_unknown_names_and_no_data_end_in_a_sentence(data):
    with pytest.raises(UserError, match="unknown method 'gradeint'; did you mean 'gradient'"):
        evaluate(small_cnn(), data, ["gradeint"])
    with pytest.raises(UserError, match="metric 'roc_auc' is of kind prediction, and is not measured of a method"):
        evaluate(small_cnn(), data, ["gradient"], ["roc_auc"])
    with pytest.raises(UserError, match="unknown metric 'kpn'"):
        evaluate(small_cnn(), data, ["gradient"], ["kpn"])
    with pytest.raises(ValueError, match="the data has no batch"):
        evaluate(small_cnn(), [], ["gradient"])
    assert set(find_metrics(None)) < set(METRICS)


@pytest.fixture
def folder(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (3, 40, 50, 3), np.uint8)
    (tmp_path / "photos").mkdir()
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / "photos" / f"{number}.png")
    (tmp_path / "net.py").write_text(NET)
    return tmp_path


def run_on(folder, *words):
    net = f"{folder / 'net.py'}:tiny"
    return invoke("evaluate", net, "--data", folder / "photos", "--size", 32, "--output", folder / "out", *words)


def test_the_command_writes_a_table_that_fits_80_columns(folder):
    output = run_on(folder, "--methods", "gradient,x_gradient", "--metrics", "kpm,insertion").output
    assert "measured Gradient" in output and "not measured: KPM, insertion of X-Gradient: " in output
    assert max(len(line) for line in output.splitlines() if not line.startswith("wrote")) <= 80
    table = pd.read_csv(folder / "out" / "evaluation.csv")
    assert entry(table, "gradient", "kpm")["n"] == 3
    assert "KPM" in (folder / "out" / "evaluation.md").read_text()
    page = (folder / "out" / "evaluation.html").read_text()
    assert "KPM (logits)" in page and "3 pictures of photos, 32 px" in page and "not measured: KPM" in page
    assert page.count('<td class="id">') == 1  # X-Gradient has a reason, and no line


def test_ctrl_c_keeps_the_methods_that_were_finished(folder, monkeypatch):
    finished = evaluating._of_method

    def stopping(net, name, *rest):
        if name == "input_x_gradient":
            raise KeyboardInterrupt
        return finished(net, name, *rest)

    monkeypatch.setattr(evaluating, "_of_method", stopping)
    result = run_on(folder, "--methods", "gradient,input_x_gradient", "--metrics", "gini")
    assert result.exit_code == 130 and "interrupted; 1 of 2 methods were finished, they are in" in result.output
    assert pd.read_csv(folder / "out" / "evaluation.csv")["method"].tolist() == ["gradient"]
    assert "methods that were not finished are missing" in (folder / "out" / "evaluation.html").read_text()
    result = run_on(folder, "--methods", "input_x_gradient", "--metrics", "gini", "--output", folder / "none")
    assert "0 of 1 methods were finished, nothing was written" in result.output and not (folder / "none").exists()


def test_random_weights_are_said_in_red_and_on_the_page(folder):
    words = ("--data", folder / "photos", "--size", 32, "--methods", "gradient", "--metrics", "gini")
    output = invoke("evaluate", "torchvision:squeezenet1_1", *words, "--output", folder / "out").output
    assert "torchvision:squeezenet1_1 has random weights" in output
    assert '<p class="broken bad">torchvision:squeezenet1_1 has random' in (folder / "out/evaluation.html").read_text()
    console = Console(force_terminal=True, file=io.StringIO(), color_system="standard")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(user_net, "console", console)
        user_net.warn(["random"])
    assert console.file.getvalue().startswith("\x1b[31m")


def test_the_command_says_what_is_wrong(tmp_path):
    with pytest.raises(UserError, match="no PNG, JPEG or WebP in .*; name a folder of pictures"):
        invoke("evaluate", "squeezenet", "--data", tmp_path)
    (tmp_path / "a.png").write_text("not a picture")
    for name, message in (
        ("torchvision:resnet19", "unknown torchvision model 'resnet19'; did you mean"),
        ("timm:resnet19x", "unknown timm model 'resnet19x'; did you mean"),
    ):
        with pytest.raises(UserError, match=message):
            invoke("evaluate", name, "--data", tmp_path)
