"""The regression check finds what it should and nothing else: extra passes, slower loops, copies of the batch."""

from dataclasses import replace

import pytest
import torch

from benchmarks import regression
from benchmarks.cases import BenchmarkCase
from benchmarks.regression import check_twice, measure, regressions
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
