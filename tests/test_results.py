"""A study's files: rows over all trainings and over each alone, claims from numbers, and when they are written again."""

import io
import json
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd
import pytest
import torch
from rich.console import Console

from reproduce.cache import ResultCache
from reproduce.claims import Claim, Kind, at_least, at_most, select
from reproduce.context import Context
from reproduce.datasets import DATASETS
from reproduce.errors import UserError
from reproduce.nets import Net, by_training
from reproduce.report import figures, page
from reproduce.report.tables import wide
from reproduce.results import all_rows, write_study
from reproduce.scales import SCALES
from reproduce.statistics import mean_interval
from reproduce.study import Study
from reproduce.tasks import Result, Task


@dataclass(frozen=True)
class Measurement:
    hits: list[float]


def measure(experiment):
    net = experiment.about
    draws = torch.rand(40, generator=torch.Generator().manual_seed(net.seed)) + (net.variant == "x")
    return Measurement((100 * draws).tolist())


def net(model="alexnet", variant="regular", seed=0, weights="trained"):
    return Net(model, variant, "smoke-digits", 0.125, weights, seed)


def tasks(context, protocols):
    nets = [net(variant=variant, seed=seed) for variant in ("regular", "x") for seed in range(context.seeds)]
    return [Task(f"toy {about.label}", Measurement, measure, about) for about in nets]


def rows(results):
    return pd.DataFrame(
        ids
        | {"metric": "hits", "unit": "%", "better": "higher", "reported": 79.0}
        | mean_interval([result.value.hits for result in group]).columns()
        for ids, group in by_training(results)
    )


def table(rows):
    return wide(rows, ["dataset", "model", "variant"], {"hits": "Hits (%)"})


def figure(rows, results):
    """Hits of each net.

    Drawn for a test.
    """
    fig, axes = figures.subplots(1, 1)
    axes[0].bar(rows["variant"], rows["value"])
    return fig


def claim(name, criterion, **where):
    return Claim(name, name, Kind.EMPIRICAL, "X-DNN", "", "hits", criterion, partial(select, **where), "enough")


STUDY = Study(
    order=1,
    title="A toy",
    question="Does it?",
    source="X-DNN",
    method="Look.",
    differs="All.",
    protocols={"smoke": {}, "embedded": True},
    tasks=tasks,
    rows=rows,
    table=table,
    figure=figure,
    claims=(
        claim("many", at_least(100), variant="x"),
        claim("few", at_most(10), variant="x"),
        claim("none", at_most(10), variant="wrapped"),
    ),
    missing=lambda context, protocols: {"wrapped": "needs a wrapped net"},
    name="toy",
)


@pytest.fixture
def context(tmp_path):
    (tmp_path / "out").mkdir()
    return Context(SCALES["embedded"], ResultCache(tmp_path / "cache", {}), tmp_path / "out", threads=1)


def write(study, context):
    """Write the study's files; returns what was said, and its record."""
    console = Console(file=io.StringIO(), width=200)
    for task in study.at(context):
        context.result(task)  # the runner writes a study when its tasks are finished
    write_study(study, study.at(context), context, console)
    return console.file.getvalue(), json.loads((context.results / f"{study.name}.json").read_text())


# --- rows ---


def result(about, *hits):
    return Result(about, Measurement(list(hits)), 1.0, {})


def test_one_training_makes_rows_over_all_trainings_only():
    found = all_rows(STUDY, [result(net(), 1.0, 2.0), result(net(variant="x"), 3.0, 4.0)])
    assert list(found["training"]) == ["all", "all"] and list(found["value"]) == [1.5, 3.5]
    assert all_rows(STUDY, []).empty


def test_several_trainings_make_rows_together_and_of_each_alone():
    results = [result(net(seed=seed), 1.0 + seed, 2.0 + seed) for seed in (4, 7)]
    results += [
        result(net(model="resnet50", weights="package", seed=4), 50.0, 60.0)
    ]  # was trained once: it has no rows alone
    found = all_rows(STUDY, results)
    assert list(zip(found["training"], found["model"], found["value"], found["trainings"], strict=True)) == [
        ("all", "alexnet", 7.0, 2),
        ("all", "resnet50", 55.0, 1),
        ("4", "alexnet", 5.5, 1),
        ("7", "alexnet", 8.5, 1),
    ]


def test_a_table_of_rows_of_several_trainings_would_be_refused():
    found = all_rows(STUDY, [result(net(seed=seed), 1.0 + seed, 2.0) for seed in (0, 1)])
    with pytest.raises(ValueError, match="two rows for one entry"):
        table(found)


# --- files ---


def test_claims_are_numbers_with_ids_and_the_missing_is_said(context):
    said, record = write(STUDY, context)
    assert [(c["id"], c["outcome"]) for c in record["claims"]] == [
        ("toy/many", "reproduced"),
        ("toy/few", "not reproduced"),
        ("toy/none", "not run"),
    ]
    assert record["claims"][2]["reason"] == "needs a wrapped net"
    evidence = record["claims"][0]["evidence"]
    assert (
        len(evidence) == 1 and evidence[0]["variant"] == "x" and evidence[0]["n"] == 40 and evidence[0]["says"] is True
    )
    assert 100 < evidence[0]["low"] < evidence[0]["value"] < evidence[0]["high"]
    assert record["shows"] == "Hits of each net." and "toy.md" in said
    assert (
        record["provenance"]["threads"] == [1]
        and len(record["tasks"]) == 2
        and record["criteria"].keys() == {"commit", "dirty"}
    )
    assert record["data"].keys() == {"smoke-digits"}


def test_all_files_are_written_and_the_page_reads_them(context):
    _, record = write(STUDY, context)
    assert all(
        (context.results / f"toy{suffix}").is_file() for suffix in (".csv", ".json", ".md", ".tex", ".png", ".pdf")
    )
    rows = pd.read_csv(context.results / "toy.csv")
    assert (
        list(rows["training"]) == ["all", "all"] and "reported" not in rows
    )  # the scale estimates nothing of the paper
    page.write(context.results)
    assert "A toy" in (context.results / "report.html").read_text()
    assert record["table"]["lines"][0]["entries"][0]["value"] == pytest.approx(rows["value"][0])


def test_tables_and_claims_are_over_all_trainings_and_the_csv_has_each(context):
    several = replace(context, seeds=3)
    _, record = write(STUDY, several)
    rows = pd.read_csv(several.results / "toy.csv", dtype={"training": str})
    assert rows["training"].value_counts().to_dict() == {"all": 2, "0": 2, "1": 2, "2": 2}
    assert len(record["table"]["lines"]) == 2 and record["table"]["lines"][0]["entries"][0]["trainings"] == 3
    assert [row["trainings"] for row in record["claims"][0]["evidence"]] == [3]


def test_reported_values_stand_beside_what_estimates_them_only(context):
    at_subset = replace(context, scale=replace(SCALES["embedded"], estimates_paper=True))
    _, record = write(STUDY, at_subset)
    assert "Hits in the paper" not in str(record["table"])  # the nets are trained here
    fetched = replace(STUDY, rows=lambda results: rows(results).assign(weights="released"), name="fetched")
    _, record = write(fetched, at_subset)
    assert [column["heading"] for column in record["table"]["columns"]] == ["Hits (%)", "Hits in the paper"]


def test_files_are_written_again_only_when_results_code_or_claims_change(context):
    assert write(STUDY, context)[0]
    assert not write(STUDY, context)[0]
    assert write(replace(STUDY, title="Another"), context)[0]
    other = replace(STUDY.claims[0], criterion=at_least(1_000))
    assert write(replace(STUDY, title="Another", claims=(other,)), context)[0]
    moved = replace(other, evidence=partial(select, variant="regular"))
    assert write(replace(STUDY, title="Another", claims=(moved,)), context)[0]
    (context.results / "toy.md").unlink()
    assert write(replace(STUDY, title="Another", claims=(moved,)), context)[0]
    (context.results / "toy.json").write_text("[")
    assert write(replace(STUDY, title="Another", claims=(moved,)), context)[0]


def test_a_study_that_is_not_run_says_so_in_its_files(context):
    _, record = write(replace(STUDY, protocols={}, missing=lambda context, protocols: {}), context)
    assert {c["outcome"] for c in record["claims"]} == {"not run"} and record["table"]["lines"] == []
    assert "Not run at this scale." in (context.results / "toy.md").read_text()
    page.write(context.results)


def test_a_folder_that_cannot_be_written_is_named(context):
    (context.results / "toy.csv").mkdir()
    with pytest.raises(UserError, match="cannot write .*toy"):
        write(STUDY, context)


def test_two_claims_of_one_id_are_refused():
    with pytest.raises(ValueError, match="two claims of one id"):
        replace(STUDY, claims=(STUDY.claims[0], STUDY.claims[0]))


def test_what_accuracies_on_chosen_photographs_mean_is_said_beside_them(context):
    def on_photographs(context, protocols):
        return [
            replace(task, about=replace(task.about, dataset="open-photographs")) for task in tasks(context, protocols)
        ]

    _, plain = write(STUDY, context)
    assert plain["notes"] == []
    study = replace(STUDY, name="photographs", tasks=on_photographs)
    _, record = write(study, context)
    assert record["notes"] == [DATASETS["open-photographs"].note]
    assert record["notes"][0] in (context.results / "photographs.md").read_text()
    page.write(context.results)
    assert "estimates no accuracy on ImageNet" in (context.results / "report.html").read_text()
