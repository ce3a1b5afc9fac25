"""The study of cost: what is timed is warm and alone, passes are counted, and each claim can come out either way."""

from dataclasses import replace

import pytest
import torch

from reproduce import stopwatch
from reproduce.cache import ResultCache
from reproduce.claims import Kind, Outcome, judge
from reproduce.context import Context
from reproduce.datasets import Images
from reproduce.experiment import Experiment
from reproduce.nets import Net
from reproduce.scales import SCALES
from reproduce.stopwatch import Stopwatch, seconds
from reproduce.studies import cost
from reproduce.studies.cost import EG, IG, XG, Measurement, MethodCost, Protocol
from reproduce.tasks import Result
from xdnn import METHODS
from xdnn.passes import Passes

X = Net("alexnet", "x", "blobs", 0.25, "trained", 0)
REGULAR = replace(X, variant="regular")
PROTOCOL = Protocol(images=2, rounds=1, few_rounds=1, stretch=1, steps=(1, 4), reference_steps=32)
FEW = ("random", "gradient", "input_x_gradient", "x_gradient", IG)
CPU = torch.device("cpu")


@pytest.fixture
def few_methods(monkeypatch):
    monkeypatch.setattr(cost, "METHODS", {name: METHODS[name] for name in FEW})


def measure(model, about):
    class OnCpu:
        device = CPU
        seed = 0

    images = Images(
        torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8),
        torch.tensor([0, 3]),
        (0.5,) * 3,
        (0.2,) * 3,
        classes=5,
    )
    found = cost.measure(model.float(), images, PROTOCOL, Experiment(OnCpu(), about, PROTOCOL, lambda share: None))
    return {entry.method: entry for entry in found.methods}


def test_passes_are_counted_and_x_gradient_is_exact(x_net, few_methods):
    found = measure(x_net, X)
    passes = {name: entry.samples["passes"][0] for name, entry in found.items()}
    assert passes == {
        "gradient": 1,
        "input_x_gradient": 1,
        XG: 1,
        IG: 128,
        "integrated_gradients_1": 1,
        "integrated_gradients_4": 4,
        "integrated_gradients_128_bf16": 128,
        EG: 128,
    }
    assert max(found[XG].samples["error"]) < 1e-5
    assert {name for name, entry in found.items() if "captum" in entry.samples} == {"input_x_gradient", IG, EG}
    assert "over_bound" in found[IG].samples and "over_bound" not in found["integrated_gradients_128_bf16"].samples


def test_a_method_that_is_not_defined_on_a_net_says_why(net, few_methods):
    entry = measure(net, REGULAR)[XG]
    assert entry.samples == {} and entry.reason.endswith("X-Gradient is not defined on it")
    rows = cost.rows([Result(REGULAR, Measurement([entry]), 1.0, {})])
    assert rows["value"].isna().all()
    assert cost.table(rows).lines[0].entries[0] == f"not run: {entry.reason}"


def test_every_method_is_warm_when_the_clock_starts(x_net, few_methods, monkeypatch):
    """Ours and captum's: whatever is timed has run before."""
    run, cold = [], []

    def noting(calls, whose):
        def noted(name, call):
            def run_it():
                run.append((whose, name))
                return call()

            run_it.name = (whose, name)
            return run_it

        return {name: noted(name, call) for name, call in calls.items()}

    ours, theirs, clock = cost.calls, cost.captum_calls, stopwatch.seconds
    monkeypatch.setattr(cost, "calls", lambda *args: noting(ours(*args), "ours"))
    monkeypatch.setattr(cost, "captum_calls", lambda *args, **options: noting(theirs(*args, **options), "captum"))

    def clocked(call, *args):
        if hasattr(call, "name") and call.name not in run:
            cold.append(call.name)
        return clock(call, *args)

    monkeypatch.setattr(stopwatch, "seconds", clocked)
    measure(x_net, X)
    assert len(run) > 2 * len(FEW) and not cold


def test_a_result_of_captums_that_differs_gets_no_time(x_net, few_methods, monkeypatch):
    other = {"input_x_gradient": lambda: torch.ones(2, 3, 16, 16)}
    monkeypatch.setattr(cost, "captum_calls", lambda *args, **options: other)
    assert "captum" not in measure(x_net, X)["input_x_gradient"].samples


def test_times_are_ratios_of_one_round(monkeypatch):
    """A pretended clock: each call returns the seconds that it takes."""
    monkeypatch.setattr(stopwatch, "clocked", lambda call, device: (sum(call()), None))
    watch = Stopwatch(images=2, stretch=1, device=CPU, gradient=lambda: 1.5, row_seconds=lambda: 0.5)
    found = watch.times(lambda: 6.0, lambda: 12.0, Passes(forward=8, backward=8), rounds=2)
    expected = {"relative_time": 4.0, "images_per_second": 1 / 3, "over_bound": 1.5, "captum": 2.0}
    assert found == {name: [pytest.approx(value)] * 2 for name, value in expected.items()}
    assert "over_bound" not in watch.times(lambda: 6.0, None, Passes(forward=8, backward=0), rounds=1)


@pytest.mark.parametrize("of_call, times", [(4, 3), (10, 1), (100, 1), (0, 10)])
def test_short_calls_are_repeated(of_call, times):
    made = []
    seconds(lambda: made.append(1), of_call, 10, CPU)
    assert len(made) == times


def test_what_is_timed_runs_alone_and_once_for_all_trainings(tmp_path):
    context = Context(SCALES["smoke"], ResultCache(tmp_path, {}), tmp_path, seeds=2)
    tasks = cost.STUDY.at(context)
    assert tasks and all(task.alone for task in tasks)
    assert {task.about.seed for task in tasks} == {0}
    assert not any(need.alone for task in tasks for need in task.needs)
    more_threads = cost.STUDY.at(replace(context, threads=context.threads + 1))
    assert tasks[0].digest != more_threads[0].digest  # times depend on them


# --- claims ---


def result(net: Net, **methods: dict[str, list[float]]) -> Result:
    return Result(net, Measurement([MethodCost(name, samples) for name, samples in methods.items()]), 1.0, {})


def costs(passes: float, error: list[float], over_bound: float) -> dict[str, list[float]]:
    return {"passes": [passes], "peak_mib": [1.0], "error": error, "over_bound": [over_bound] * 3}


def outcomes(*results: Result) -> dict[str, Outcome]:
    return {f.claim.id: f.outcome for f in judge(cost.STUDY.claims, cost.rows(results))}


def test_the_claims_hold_where_costs_are_as_theory_says():
    # one image of sixteen beyond the limit by a rounded node: the mean decides
    found = outcomes(
        result(
            X,
            **{
                XG: costs(1, [1e-7] * 15 + [1.2e-3], 1.0),
                IG: costs(128, [0.0] * 16, 1.1),
                EG: costs(128, [0.7] * 16, 1.1),
            },
        )
    )
    assert set(found.values()) == {Outcome.REPRODUCED}


def test_other_costs_refute_them():
    found = outcomes(
        result(X, **{XG: costs(2, [0.01] * 16, 2.0), IG: costs(129, [0.0] * 16, 1.2), EG: costs(128, [0.7] * 16, 1.2)})
    )
    assert set(found.values()) == {Outcome.NOT_REPRODUCED}


def test_no_claim_of_seconds_is_more_than_one_of_this_machine():
    for claim in cost.STUDY.claims:
        assert (claim.kind is Kind.SPEED) == (
            claim.metric in ("over_bound", "relative_time", "images_per_second", "captum")
        )


def test_every_method_is_named_in_the_figure_once():
    results = [result(net, **{XG: costs(1, [1e-7] * 2, 1.0), IG: costs(128, [0.0] * 2, 1.1)}) for net in (REGULAR, X)]
    figure = cost.figure(cost.rows(results), results)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["X-Gradient", "IG (128)"]
