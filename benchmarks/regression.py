"""The regression check: ratios taken in one run, passes counted, peak bytes; never seconds of one machine against another's.

python -m benchmarks.regression check       compare with the baseline; a suspect is measured once more before it fails
python -m benchmarks.regression record      measure ten times and write this CPU's baseline: a commit of its own
python -m benchmarks.regression self-test   three slowdowns must be found, and nothing where nothing changed, idle or busy

Ratios differ between CPUs too, so benchmarks/baseline.json holds those of each CPU that it was recorded on. On any other
CPU the check's first run becomes the baseline, kept in .cache/benchmarks/first-runs.json. Passes and peak bytes are the
same on every CPU, and always compared with benchmarks/baseline.json.

pytest-benchmark keeps and compares seconds: `make bench`, `make bench BASE=<revision>`, `make bench-history`.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import typer

from benchmarks.cases import BATCH, STEPS, BenchmarkCase, benchmark_cases
from benchmarks.recorded import Recorded, Timed, read, shown
from reproduce.errors import UserError
from reproduce.paths import CACHE
from reproduce.peak_memory import peak_bytes
from reproduce.provenance import cpu
from xdnn import gradient
from xdnn.allocator import keep_freed_memory
from xdnn.passes import count_passes

BASELINE = Path(__file__).resolve().parent / "baseline.json"
FIRST_RUNS = CACHE / "benchmarks" / "first-runs.json"  # of CPUs that BASELINE has no ratios of
THREADS = 1  # one thread: what a second process does on the other core then matters least
ROUNDS = 5  # interleaved; the fastest of each side counts
REPETITIONS = 10  # measurements behind a baseline, and checks of the self-test
FIRST_REPETITIONS = 3  # measurements behind a first run, which somebody waits for
MARGIN = 1.25  # a ratio fails above the largest of the baseline's repetitions times this
PEAK_MARGIN = 1.1  # peak bytes are exact on one machine and differ a little between builds

NOTHING = Recorded(THREADS, ROUNDS, {}, {})

Measurement = dict[str, dict[str, float]]
Baseline = dict[str, dict[str, Any]]
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def measure(cases: Sequence[BenchmarkCase], rounds: int = ROUNDS) -> Measurement:
    """Ratio of the fastest rounds, passes and peak bytes of each case.

    Raises:
        AssertionError: a case's result is wrong, so its time is not reported.
    """
    out: Measurement = {}
    for case in cases:
        case.check()  # also warms both sides up
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(_seconds(case.run))
            theirs.append(_seconds(case.reference))
        out[case.name] = {
            "ratio": min(ours) / min(theirs),
            "seconds": min(ours),
            "peak_bytes": peak_bytes(case.run),
        }
        if case.model is not None:
            with count_passes(case.model) as passes:
                case.run()
            out[case.name] |= {"forward": passes.forward, "backward": passes.backward}
    return out


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def regressions(measured: Measurement, limits: Baseline) -> dict[str, str]:
    """Case -> what is worse than the baseline, as a sentence; empty where nothing is."""
    out = {}
    for name, values in measured.items():
        if name not in limits:
            out[name] = f"{name} has no baseline; record one with `make bench-record`"
            continue
        expected, said = limits[name], []
        for kind in ("forward", "backward"):
            if values.get(kind) != expected.get(kind):
                said.append(f"makes {values.get(kind):g} {kind} passes, the baseline {expected.get(kind):g}")
        usual, limit = sorted(expected["ratios"])[len(expected["ratios"]) // 2], MARGIN * max(expected["ratios"])
        if values["ratio"] > limit:
            said.append(
                f"takes {values['ratio']:.2f} times its reference, usually {usual:.2f}: "
                f"{values['ratio'] / usual:.2f} times slower (limit {limit:.2f})"
            )
        if values["peak_bytes"] > PEAK_MARGIN * expected["peak_bytes"]:
            more = (values["peak_bytes"] - expected["peak_bytes"]) / 2**20
            said.append(
                f"needs {more:.1f} MiB more at its peak than the baseline's {expected['peak_bytes'] / 2**20:.1f} MiB"
            )
        if said:
            out[name] = f"{name}: " + "; ".join(said)
    return out


def check_twice(cases: Sequence[BenchmarkCase], limits: Baseline, rounds: int = ROUNDS) -> list[str]:
    """Measure, and each suspect once more; sentences about what was worse both times."""
    suspects = regressions(measure(cases, rounds), limits)
    again = [case for case in cases if case.name in suspects]
    return list(regressions(measure(again, rounds), limits).values())


def baseline(cases: Sequence[BenchmarkCase]) -> tuple[Baseline, str]:
    """What measurements are compared with on this CPU, and a sentence that says where its ratios are from.

    Where no ratios of this CPU are tracked, they are those of the first run on it, which is made now if there was none.
    """
    tracked = _tracked()
    if cpu() in tracked.machines:
        machine, said = tracked.machines[cpu()], f"limits of {cpu()}, recorded in {shown(BASELINE)}"
    else:
        machine, said = _first_run(cases)
    known = [name for name in tracked.cases if name in machine]
    return {name: {**tracked.cases[name], "ratios": machine[name].ratios} for name in known}, said


def _tracked() -> Recorded:
    if not BASELINE.exists():
        return NOTHING
    return read(BASELINE, "restore it with git, or delete it and run `make bench-record`")


def _first_run(cases: Sequence[BenchmarkCase]) -> tuple[dict[str, Timed], str]:
    """The first times of this CPU, measured and kept for those cases that have none yet, and a sentence about them."""
    kept = NOTHING
    if FIRST_RUNS.exists():
        kept = read(FIRST_RUNS, "delete it, and the next `make bench-check` measures it again")
    machine = kept.machines.get(cpu(), {})
    new = [case for case in cases if case.name not in machine]
    if not new:
        return machine, f"no limits are recorded for CPU {cpu()}: limits of its first run, kept in {shown(FIRST_RUNS)}"
    machine = machine | times([measure(new) for _ in range(FIRST_REPETITIONS)])
    replace(kept, machines=kept.machines | {cpu(): machine}).write(FIRST_RUNS)
    return machine, (
        f"no limits are recorded for CPU {cpu()}: this first run of {len(new)} benchmark cases becomes its baseline in "
        f"{shown(FIRST_RUNS)}; run `make bench-check` again after a change"
    )


def times(runs: Sequence[Measurement]) -> dict[str, Timed]:
    """Case -> its times in all measurements."""
    return {
        name: Timed([round(run[name]["ratio"], 4) for run in runs], round(min(run[name]["seconds"] for run in runs), 5))
        for name in runs[0]
    }


@app.callback()
def settle() -> None:
    """The process as the command line runs studies in, but for the threads."""
    torch.set_num_threads(THREADS)
    keep_freed_memory()


@app.command()
def check() -> None:
    """Exit 1 with a sentence per case that is worse than the baseline."""
    cases = benchmark_cases()
    limits, said = baseline(cases)
    print(said)
    worse = check_twice(cases, limits)
    for sentence in worse:
        print(f"slower: {sentence}")
    print(f"{len(worse)} of {len(cases)} benchmark cases are worse than the baseline")
    raise typer.Exit(int(bool(worse)))


@app.command()
def record() -> None:
    """Measure ten times and write this CPU's baseline with every repetition, so that its spread can be seen.

    Other CPUs keep their ratios; passes and peak bytes are the same everywhere, so the new ones hold for all.
    """
    kept = _tracked()
    runs = [measure(benchmark_cases()) for _ in range(REPETITIONS)]
    counted = ("forward", "backward", "peak_bytes")
    cases = {name: {kind: found[kind] for kind in counted if kind in found} for name, found in runs[0].items()}
    machine = times(runs)
    Recorded(THREADS, ROUNDS, cases, kept.machines | {cpu(): machine}).write(BASELINE)
    print(f"limits of {cpu()}, recorded in {shown(BASELINE)}")
    for name, found in machine.items():
        print(f"{name}: {min(found.ratios):.3f} to {max(found.ratios):.3f}")


@app.command()
def self_test(runs: int = REPETITIONS) -> None:
    """Exit 1 if a slowdown is missed, or if one is found where nothing changed, idle or beside a busy process."""
    limits, said_of_them = baseline(benchmark_cases())
    print(said_of_them)
    missed = 0
    for what, slow in slowdowns().items():
        said = check_twice([slow], limits)
        missed += not said
        print(f"{what}: {said[0] if said else 'MISSED'}")
    false = 0
    for where, busy in (("idle", False), ("beside a busy process", True)):
        with _busy_process(busy):
            said = [sentence for _ in range(runs) for sentence in check_twice(benchmark_cases(), limits)]
        false += len(said)
        print(f"{where}: {len(said)} false findings in {runs} checks", *said, sep="\n  ")
    raise typer.Exit(int(missed + false > 0))


def slowdowns() -> dict[str, BenchmarkCase]:
    """What the check must find -> the case of Integrated Gradients so slowed down."""
    case = next(case for case in benchmark_cases() if "captum" in case.name)
    return {
        "an extra gradient": replace(case, run=partial(_extra_pass, case)),
        "a loop 1.6 times slower": replace(case, run=partial(_slower, case)),
        "a copy of the batch kept at every step": replace(case, run=partial(_copies, case)),
    }


def _extra_pass(case: BenchmarkCase) -> None:
    case.run()
    gradient(case.model, torch.zeros(1, 3, 64, 64), torch.zeros(1, dtype=torch.int64))


def _slower(case: BenchmarkCase) -> None:
    spent = _seconds(case.run)
    start = time.perf_counter()
    while time.perf_counter() - start < 0.6 * spent:
        pass


def _copies(case: BenchmarkCase) -> None:
    kept = [torch.zeros(BATCH, 3, 64, 64) for _ in range(STEPS)]
    case.run()
    kept.clear()


@contextmanager
def _busy_process(wanted: bool) -> Iterator[None]:
    """A process that keeps a core busy within the block."""
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if wanted else None
    try:
        yield
    finally:
        if other:
            other.kill()
            other.wait()


if __name__ == "__main__":
    try:
        app()
    except UserError as error:
        sys.exit(str(error))
