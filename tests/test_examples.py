"""The examples as they are written: the script of README, the notebooks, the plugin."""

import json
import os
import subprocess
import sys

import pytest
import torch
from command_line import ROOT, invoke
from test_plugins import clean_plugins  # noqa: F401  # a fixture

from reproduce.claims import judge
from reproduce.cli.context import make_context
from reproduce.registries import load_plugins
from reproduce.results import all_rows
from reproduce.studies import STUDIES

EXAMPLES = ROOT / "examples"
NOTEBOOKS = sorted(path.stem for path in EXAMPLES.glob("*.ipynb"))


def test_the_quickstart_runs_and_one_pass_is_128():
    done = subprocess.run(
        [sys.executable, EXAMPLES / "quickstart.py"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    words, number = done.stdout.rsplit(maxsplit=1)
    assert words == "one pass differs from 128 by" and float(number) < 1e-4


# --- notebooks ---


def run(name):
    """The names that the notebook's code defines: plain Python, no magics, so that no kernel is needed to run it."""
    space = {"__name__": name}
    for part in json.loads((EXAMPLES / f"{name}.ipynb").read_text())["cells"]:
        if part["cell_type"] == "code":
            exec("".join(part["source"]), space)
    return space


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Small nets: a second thread only waits. Pictures are drawn without a screen."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_are_tracked_without_outputs_which_would_go_stale(name):
    parts = json.loads((EXAMPLES / f"{name}.ipynb").read_text())["cells"]
    assert not any(part.get("outputs") or part.get("execution_count") for part in parts)
    assert parts[0]["cell_type"] == "markdown" and "".join(parts[0]["source"]).startswith("# ")


def test_there_is_a_notebook_for_images_a_table_and_text():
    assert {"images", "table", "text"} <= set(NOTEBOOKS)


def test_images():
    space = run("images")
    assert max(space["x_gap"], space["wrapped_gap"]) < 1e-3 < 0.1 < space["regular_gap"]
    assert float(space["own_radius"].sum()) == pytest.approx(space["change"], rel=1e-4)
    assert int(space["x_net"](space["x"]).argmax()) == int(space["y"]), "the text says that it is recognised"
    assert len(space["axes"]) == 6


def test_a_table():
    space = run("table")
    assert space["x_gap"] < 1e-4 < 0.05 < space["regular_gap"]
    assert space["largest_gap"] < 1e-4
    assert min(space["accuracy"](space[net]) for net in ("regular", "x_net")) > 0.93


def test_text():
    space = run("text")
    assert space["gap"] < 1e-4
    assert space["accuracy"] > 0.9 and float(space["found"]) > 0.9


def test_from_net_to_prior():
    space = run("from_net_to_prior")
    assert space["x_gap"] < 1e-4 < 0.05 < space["regular_gap"]
    assert space["after"] < space["before"]
    assert space["accuracy"](space["x_net"]) > 0.85 and space["accuracy"](space["smooth"]) > 0.8


# --- the plugin ---


@pytest.mark.usefixtures("clean_plugins")
def test_the_plugin_adds_what_it_says(tmp_path):
    output = invoke("list", "--scale", "mine", "--plugin", EXAMPLES / "my_method.py", "--cache", tmp_path).output
    assert "studies at scale mine" in output
    for name in ("three_layers", "squared_gradient", "scale     mine: my net on the embedded data"):
        assert name in output
    for study in ("table1", "contrast"):  # a task for each variant, its training, and the data
        tasks = next(line for line in output.splitlines() if f"│ {study} " in line)
        assert "0/" in tasks and "0/0" not in tasks


@pytest.mark.usefixtures("clean_plugins")
def test_the_study_runs_as_a_plugin(tmp_path):
    """Its tasks at scale smoke, rows, table, claim and figure; one small net stands for all."""
    study = load_study(EXAMPLES / "my_study.py")
    made = make_context("smoke", results=tmp_path / "results", cache=tmp_path / "cache")
    tasks = [task for task in study.at(made) if task.about.model == "alexnet"]
    rows = all_rows(study, [made.result(task) for task in tasks])
    assert set(rows["metric"]) == {"sparsity", "sparsity_change"} and rows["value"].between(-1, 1).all()
    assert len(study.table(rows)) == 2 and study.figure(rows, []).axes
    (finding,) = judge(study.claims, rows)
    assert finding.evidence["metric"].tolist() == ["sparsity_change"]


def load_study(path):
    load_plugins([path])
    return STUDIES["sparsity"]
