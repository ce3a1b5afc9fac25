"""Every study at scale ``smoke``, run once through the command line: files, columns, ids, claims, and what a second run does.

Every net is trained with two seeds, so that the rows over trainings are made as well.
"""

import json
import re
import time
from dataclasses import fields, is_dataclass

import pandas as pd
import pytest
from command_line import ROOT, invoke

from reproduce.claims import Outcome
from reproduce.cli.context import make_context
from reproduce.compare import NUMBERS, WORDS
from reproduce.records import ALL
from reproduce.report.page import NEEDED
from reproduce.scales import SCALES
from reproduce.studies import STUDIES
from reproduce.tasks import in_order

SEEDS = 2
FETCH_NOTHING = ("axioms", "beyond-images", "decoy", "sparse-priors")
MADE_HERE = ("sparse-priors",)  # its tables are drawn by the tasks themselves
SUFFIXES = (".csv", ".json", ".md", ".tex", ".png", ".pdf")
LIMIT = 900  # seconds for all studies, on a machine that is busy with something else


def run(folder, *words):
    places = ("--scale", "smoke", "--seeds", SEEDS, "--cache", folder / "cache", "--results", folder)
    return invoke("run", *words, *places).output


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Where all studies have been run."""
    folder = tmp_path_factory.mktemp("smoke")
    (folder / "first.txt").write_text(run(folder, "all"))
    return folder


@pytest.fixture(scope="session")
def context(folder):
    return make_context("smoke", seeds=SEEDS, cache=folder / "cache", results=folder)


def record(folder, name):
    return json.loads((folder / "smoke" / f"{name}.json").read_text())


def rows(folder, name):
    return pd.read_csv(folder / "smoke" / f"{name}.csv", dtype={"training": str}, keep_default_na=False, na_values=[""])


def ids(table):
    return [column for column in table if column not in (*NUMBERS, *WORDS, "training")]


# --- each study ---


@pytest.mark.timeout(LIMIT)
@pytest.mark.parametrize("name", STUDIES)
def test_a_study_writes_all_its_files(folder, name):
    for suffix in SUFFIXES:
        assert (folder / "smoke" / f"{name}{suffix}").stat().st_size > 0, suffix
    found = record(folder, name)
    assert found.keys() >= set(NEEDED) and found["scale"] == "smoke"
    assert found["table"]["lines"] and found["shows"]
    for slide in found["slides"]:
        assert all(len(row["captions"]) == len(slide["positions"]) for row in slide["rows"])


@pytest.mark.parametrize("name", STUDIES)
def test_its_rows_are_numbers_with_intervals_that_hold_them(folder, name):
    found = rows(folder, name)
    assert {"metric", "unit", "better", "training", *NUMBERS} <= set(found)
    assert "reported" not in found, "a scale that estimates nothing must not print its numbers beside the paper's"
    measured = found.dropna(subset="low")  # empty where no number has five units, as of the smoke scale's repetitions
    rounding = 1e-9 + 1e-6 * measured["value"].abs()
    assert (measured["low"] <= measured["value"] + rounding).all()
    assert (measured["value"] <= measured["high"] + rounding).all()
    assert found["n"].min() >= 0 and (found["trainings"] >= 1).all()
    assert set(found["better"].dropna()) <= {"higher", "lower"}


@pytest.mark.parametrize("name", STUDIES)
def test_its_ids_tell_its_rows_apart_and_no_measured_number_is_one(folder, name):
    """Ids pair the rows of two runs, so another training of the same nets has to have the same ones."""
    found = rows(folder, name)
    for training, part in found.groupby("training"):
        twice = part[part.duplicated(ids(part), keep=False)]
        assert twice.empty, f"{training}: {twice[ids(part)].head().to_dict('records')}"
    alone = [part[ids(part)].astype(str) for training, part in found.groupby("training") if training != ALL]
    assert len(alone) in (0, SEEDS)
    if alone:
        first, second = (set(map(tuple, part.values)) for part in alone)
        assert first == second, sorted(first ^ second)[:4]
        assert found.loc[found["training"] == ALL, "trainings"].max() == SEEDS


@pytest.mark.parametrize("name", STUDIES)
def test_its_claims_are_those_of_its_file_each_with_an_outcome(folder, name):
    claims = record(folder, name)["claims"]
    assert [claim["id"] for claim in claims] == [f"{name}/{claim.id}" for claim in STUDIES[name].claims]
    assert len({claim["text"] for claim in claims}) == len(claims)
    metrics = set(rows(folder, name)["metric"])
    for claim in claims:
        assert claim["outcome"] in set(map(str, Outcome))
        if claim["outcome"] == str(Outcome.NOT_RUN):
            assert claim["reason"]
        else:
            assert {row["metric"] for row in claim["evidence"]} <= metrics and claim["metric"] in metrics


@pytest.mark.parametrize("name", STUDIES)
def test_each_number_s_provenance_was_kept_when_it_was_measured(folder, name):
    found = record(folder, name)
    for task in found["tasks"]:
        assert {"commit", "dirty", "packages", "hardware", "threads", "seed", "date"} <= set(task)
    assert len({task["key"] for task in found["tasks"]}) == len(found["tasks"])
    assert bool(found["data"]) == (name not in MADE_HERE)
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in found["data"].values())


@pytest.mark.parametrize("name", STUDIES)
def test_its_protocols_are_frozen_and_of_one_type(name):
    study = STUDIES[name]
    assert {"smoke", "embedded"} <= set(study.protocols) <= set(SCALES)
    leaves = list(protocols(study.protocols))
    assert len({type(leaf) for leaf in leaves}) == 1 and is_dataclass(leaves[0])
    assert type(leaves[0]).__dataclass_params__.frozen and fields(leaves[0])


def protocols(tree):
    if isinstance(tree, dict):
        for branch in tree.values():
            yield from protocols(branch)
    else:
        yield tree


@pytest.mark.parametrize("name", STUDIES)
def test_it_is_named_after_its_file_which_is_a_make_target(name):
    assert (ROOT / "reproduce" / "studies" / f"{name.replace('-', '_')}.py").is_file()
    assert len(list((ROOT / "reproduce" / "studies").glob("*.py"))) == len(STUDIES) + 1  # and __init__.py


# --- the run ---


def test_a_run_says_each_task_and_ends_in_a_summary(folder, context):
    output = " ".join((folder / "first.txt").read_text().split())  # lines are wrapped at the width of the terminal
    tasks = in_order(task for study in STUDIES.values() for task in study.at(context))
    assert f"{len(tasks)} tasks on" in output
    for task in tasks:
        assert re.search(rf"\] {re.escape(task.name)}: \d+ s", output), task.name
    assert output.endswith("smoke/report.html")
    claims = json.loads(invoke("claims", "--scale", "smoke", "--results", folder, "--json").output)
    assert len({claim["id"] for claim in claims}) == len(claims) == sum(len(s.claims) for s in STUDIES.values())
    page, report = ((folder / "smoke" / name).read_text() for name in ("report.html", "report.md"))
    assert all(f'id="{name}"' in page and study.title in report for name, study in STUDIES.items())


def test_a_second_run_computes_nothing_and_leaves_the_files(folder):
    files = [folder / "smoke" / f"{name}{suffix}" for name in STUDIES for suffix in SUFFIXES]
    before = [file.stat().st_mtime_ns for file in files]
    start = time.perf_counter()
    output = run(folder, "all")
    assert time.perf_counter() - start < 60
    assert "tasks on" not in output and [file.stat().st_mtime_ns for file in files] == before


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_missing_is_made_again_from_the_cache(folder, suffix):
    name = "contrast"
    lost = folder / "smoke" / f"{name}{suffix}"
    before = {s: (folder / "smoke" / f"{name}{s}").read_bytes() for s in (".csv", ".md", ".tex", ".png")}
    lost.unlink()
    assert "tasks on" not in run(folder, name)
    assert lost.is_file()
    assert {s: (folder / "smoke" / f"{name}{s}").read_bytes() for s in before} == before


def test_force_computes_the_study_s_tasks_again_and_keeps_the_trained_nets(folder, context):
    own = STUDIES["contrast"].at(context)
    before = (folder / "smoke" / "contrast.csv").read_text()
    output = run(folder, "contrast", "--force", "--workers", 1)
    assert f"{len(own)} tasks on" in output and "] train" not in output
    assert (folder / "smoke" / "contrast.csv").read_text() == before


def test_another_seed_gives_other_numbers_and_the_same_ids(folder, tmp_path):
    words = ("run", "table1", "--scale", "smoke", "--cache", folder / "cache", "--results")
    for name, seed in (("a", 0), ("b", 1)):
        invoke(*words, tmp_path / name, "--seed", seed)
    a, b = (rows(tmp_path / name, "table1") for name in "ab")
    assert a[ids(a)].equals(b[ids(b)]) and not a["value"].equals(b["value"])
    alone = rows(folder, "table1").query("training == '1' and weights == 'trained'")
    again = b[b["weights"] == "trained"]
    assert alone["value"].tolist() == again["value"].tolist(), "a training is the same one alone and among several"


def test_fewer_images_are_the_first_of_the_same(folder, tmp_path):
    invoke("run", "table1", "--scale", "smoke", "--images", 8, "--cache", folder / "cache", "--results", tmp_path)
    found = rows(tmp_path.joinpath("smoke-8").rename(tmp_path / "smoke").parent, "table1").query("metric == 'top1'")
    assert set(found["n"]) == {8}


# --- the central claims hold on the smoke nets too ---


def test_on_x_nets_input_x_gradient_is_integrated_gradients(folder):
    found = rows(folder, "table1").query("training == 'all' and weights == 'trained'")
    value = found.set_index(["model", "variant", "metric"])["value"]
    for model in found["model"].unique():
        assert value[model, "x", "mard"] < 0.1 < value[model, "regular", "mard"]
        assert value[model, "x", "mard_float64"] < 1e-9


def test_on_x_nets_contrast_changes_no_prediction(folder):
    found = rows(folder, "contrast").query("metric == 'predictions_changed' and variant == 'x'")
    assert len(found) and (found["value"] == 0).all()


# --- data that is not there ---


def test_data_that_is_not_there_is_a_reason_not_a_hole(tmp_path, monkeypatch):
    from reproduce.datasets import Store

    monkeypatch.setattr(Store.__dataclass_fields__["folder"], "default", tmp_path / "data")
    context = make_context("paper", cache=tmp_path / "cache")
    for name, study in STUDIES.items():
        missing = study.missing_at(context)
        assert not study.at(context) or missing.keys() or name in FETCH_NOTHING, name
        assert all("make data SCALE=" in reason or "imagenet-val is not in" in reason for reason in missing.values())
