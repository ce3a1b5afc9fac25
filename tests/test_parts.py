"""Long cells in parts, and several processes on one folder of cells: the tables are the same."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import test_studies
import torch
from rich.console import Console
from test_studies import Log, smoke  # noqa: F401  (a fixture)

from reproduce.cells import Cell, Cells, join
from reproduce.errors import UserError
from reproduce.estimate import estimate
from reproduce.ranks import Rank
from reproduce.runner import run_studies
from reproduce.scales import SCALES
from reproduce.studies import STUDIES, table1

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("contrast", "table1")


def tables(run):
    return [(run.results / f"{name}.csv").read_bytes() for name in NAMES]


def in_folder(run, folder, part=None):
    return replace(run, results=folder, scale=replace(run.scale, part=part))


def test_joining_keeps_the_order_and_sums_the_seconds():
    a = {"hits": [1, 0], "maps": {"x": torch.tensor([1.0])}, "net": {"seed": 0}, "seconds": 2.0}
    b = {"hits": [1], "maps": {"x": torch.tensor([2.0, 3.0])}, "net": {"seed": 0}, "seconds": 1.5}
    whole = join(lambda share: None, a, b)
    assert whole["hits"] == [1, 0, 1] and whole["maps"]["x"].tolist() == [1, 2, 3]
    assert whole["seconds"] == 3.5 and whole["net"] == {"seed": 0}
    with pytest.raises(TypeError, match="mean is a float, not a list or tensor"):
        join(lambda share: None, {"mean": 1.0}, {"mean": 1.0})


@pytest.fixture
def one_thread(monkeypatch):
    """Rounding depends on the number of threads; what is compared here is parts and processes. Few steps, no pictures."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(table1, "IG_STEPS", 4)
    monkeypatch.setattr("reproduce.runner.figures.save", lambda figure, stem: None)
    yield
    torch.set_num_threads(threads)


def test_parts_and_processes_do_not_change_a_table(smoke, one_thread, tmp_path):  # noqa: F811
    """The whole at once; in parts of 16 (the last of 8) by one, two and three processes that fork from here."""
    images = test_studies.SMOKE_IMAGES | {"table1": 40, "mard": 24, "contrast": 40}
    smoke = replace(smoke, scale=replace(smoke.scale, testbeds=(replace(smoke.scale.testbeds[0], images=images),)))
    studies = [STUDIES[name] for name in NAMES]
    run_studies(studies, whole := in_folder(smoke, tmp_path / "whole"), Log())
    trained = {path.name: path for path in smoke.cells.folder.glob("*.pt")}
    kept = [smoke.cells.path(smoke.training(net)).name for net, _ in smoke.nets("table1")]
    for count in (1, 2, 3):
        cells = Cells(tmp_path / f"cells{count}", {})
        for name in kept:  # the same nets, so that only the measuring is compared
            os.link(trained[name], cells.folder / name)
        run = replace(in_folder(smoke, tmp_path / f"results{count}", part=16), cells=cells)
        children = []
        for number in range(count):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    run_studies(studies, run, Console(quiet=True), rank=Rank(number, count))
                    code = 0
                finally:
                    os._exit(code)
            children.append(child)
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * count
        assert tables(run) == tables(whole), f"{count} processes"
        # Two nets; of each of two studies three parts and their join, for both nets.
        assert len(list(cells.folder.glob("*.pt"))) == 2 + 2 * 2 * (3 + 1)
        assert not list(cells.folder.glob("*.claim"))


def test_a_part_is_a_multiple_of_the_batch_that_mard_is_defined_by():
    for scale in SCALES.values():
        assert scale.part is None or scale.part % table1.MARD_BATCH == 0


def test_the_claim_of_a_killed_process_is_free_again(tmp_path):
    cells, cell = Cells(tmp_path, {}), Cell("a", {"a": 1}, lambda tick: {"x": torch.tensor([1])})
    program = """
import sys, time
from pathlib import Path
from reproduce.cells import Cell, Cells
with Cells(Path(sys.argv[1]), {}).claim(Cell("a", {"a": 1}, None)) as ours:
    print(ours, flush=True)
    time.sleep(600)
"""
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert child.stdout.readline() == "True\n"
    with cells.claim(cell) as ours:
        assert not ours
    child.kill()
    child.communicate()
    with cells.claim(cell, wait=True) as ours:
        assert ours


def test_the_first_process_waits_for_a_claimed_cell_and_takes_it_over_from_one_that_died(tmp_path, smoke):  # noqa: F811
    """A child claims the first measuring cell and dies; the run computes it then. Another process would leave it be."""
    study = STUDIES["contrast"]
    first = study.cells(smoke)[0]
    for cell in first.closure()[:-1]:
        smoke.cells.get(cell)
    child = os.fork()
    if child == 0:
        with smoke.cells.claim(first):
            (tmp_path / "claimed").touch()
            time.sleep(1.5)
            os._exit(9)
    while not (tmp_path / "claimed").exists():
        time.sleep(0.02)
    run_studies([study], smoke, log := Log())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert smoke.cells.has(first) and sum(first.name in line for line in log.lines) == 1
    assert (smoke.results / "contrast.csv").is_file()


def test_force_by_several_processes_is_refused(smoke):  # noqa: F811
    with pytest.raises(UserError, match="--force with several processes .* fresh folder with --cells"):
        run_studies([STUDIES["contrast"]], smoke, Log(), force=True, rank=Rank(0, 2))


def test_images_cap_every_study():
    scale = SCALES["paper"].first(100)
    counts = scale.testbeds[0].images
    assert (
        counts["table1"] == counts["contrast"] == 100
        and max(counts.values()) == 100
        and SCALES["paper"].testbeds[0].images["table1"] == 50_000
    )
    with pytest.raises(UserError, match="--images must be at least 1, got 0"):
        scale.first(0)


def test_an_estimate_draws_the_line_through_two_small_runs(smoke, monkeypatch, tmp_path):  # noqa: F811
    """A pretended clock: 2 s and 0.5 s per image and cell. 40 images, of which nothing is finished: 22 s for each net."""
    images = test_studies.SMOKE_IMAGES | {"contrast": 40}
    smoke = replace(smoke, scale=replace(smoke.scale, testbeds=(replace(smoke.scale.testbeds[0], images=images),)))
    smoke = replace(in_folder(smoke, tmp_path), cells=Cells(tmp_path / "cells", {}))
    for net, _ in smoke.nets("contrast"):
        untrained = {"weights": smoke._untrained(net).state_dict(), "log": []}
        smoke.cells.write(smoke.training(net), untrained | {"seconds": 99.0})
    get = Cells.get

    def pretended(cells, cell, *args, **options):
        value = get(cells, cell, *args, **options)
        return value | {"seconds": 2 + 0.5 * cell.key["images"]} if "study" in cell.key else value

    monkeypatch.setattr(Cells, "get", pretended)
    monkeypatch.setattr("reproduce.runner.figures.save", lambda figure, stem: None)
    (found,) = estimate([STUDIES["contrast"]], smoke, 4, Console(quiet=True))
    count = len(smoke.nets("contrast"))
    assert (found.study, found.images, found.guessed) == ("contrast", 40 * count, 0)
    assert found.seconds == pytest.approx(22 * count)
    (left,) = estimate([STUDIES["contrast"]], replace(smoke, scale=smoke.scale.first(8)), 4, Console(quiet=True))
    assert (left.images, left.seconds) == (0, 0)  # measuring finished it


def test_every_study_can_be_estimated_and_what_does_not_grow_is_not_computed(smoke, monkeypatch, tmp_path):  # noqa: F811
    """Each piece of the embedded scale that grows with the images has its twin among the few; the others are guesses."""
    computed = []

    def pretended(cells, cell, *args, **options):
        computed.append(cell.name)
        return {"seconds": 1.0}

    monkeypatch.setattr(Cells, "get", pretended)
    run = replace(smoke, scale=SCALES["embedded"], cells=Cells(tmp_path / "cells", {}))
    found = {e.study: e for e in estimate(list(STUDIES.values()), run, 2, Console(quiet=True))}
    assert list(found) == list(STUDIES)
    for name in ("nhanes", "decoy", "beyond-images"):
        assert not any(done.startswith(name) for done in computed)
        assert found[name].seconds == 0 and found[name].guessed > 0
    assert found["table1"].images == 6 * 80  # of its 1,000 each, those that get Integrated Gradients
    assert found["table2"].images == 2 * (2 * 500 + 4 * 200 + 2 * 4)  # for the maps, then for the metrics
    assert found["table2"].seconds == pytest.approx(16.0)  # a second for each cell, however many images
