"""Every study runs end to end on a smoke scale: a tiny data set, nets trained for one epoch, all outputs, claims, resuming."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from rich.console import Console

from reproduce import datasets, scales
from reproduce.cells import Cells
from reproduce.datasets import Dataset, Images, Store
from reproduce.datasets import decoy as decoy_data
from reproduce.datasets import nhanes as tables
from reproduce.run import Run
from reproduce.runner import run_studies
from reproduce.scales import SCALES, PriorAmount, Scale
from reproduce.studies import (
    STUDIES,
    axioms,
    beyond_images,
    convergence,
    decoy,
    ground_truth,
    mfaba_table2,
    nhanes,
    steps,
    table1,
)
from reproduce.studies.study import Claim, select
from reproduce.training import compact, priors, right_reasons, supervised

ROOT = Path(__file__).resolve().parent.parent


def blobs(split: str, *_: object) -> Images:
    """Two classes, a bright square left or right: learned in one epoch."""
    generator = torch.Generator().manual_seed(int(split == "test"))
    count = 512 if split == "train" else 320
    targets = torch.randint(2, (count,), generator=generator)
    pixels = torch.randint(0, 60, (count, 3, 64, 64), generator=generator, dtype=torch.uint8)
    masks = torch.zeros(count, 64, 64, dtype=torch.bool)
    for image, mask, target in zip(pixels, masks, targets, strict=True):
        mask[20:40, 8 + 32 * int(target) : 24 + 32 * int(target)] = True
        image[:, mask] += 180
    return Images(pixels, targets, (0.2,) * 3, (0.2,) * 3, classes=2, masks=masks)


SMOKE_IMAGES = {
    "table1": 64,
    "mard": 32,
    "convergence": 2,
    "contrast": 64,
    "gallery": 2,
    "table2": 12,
    "ground-truth": 12,
    "cost": 2,
    "mfaba-table1": 4,
    "mfaba-table2": 2,
    "axioms": 1,
    "steps": 2,
}
SMOKE = Scale(
    "smoke", "for tests", (scales.Testbed("blobs", {"alexnet": 0.125}, "trained", SMOKE_IMAGES),),
    priors=PriorAmount(("people",), repetitions=3, sweep_repetitions=2, references=2, decoy_seeds=2),
)  # fmt: skip


def people() -> tables.Table:
    """300 people, six columns, of which two decide."""
    x = torch.randn(300, 6, generator=torch.Generator().manual_seed(0))
    return tables.Table("people", x.numpy(), (x[:, 0] + x[:, 1] > 0).long().numpy(), tuple("abcdef"))


AXIOM_METHODS = (  # a method of each kind; all of them are in test_axioms
    "gradient",
    "expected_gradients_1",
    "input_x_gradient",
    "x_gradient",
    "integrated_gradients_128",
    "idgi_128",
)


@pytest.fixture
def smoke(tmp_path, monkeypatch):
    monkeypatch.setitem(
        datasets.DATASETS, "blobs", Dataset(blobs, lambda store: {"blobs": 1}, 64, 2, "made here", ("train", "test"))
    )
    monkeypatch.setitem(supervised.RECIPES, ("blobs", "alexnet"), supervised.Recipe(epochs=2, learning_rate=2e-3))
    monkeypatch.setattr(mfaba_table2, "EQUAL_BATCH", 1)
    monkeypatch.setattr(mfaba_table2, "PUBLISHED_BATCH", dict.fromkeys(mfaba_table2.METHODS, 2))
    monkeypatch.setattr(beyond_images, "SEEDS", 1)
    monkeypatch.setattr(beyond_images, "JUDGED", 16)
    monkeypatch.setattr(compact, "EPOCHS", 1)
    monkeypatch.setattr(table1, "FLOAT64_IMAGES", 2)  # float64 convolutions are slow
    monkeypatch.setattr(convergence, "STEPS", (1, 2, 4, 8, 16, 128))
    monkeypatch.setattr(convergence, "REFERENCE_SAMPLES", 128)
    monkeypatch.setattr(ground_truth, "SENSITIVITY_IMAGES", 1)
    monkeypatch.setitem(tables.TABLES, "people", tables.TableSource(lambda store: people(), {"people": 1}, "made here"))
    monkeypatch.setattr(nhanes, "STRENGTHS", (0.1, 1.0))
    monkeypatch.setattr(nhanes, "CELL_REPETITIONS", 2)
    monkeypatch.setattr(priors, "HIDDEN", (16, 8, 4))
    monkeypatch.setattr(mfaba_table2, "LONG", 1e-3)
    few = {name: m for name, m in axioms.METHODS.items() if name in AXIOM_METHODS}  # all of them: test_axioms
    for name, small in {"METHODS": few, "FUNCTIONS": 1, "NETS": 1, "NET_DRAWS": 2}.items():
        monkeypatch.setattr(axioms, name, small)
    for name, small in {"GRID": 120, "EQUAL": (1, 2, 10, 20, 120), "GAUSS": (1, 2, 8, 32)}.items():
        monkeypatch.setattr(steps, name, small)
    monkeypatch.setattr(priors, "EPOCHS", 10)
    monkeypatch.setattr(decoy, "STRENGTHS", (10.0,))
    monkeypatch.setattr(right_reasons, "EPOCHS", 1)
    monkeypatch.setattr(decoy_data, "PER_CLASS", {"train": (0, 20), "validation": (200, 210), "test": (400, 410)})
    return Run(SMOKE, Cells(tmp_path / "cells", {}), tmp_path / "results" / "smoke")


class Log(Console):
    """A console that keeps what it prints."""

    def __init__(self):
        super().__init__(file=None, quiet=True)
        self.lines = []

    def print(self, *things, **options):
        self.lines += [str(thing) for thing in things]


def test_all_studies_write_all_their_files_and_a_second_run_computes_nothing(smoke):
    run_studies(list(STUDIES.values()), smoke, log := Log())
    assert any(re.match(r"\[1/\d+\] train alexnet regular: \d+ s", line) for line in log.lines)
    for name, study in STUDIES.items():
        for suffix in (".csv", ".json", ".md", ".tex", ".png", ".pdf"):
            assert (smoke.results / f"{name}{suffix}").stat().st_size > 0, f"{name}{suffix}"
        rows = pd.read_csv(smoke.results / f"{name}.csv")
        assert {"model", "variant", "metric", "value", "low", "high", "n"} <= set(rows)
        found = rows.dropna(subset="value")  # an entry without a value has a reason instead
        assert ((found["low"] <= found["value"]) & (found["value"] <= found["high"])).mean() > 0.99
        assert "reported" not in rows, "a small scale must not print its numbers beside the paper's"
        record = json.loads((smoke.results / f"{name}.json").read_text())
        assert len(record["claims"]) == len(study.claims)
        assert {"commit", "dirty", "packages", "hardware", "threads", "seed", "date"} <= set(record["provenance"])
        assert record["data"] and all(len(digest) == 64 for digest in record["data"].values())
        for slide in record["slides"]:
            assert all(len(row["captions"]) == len(slide["positions"]) for row in slide["rows"])
    claims = pd.read_csv(smoke.results / "claims.csv", keep_default_na=False)
    assert list(claims) == ["study", "claim", "source", "reported", "measured", "verdict"]
    assert claims["verdict"].str.fullmatch("reproduced|not reproduced|not run: (no|Inception-v3) .*").all()
    report = (smoke.results / "report.md").read_text()
    page = (smoke.results / "report.html").read_text()
    assert all(study.title in report and f'id="{study.name}-table"' in page for study in STUDIES.values())

    before = {path: path.stat().st_mtime_ns for path in smoke.results.iterdir() if path.suffix not in (".md", ".html")}
    run_studies(list(STUDIES.values()), smoke, log := Log())
    assert log.lines == []
    assert all(path.stat().st_mtime_ns == when for path, when in before.items() if path.name != "claims.csv")


def test_the_central_claims_hold_on_the_smoke_nets_too(smoke):
    run_studies([STUDIES["table1"], STUDIES["contrast"]], smoke, Log())
    rows = pd.read_csv(smoke.results / "table1.csv").set_index(["variant", "metric"])["value"]
    assert rows["x", "mard"] < 0.1 < 5 < rows["regular", "mard"]
    assert rows["x", "mard_float64"] < 1e-9
    assert rows["x", "top1"] > 90
    changed = pd.read_csv(smoke.results / "contrast.csv").query("metric == 'predictions_changed' and variant == 'x'")
    assert (changed["value"] == 0).all()


def test_force_computes_the_study_again_and_keeps_the_trained_nets(smoke):
    run_studies([STUDIES["contrast"]], smoke, Log())
    run_studies([STUDIES["contrast"]], smoke, log := Log(), force=True)
    assert [line.split(": ")[0] for line in log.lines[:2]] == [
        "[1/2] contrast alexnet regular",
        "[2/2] contrast alexnet x",
    ]


def test_the_same_seed_gives_the_same_table_and_another_seed_another(smoke, tmp_path):
    study = STUDIES["table1"]
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run = replace(smoke, cells=Cells(tmp_path / name, {}), results=tmp_path / name / "results", seed=seed)
        run_studies([study], run, Log())
    tables = [(tmp_path / name / "results" / "table1.csv").read_text() for name in "abc"]
    assert tables[0] == tables[1] != tables[2]


def test_an_interrupted_run_goes_on(smoke):
    study = STUDIES["contrast"]
    trained = smoke.cells.get(smoke.training(smoke.nets("contrast")[0][0]))
    assert trained["log"][-1]["train_top1"] > 0.5
    run_studies([study], smoke, log := Log())
    assert not any("train alexnet regular" in line for line in log.lines)
    assert any("train alexnet x" in line for line in log.lines)


def test_data_that_is_not_there_is_a_reason_not_a_hole(smoke, tmp_path):
    scale = Scale(
        "far", "for tests", (scales.Testbed("imagenet-sample", {"alexnet": 1.0}, "released", SMOKE_IMAGES),), True
    )
    run = replace(smoke, scale=scale, results=tmp_path / "far", store=Store(tmp_path / "data"))
    run_studies([STUDIES["table1"]], run, log := Log())
    claims = pd.read_csv(run.results / "claims.csv")
    assert (claims["verdict"] == "not run: imagenet-sample is not there (make data SCALE=subset)").all()
    assert "not run" in (run.results / "report.md").read_text()
    assert any("imagenet-sample" in line for line in log.lines)


def test_a_claim_that_does_not_hold_is_not_reproduced(smoke):
    false = Claim("The moon is a cheese", "nowhere", "", lambda rows: (False, "rock"))
    study = replace(STUDIES["contrast"], claims=(false,))
    run_studies([study], smoke, Log())
    claims = pd.read_csv(smoke.results / "claims.csv")
    assert claims["verdict"].tolist() == ["not reproduced"]


def test_reported_values_stand_beside_ours_only_where_the_scale_estimates_them(smoke):
    for weights in ("untrained", "trained"):  # trained here, on other data: nothing of the paper's stands beside it
        beds = (replace(SMOKE.testbeds[0], weights=weights),)
        scale = replace(SMOKE, estimates_paper=True, testbeds=beds)
        run_studies([STUDIES["table1"]], replace(smoke, scale=scale), Log())
        rows = pd.read_csv(smoke.results / "table1.csv").set_index(["variant", "metric"])["reported"]
        if weights == "untrained":
            assert rows["regular", "top5"] == 79.21 and rows["x", "mard"] == 1.2
            assert "in the paper" in (smoke.results / "table1.md").read_text()
        else:
            assert rows.isna().all()


def test_a_method_that_mixes_its_batch_is_not_given_a_time(smoke, monkeypatch):
    def mixed(model, inputs, targets):
        return inputs * inputs.mean(0, keepdim=True)

    net, _ = smoke.nets("mfaba-table2")[0]
    model, images = smoke._untrained(net).eval(), smoke.images("blobs", count=2)
    inputs = images.inputs()
    for method, good in ((mixed, False), (lambda model, x, t: x.square(), True)):
        monkeypatch.setitem(mfaba_table2.METHODS, "gradient", ("SM", method, {}))
        assert mfaba_table2._time(smoke, "gradient", model, inputs, images)["good"] == good
    rows = mfaba_table2.rows([{"net": {"dataset": "blobs", "model": "alexnet", "variant": "regular"}, "refused": {}, "timed": [
        {"method": "gradient", "batching": "equal", "seconds": [1.0], "plain": [1.0], "forward": 1, "backward": 1, "batch": 2, "good": False}
    ]}])  # fmt: skip
    assert set(rows["metric"]) == {"forward_passes", "backward_passes", "refused"}


# --- the house ---


def test_every_study_is_a_make_target_and_in_every_order():
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^STUDIES := (.*)$", makefile, re.M)[1].split() == list(STUDIES)


def test_every_scale_names_known_models_and_studies():
    for scale in SCALES.values():
        for bed in scale.testbeds:
            for key in bed.images:
                name = key if isinstance(key, str) else key[0]
                assert name in STUDIES or name == "mard", name


def test_select_says_what_is_missing():
    from reproduce.studies.study import NotRun

    with pytest.raises(NotRun, match="no rows with variant = x"):
        select(pd.DataFrame({"variant": ["regular"]}), variant="x")
