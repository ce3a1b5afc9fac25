"""Methods by metrics on any net and data: values as the metrics give them, and reasons where there is none."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from command_line import NET, invoke
from conftest import small_cnn
from PIL import Image

from reproduce.errors import UserError
from reproduce.evaluate import COLUMNS, evaluate, find_metrics
from xdnn import METHODS, METRICS, to_x_variant
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
    with pytest.raises(UserError, match="unknown metric 'kpn'"):
        evaluate(small_cnn(), data, ["gradient"], ["kpn"])
    with pytest.raises(ValueError, match="the data has no batch"):
        evaluate(small_cnn(), [], ["gradient"])
    assert set(find_metrics(None)) < set(METRICS)


def test_the_command_writes_a_table_that_fits_80_columns(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (3, 40, 50, 3), np.uint8)
    (tmp_path / "photos").mkdir()
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / "photos" / f"{number}.png")
    (tmp_path / "net.py").write_text(NET)
    words = ["--data", tmp_path / "photos", "--size", 32, "--output", tmp_path / "out"]
    words += ["--methods", "gradient,x_gradient", "--metrics", "kpm,insertion"]
    output = invoke("evaluate", f"{tmp_path / 'net.py'}:tiny", *words).output
    assert "measured Gradient" in output and "not measured: kpm, insertion of X-Gradient: " in output
    assert max(len(line) for line in output.splitlines() if not line.startswith("wrote")) <= 80
    table = pd.read_csv(tmp_path / "out" / "evaluation.csv")
    assert entry(table, "gradient", "kpm")["n"] == 3
    assert "KPM" in (tmp_path / "out" / "evaluation.md").read_text()


def test_the_command_says_what_is_wrong(tmp_path):
    with pytest.raises(UserError, match="no PNG or JPEG in .*; name a folder of pictures"):
        invoke("evaluate", "squeezenet", "--data", tmp_path)
    (tmp_path / "a.png").write_text("not a picture")
    for name, message in (
        ("torchvision:resnet19", "unknown torchvision model 'resnet19'; did you mean"),
        ("timm:resnet19x", "unknown timm model 'resnet19x'; did you mean"),
    ):
        with pytest.raises(UserError, match=message):
            invoke("evaluate", name, "--data", tmp_path)
