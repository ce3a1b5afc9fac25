"""The regression check finds what it should and nothing else: extra passes, slower loops, copies of the batch."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
import torch
import typer

from benchmarks import regression
from benchmarks.cases import BenchmarkCase
from benchmarks.recorded import Recorded, Timed
from benchmarks.regression import check_twice, measure, regressions
from reproduce.errors import UserError
from reproduce.peak_memory import peak_bytes
from xdnn import gradient, integrated_gradients

from conftest import small_cnn  # isort: skip

IMAGES = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
TARGETS = torch.zeros(8, dtype=torch.int64)
STEPS = 16


def ig_case(**changes) -> BenchmarkCase:
    net = small_cnn().float()

    def bare():
        for _ in range(STEPS):
            gradient(net, IMAGES, TARGETS)

    honest = BenchmarkCase(
        "ig", lambda: integrated_gradients(net, IMAGES, TARGETS, steps=STEPS, chunk=64), bare, lambda: None, net
    )
    return replace(honest, **changes)


@pytest.fixture(scope="module")
def baseline():
    torch.set_num_threads(1)
    runs = [measure([ig_case()])["ig"] for _ in range(4)]
    return {"ig": runs[0] | {"ratios": [run["ratio"] for run in runs]}}


def test_an_extra_pass_is_named(baseline):
    net = ig_case().model
    slower = ig_case(run=lambda: integrated_gradients(net, IMAGES, TARGETS, steps=STEPS + 1, chunk=64), model=net)
    (sentence,) = check_twice([slower], baseline)
    assert sentence.startswith(
        "ig: makes 136 forward passes, the baseline 128; makes 136 backward passes, the baseline 128"
    )


def test_a_slower_loop_is_named_with_its_factor():
    """On recorded numbers, so that a busy machine cannot decide the test; `make bench-self-test` does it on the clock."""
    usual = {"ratios": [0.95, 1.0, 1.05], "peak_bytes": 100, "forward": 128, "backward": 128}

    def said(ratio):
        return regressions({"ig": {"ratio": ratio, "peak_bytes": 100, "forward": 128, "backward": 128}}, {"ig": usual})

    assert said(1.6) == {"ig": "ig: takes 1.60 times its reference, usually 1.00: 1.60 times slower (limit 1.31)"}
    assert said(1.2) == {}


def test_a_copy_of_the_batch_is_named(baseline):
    honest = ig_case()

    def copies():
        kept = IMAGES.repeat(64, 1, 1, 1)
        honest.run()
        return kept

    (sentence,) = check_twice([replace(honest, run=copies)], baseline)
    assert "MiB more at its peak than the baseline's" in sentence


def test_a_suspect_is_measured_again_before_it_fails(baseline, monkeypatch):
    """A hiccup in the first measurement only."""
    real, measured = regression.measure, []

    def hiccup(entries, rounds):
        out = real(entries, 2)
        measured.append(len(entries))
        if len(measured) == 1:
            out["ig"]["ratio"] = 100.0
        else:
            out["ig"]["ratio"] = baseline["ig"]["ratios"][0]
        return out

    monkeypatch.setattr(regression, "measure", hiccup)
    assert check_twice([ig_case()], baseline) == [] and measured == [1, 1]


def test_a_wrong_result_is_not_timed():
    def wrong():
        raise AssertionError("relative L1 0.3")

    with pytest.raises(AssertionError, match="relative L1"):
        measure([ig_case(check=wrong)])


def test_a_case_without_a_baseline_says_how_to_record_one(baseline):
    new = replace(ig_case(), name="new")
    assert regressions(measure([new]), baseline)["new"] == "new has no baseline; record one with `make bench-record`"


def test_peak_bytes_are_exact():
    def call():
        first = torch.zeros(1_000, 1_000)
        second = first + 1
        del first
        return second * 2

    assert peak_bytes(call) == pytest.approx(8_000_000, abs=1_000)


# --- baselines of several CPUs, on measurements that are made up ---


@dataclass
class Machine:
    """What a measurement finds on this machine; ``count`` says how many there were."""

    ratio: float = 1.0
    found: dict[str, int] = field(default_factory=lambda: {"forward": 128, "backward": 128, "peak_bytes": 100})
    count: int = 0

    def measure(self, cases: Sequence[BenchmarkCase], rounds: int = 5):
        self.count += bool(cases)
        return {case.name: {"ratio": self.ratio, "seconds": 0.1} | self.found for case in cases}


def check(capsys) -> tuple[int, str]:
    """Exit status and output of the check."""
    with pytest.raises(typer.Exit) as ended:
        regression.check()
    return ended.value.exit_code, capsys.readouterr().out


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Machine:
    """A machine with an AMD CPU, and a tracked baseline of an Intel CPU alone, on which the ratio is 3."""
    fake = Machine()
    case = ig_case()
    tracked = Recorded(1, 5, {"ig": dict(fake.found)}, {"Intel": {"ig": Timed([2.9, 3.0], 0.2)}})
    tracked.write(tmp_path / "baseline.json")
    monkeypatch.setattr(regression, "BASELINE", tmp_path / "baseline.json")
    monkeypatch.setattr(regression, "FIRST_RUNS", tmp_path / "cache" / "first-runs.json")
    monkeypatch.setattr(regression, "benchmark_cases", lambda: [case])
    monkeypatch.setattr(regression, "measure", fake.measure)
    monkeypatch.setattr(regression, "cpu", lambda: "AMD")
    return fake


def test_a_cpu_without_limits_is_compared_with_its_first_run_and_not_with_another_cpus(machine, capsys):
    status, said = check(capsys)
    assert status == 0 and machine.count == regression.FIRST_REPETITIONS + 1
    assert "no limits are recorded for CPU AMD: this first run of 1 benchmark cases becomes its baseline in " in said
    assert "first-runs.json; run `make bench-check` again after a change" in said
    machine.ratio, machine.count = 1.5, 0  # far below the Intel CPU's limit
    status, said = check(capsys)
    assert status == 1 and machine.count == 2
    assert "no limits are recorded for CPU AMD: limits of its first run, kept in " in said
    assert "slower: ig: takes 1.50 times its reference, usually 1.00: 1.50 times slower (limit 1.25)" in said


def test_a_cpu_with_limits_makes_no_first_run(machine, capsys, monkeypatch):
    monkeypatch.setattr(regression, "cpu", lambda: "Intel")
    machine.ratio = 3.5
    status, said = check(capsys)
    assert status == 0 and machine.count == 1 and not regression.FIRST_RUNS.exists()
    assert said.startswith("limits of Intel, recorded in ") and "baseline.json" in said
    machine.ratio = 4.0
    assert check(capsys)[0] == 1


def test_passes_and_peak_bytes_are_the_tracked_ones_even_in_a_first_run(machine, capsys):
    machine.found = {"forward": 136, "backward": 128, "peak_bytes": 100 + 2**20}
    status, said = check(capsys)
    assert status == 1 and "ig: makes 136 forward passes, the baseline 128; needs 1.0 MiB more at its peak" in said
    assert check(capsys)[0] == 1  # nor has the first run made them usual


def test_a_case_that_a_first_run_lacks_is_added_to_it_and_the_others_stay(machine, capsys, monkeypatch):
    check(capsys)
    kept = json.loads(regression.BASELINE.read_text())
    kept["cases"]["new"] = kept["cases"]["ig"]
    regression.BASELINE.write_text(json.dumps(kept))
    monkeypatch.setattr(regression, "benchmark_cases", lambda: [ig_case(), replace(ig_case(), name="new")])
    machine.ratio = 1.2
    status, said = check(capsys)
    assert status == 0 and "this first run of 1 benchmark cases" in said
    ratios = json.loads(regression.FIRST_RUNS.read_text())["machines"]["AMD"]
    assert ratios["ig"]["ratios"] == [1.0] * 3 and ratios["new"]["ratios"] == [1.2] * 3


def test_a_record_replaces_this_cpus_ratios_and_keeps_the_others(machine, capsys):
    machine.found |= {"forward": 120}
    for machine.ratio in (1.0, 2.0):
        regression.record()
    kept = json.loads(regression.BASELINE.read_text())
    assert {name: set(found["ig"]["ratios"]) for name, found in kept["machines"].items()} == {
        "Intel": {2.9, 3.0},
        "AMD": {2.0},
    }
    assert kept["cases"]["ig"] == {"forward": 120, "backward": 128, "peak_bytes": 100}
    assert check(capsys)[0] == 0 and not regression.FIRST_RUNS.exists()


@pytest.mark.parametrize("text", ["", "[]", '{"threads": 1, "rounds": 5, "cases": {"ig": {"ratios": [1.0]}}}'])
def test_a_damaged_or_older_file_is_named_with_the_way_out(machine, text):
    regression.FIRST_RUNS.parent.mkdir()
    regression.FIRST_RUNS.write_text(text)
    with pytest.raises(UserError, match=r"first-runs.json is damaged, or from before .*; delete it, and the next"):
        regression.check()
    regression.BASELINE.write_text(text)
    for command in (regression.check, regression.record):
        with pytest.raises(UserError, match=r"baseline.json is damaged, or from before .*; restore it with git, or"):
            command()


def test_the_tracked_baseline_can_be_read_and_has_every_case():
    tracked = regression._tracked()
    assert tracked.machines
    assert {case.name for case in regression.benchmark_cases()} <= tracked.cases.keys()
