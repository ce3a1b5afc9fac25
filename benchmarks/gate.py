"""The timing gate: ratios taken in one run, passes counted, peak bytes; never seconds of one machine against another's.

python -m benchmarks.gate check            compare with benchmarks/baseline.json; a suspect is measured once more before it fails
python -m benchmarks.gate record           measure ten times and write the baseline: a commit of its own
python -m benchmarks.gate prove            slow the code down in three ways and show that it is caught
python -m benchmarks.gate alarms           check ten times on the idle machine and ten times beside a busy process
python -m benchmarks.gate history          draw the ratios of all checks that were kept
python -m benchmarks.gate measure          one measurement as JSON on standard output
python -m benchmarks.gate versus REV       this working tree against a revision, alternately
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.contests import BATCH, STEPS, Contest, contests
from reproduce.attributions import gradient
from reproduce.attributions.engine import keep_freed_memory
from reproduce.metrics.memory import peak_bytes
from reproduce.metrics.statistics import mean_interval
from reproduce.metrics.timing import counted
from reproduce.provenance import commit
from reproduce.report import figures

ROOT = Path(__file__).resolve().parent.parent
BASELINE = ROOT / "benchmarks" / "baseline.json"
THREADS = 1  # one thread: what a second process does on the other core then matters least
ROUNDS = 5  # interleaved; the fastest of each side counts
REPETITIONS = 10  # measurements behind a baseline
KEPT = ROOT / ".cache" / "timings"  # what each check measured, for the history
MARGIN = 1.25  # a ratio fails above the largest of the baseline's repetitions times this
PEAK_MARGIN = 1.1  # peak bytes are exact on one machine and differ a little between builds

Measurement = dict[str, dict[str, float]]
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def measure(entries: Sequence[Contest], rounds: int = ROUNDS) -> Measurement:
    """Ratio of the fastest rounds, passes and peak bytes of each contest.

    Raises:
        AssertionError: a contest's result is wrong, so its time is not reported.
    """
    out: Measurement = {}
    for contest in entries:
        contest.check()  # also warms both sides up
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(_seconds(contest.run))
            theirs.append(_seconds(contest.rival))
        out[contest.name] = {
            "ratio": min(ours) / min(theirs),
            "seconds": min(ours),
            "peak_bytes": peak_bytes(contest.run),
        }
        if contest.model is not None:
            with counted(contest.model) as passes:
                contest.run()
            out[contest.name] |= {"forward": passes.forward, "backward": passes.backward}
    return out


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def complaints(measured: Measurement, baseline: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Contest -> what is worse than the baseline, as a sentence; empty where nothing is."""
    out = {}
    for name, values in measured.items():
        if name not in baseline:
            out[name] = f"{name} has no baseline; record one with `make bench-record`"
            continue
        expected, said = baseline[name], []
        for kind in ("forward", "backward"):
            if values.get(kind) != expected.get(kind):
                said.append(f"makes {values.get(kind):g} {kind} passes, the baseline {expected.get(kind):g}")
        usual, limit = sorted(expected["ratios"])[len(expected["ratios"]) // 2], MARGIN * max(expected["ratios"])
        if values["ratio"] > limit:
            said.append(
                f"takes {values['ratio']:.2f} times its rival, usually {usual:.2f}: "
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


def judge(entries: Sequence[Contest], baseline: dict[str, dict[str, Any]], rounds: int = ROUNDS) -> list[str]:
    """Measure, and say in sentences what is worse."""
    return confirmed(measure(entries, rounds), entries, baseline, rounds)


def confirmed(
    measured: Measurement, entries: Sequence[Contest], baseline: dict[str, dict[str, Any]], rounds: int = ROUNDS
) -> list[str]:
    """Sentences about what is worse, after measuring each suspect once more: only what fails twice is said."""
    suspects = complaints(measured, baseline)
    again = [contest for contest in entries if contest.name in suspects]
    return list(complaints(measure(again, rounds), baseline).values())


def _settle() -> None:
    """The process as the command line runs studies in, but for the threads."""
    torch.set_num_threads(THREADS)
    keep_freed_memory()


@app.command()
def check() -> None:
    """Exit 1 with a sentence per contest that is worse than the baseline."""
    _settle()
    entries = contests()
    measured = measure(entries)
    KEPT.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    record = {"date": now.isoformat(timespec="seconds"), "commit": commit()["commit"] or "?", "contests": measured}
    (KEPT / f"{now:%Y%m%dT%H%M%S}.json").write_text(json.dumps(record, indent=1) + "\n")
    worse = confirmed(measured, entries, json.loads(BASELINE.read_text())["contests"])
    for sentence in worse:
        print(f"slower: {sentence}")
    print(f"{len(worse)} of {len(entries)} contests are worse than the baseline")
    raise typer.Exit(int(bool(worse)))


@app.command()
def record() -> None:
    """Measure ten times and write the baseline with every repetition, so that its spread can be seen."""
    _settle()
    runs = [measure(contests()) for _ in range(REPETITIONS)]
    table = {
        name: {"ratios": [round(run[name]["ratio"], 4) for run in runs]}
        | {kind: value for kind, value in first.items() if kind in ("forward", "backward", "peak_bytes")}
        | {"seconds_for_the_record": round(min(run[name]["seconds"] for run in runs), 5)}
        for name, first in runs[0].items()
    }
    BASELINE.write_text(json.dumps({"threads": THREADS, "rounds": ROUNDS, "contests": table}, indent=1) + "\n")
    for name, entry in table.items():
        print(f"{name}: {min(entry['ratios']):.3f} to {max(entry['ratios']):.3f}")


@app.command()
def prove() -> None:
    """Slow the real contests down in three ways and show what the gate says; exit 1 if one is missed."""
    _settle()
    baseline = json.loads(BASELINE.read_text())["contests"]
    honest = next(contest for contest in contests() if contest.model is not None and "captum" in contest.name)
    missed = 0
    for what, run in (
        ("an extra gradient", partial(_extra_pass, honest)),
        ("a loop 1.6 times slower", partial(_slower, honest)),
        ("a copy of the batch kept at every step", partial(_copies, honest)),
    ):
        said = judge([replace(honest, run=run)], baseline)
        missed += not said
        print(f"{what}: {said[0] if said else 'MISSED'}")
    raise typer.Exit(int(missed > 0))


def _extra_pass(contest: Contest) -> None:
    contest.run()
    gradient(contest.model, torch.zeros(1, 3, 64, 64), torch.zeros(1, dtype=torch.int64))  # type: ignore[arg-type]


def _slower(contest: Contest) -> None:
    spent = _seconds(contest.run)
    start = time.perf_counter()
    while time.perf_counter() - start < 0.6 * spent:
        pass


def _copies(contest: Contest) -> None:
    kept = [torch.zeros(BATCH, 3, 64, 64) for _ in range(STEPS)]
    contest.run()
    kept.clear()


@app.command()
def alarms(runs: int = 10) -> None:
    """Check again and again what has not changed, idle and beside a process that keeps a core busy; exit 1 on an alarm."""
    _settle()
    baseline, false = json.loads(BASELINE.read_text())["contests"], 0
    for where, busy in (("idle", None), ("beside a busy process", [sys.executable, "-c", "while True: pass"])):
        other = subprocess.Popen(busy) if busy else None
        try:
            said = [judge(contests(), baseline) for _ in range(runs)]
        finally:
            if other:
                other.kill()
                other.wait()
        count = sum(map(bool, said))
        false += count
        print(
            f"{where}: {count} of {runs} runs raised an alarm",
            *(s for sentences in said for s in sentences),
            sep="\n  ",
        )
    raise typer.Exit(int(false > 0))


@app.command()
def history(out: Path = ROOT / ".cache" / "timings.png") -> None:
    """Draw each contest's ratio over the checks that were kept, with the baseline's range behind it."""
    records = [json.loads(path.read_text()) for path in sorted(KEPT.glob("*.json"))]
    if not records:
        raise typer.BadParameter(f"no checks in {KEPT}; `make bench-check` keeps one")
    baseline = json.loads(BASELINE.read_text())["contests"]
    fig, axes = figures.subplots(len(baseline), 1, sharex=True, height=1.1 * len(baseline))
    for ax, (name, usual) in zip(axes, baseline.items(), strict=True):
        ratios = [record["contests"].get(name, {}).get("ratio", float("nan")) for record in records]
        ax.axhspan(min(usual["ratios"]), max(usual["ratios"]), color=figures.SKY, alpha=0.4, lw=0)
        ax.axhline(MARGIN * max(usual["ratios"]), color=figures.VERMILION, lw=0.8, ls="--")
        ax.plot(range(len(ratios)), ratios, "o-", ms=3, lw=0.8, color=figures.BLACK)
        ax.set_title(name, loc="left", fontsize=7)
    axes[-1].set_xticks(range(len(records)), [f"{r['date'][:10]}\n{r['commit'][:7]}" for r in records], fontsize=6)
    fig.savefig(out)
    print(f"{len(records)} checks: {out}")


@app.command("measure")
def measure_() -> None:
    """One measurement as JSON."""
    _settle()
    print(json.dumps(measure(contests())))


@app.command()
def versus(
    revision: str, repetitions: Annotated[int, typer.Option(min=2, help="alternating measurements of each side")] = 5
) -> None:
    """Ratio of times, working tree / revision, for each contest both have, with its interval."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        subprocess.run(
            ["git", "worktree", "add", "--detach", str(base), revision], cwd=ROOT, check=True, capture_output=True
        )
        try:
            pairs = [(_elsewhere(base), _elsewhere(ROOT)) for _ in range(repetitions)]
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(base)], cwd=ROOT, check=True)
            shutil.rmtree(base, ignore_errors=True)
    for name in pairs[0][1]:
        if name in pairs[0][0]:
            interval = mean_interval([new[name]["seconds"] / old[name]["seconds"] for old, new in pairs])
            print(f"{name}: {interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}] times {revision}'s seconds")


def _elsewhere(folder: Path) -> Measurement:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gate", "measure"], cwd=folder, check=True, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(folder)},
    )  # fmt: skip
    measured: Measurement = json.loads(done.stdout.splitlines()[-1])
    return measured


if __name__ == "__main__":
    app()
