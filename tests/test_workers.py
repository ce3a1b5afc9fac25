"""The engine: the same results from any number of workers, killed workers, timed tasks alone, interruptions."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch
from torch import Tensor

from reproduce.cache import ResultCache
from reproduce.context import Context
from reproduce.engine import Engine, Workers, choose_workers, connected
from reproduce.errors import UserError
from reproduce.scales import SCALES
from reproduce.tasks import Task, in_order

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class About:
    number: int
    folder: str = ""


@dataclass(frozen=True, eq=False)
class Value:
    x: Tensor
    threads: int
    start: float
    stop: float


def add(experiment, *needed):
    """A number that depends on the task, its needs and nothing else; takes a moment."""
    start = time.time()
    time.sleep(0.2)
    draws = torch.randn(1000, generator=experiment.generator(experiment.about.number), dtype=torch.float64)
    experiment.progress(0.5)
    total = draws.cumsum(0) + sum(value.x for value in needed)
    return Value(total, torch.get_num_threads(), start, time.time())


def die_once(experiment, *needed):
    """Kills its own worker, the first time that it runs."""
    mark = Path(experiment.about.folder) / f"died-{experiment.about.number}"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return add(experiment, *needed)


def die(experiment, *needed):
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(experiment):
    raise UserError("the sentence of a task")


def task(number, needs=(), compute=add, folder="", **options):
    return Task(f"task {number}", Value, compute, About(number, str(folder)), needs=tuple(needs), **options)


def graph():
    """Four layers of two tasks, and one on top."""
    layer = [task(1), task(2)]
    for i in range(3):
        layer = [task(10 * i + 10, layer), task(10 * i + 11, layer[:1])]
    return [task(99, layer)]


def context(folder):
    return Context(SCALES["smoke"], ResultCache(folder, {}), folder / "results")


def compute(folder, tasks, workers=2):
    """The results of the tasks, computed by so many workers of our own, or by those of a cluster."""
    ours = context(folder)
    waiting = [t for t in in_order(tasks) if not ours.cache.has(t)]
    spread = workers if isinstance(workers, Workers) else Workers(workers, 1)
    with connected(spread) as client:
        Engine(client, ours, spread, lambda task: None, lambda task, result: None, lambda digest, share: None).compute(
            waiting
        )
    return [ours.cache.read(t) for t in tasks]


def test_any_number_of_workers_gives_the_same_bytes(tmp_path):
    found = [compute(tmp_path / str(n), graph(), n)[0].value.x for n in (1, 2, 3)]
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_the_task_of_a_killed_worker_is_computed_again_and_nothing_else_is_lost(tmp_path):
    tasks = [task(i, compute=die_once if i == 2 else add, folder=tmp_path) for i in range(5)]
    results = compute(tmp_path / "cache", tasks)
    assert (tmp_path / "died-2").exists() and all(result is not None for result in results)


def test_a_task_whose_workers_are_killed_again_and_again_is_named(tmp_path):
    finished = task(1)
    with pytest.raises(UserError, match=r"task 7: the worker that computed it was killed 4 times.*--workers 1"):
        compute(tmp_path, [finished, task(7, [finished], compute=die)])
    assert context(tmp_path).cache.has(finished)


def test_an_error_of_a_task_keeps_its_sentence(tmp_path):
    with pytest.raises(UserError, match="the sentence of a task"):
        compute(tmp_path, [task(1, compute=refuse)])


def test_timed_tasks_run_alone_with_all_threads(tmp_path):
    tasks = [task(i, alone=i in (0, 3)) for i in range(6)]
    values = [result.value for result in compute(tmp_path, tasks)]
    timed = [values[0], values[3]]
    for value in timed:
        others = [other for other in values if other is not value]
        assert all(other.stop <= value.start or value.stop <= other.start for other in others)
        assert value.threads == 2
    shared = [value for value in values if value not in timed]
    assert {value.threads for value in shared} == {1}
    assert any(a.start < b.stop and b.start < a.stop for a in shared for b in shared if a is not b)  # side by side


def chain(count):
    """So many tasks, each of which needs the one five before it."""
    tasks = []
    for i in range(count):
        tasks.append(task(1000 + i, tasks[i - 5 : i - 4] if i >= 5 else ()))
    return tasks


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_workers
if __name__ == "__main__":
    folder, count = sys.argv[1:]
    test_workers.compute(Path(folder), test_workers.chain(int(count)) if count != "0" else test_workers.graph())
"""


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM.format(tests=str(Path(__file__).parent)))
    return path


def start(program, folder, count=0):
    """Runs the graph, or a chain of so many tasks."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, str(program), str(folder), str(count)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait_until(condition, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def count_results(folder):
    return len(list(folder.rglob("*.pt")))


def group_members(pid):
    """Its processes that run; those that end meanwhile are none."""
    running = psutil.process_iter(["status"])
    return [p for p in running if p.info["status"] != psutil.STATUS_ZOMBIE and _group(p.pid) == pid]


def _group(pid):
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


@pytest.mark.parametrize("ended_by", [signal.SIGKILL, signal.SIGINT])
def test_a_main_process_that_ends_leaves_no_worker_and_every_finished_result(program, tmp_path, ended_by):
    (whole,) = compute(tmp_path / "whole", graph())
    cut = tmp_path / "cut"
    running = start(program, cut)
    wait_until(lambda: count_results(cut) >= 3)
    os.kill(running.pid, ended_by)
    running.wait(30)
    wait_until(lambda: not group_members(running.pid))  # no worker is left
    assert count_results(cut) >= 3
    (result,) = compute(cut, graph())
    assert torch.equal(result.value.x, whole.value.x)


def written(folder):
    """When each result was written, by its name."""
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.pt")}


def worker_processes(main):
    """The processes in which tasks run, at the moment."""
    own = psutil.process_iter(["cmdline", "ppid"])
    return [p for p in own if p.info["ppid"] == main.pid and "spawn_main" in " ".join(p.info["cmdline"] or ())]


def test_a_worker_that_is_killed_while_it_starts_is_started_again(program, tmp_path):
    running = start(program, tmp_path)
    wait_until(lambda: worker_processes(running))
    worker_processes(running)[0].kill()
    assert running.wait(90) == 0 and count_results(tmp_path) == len(list(in_order(graph())))


KILLS = int(os.environ.get("KILLS", "2"))


@pytest.mark.timeout(300 + 60 * KILLS)
@pytest.mark.parametrize("victim", ["a worker", "the main process"])
def test_kills_at_random_moments_lose_the_running_tasks_only(victim, program, tmp_path):
    """So many as the variable KILLS says; two are enough to see that it works."""
    dice, tasks = random.Random(0), chain(30 * KILLS)
    cut, before = tmp_path / "cut", {}
    running = start(program, cut, len(tasks))
    wait_until(lambda: count_results(cut) > 0)
    for _ in range(KILLS):
        time.sleep(dice.uniform(0, 6))
        before |= written(cut)
        assert running.poll() is None and len(before) < len(tasks), "finished before it could be killed"
        if victim == "a worker":
            wait_until(lambda main=running: worker_processes(main))
            dice.choice(worker_processes(running)).kill()
        else:
            running.kill()
            running.wait(30)
            wait_until(lambda pid=running.pid: not group_members(pid))
            before |= written(cut)
            running = start(program, cut, len(tasks))
    assert running.wait(60 + len(tasks)) == 0
    after = written(cut)
    assert len(after) == len(tasks)
    assert before.items() <= after.items(), "a finished task was computed again"
    whole = compute(tmp_path / "whole", tasks)
    assert all(torch.equal(a.value.x, b.value.x) for a, b in zip(compute(cut, tasks), whole, strict=True))


def test_workers_of_one_thread_suit_a_small_machine(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    assert choose_workers("cpu") == Workers(2, 1)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"total": 4 * 2**30})())
    assert choose_workers("cpu") == Workers(1, 1)
    assert choose_workers("cpu", 4, 2) == Workers(4, 2)


@pytest.fixture
def cluster(tmp_path):
    """The address of a scheduler with two workers, all started by Dask's own command line."""
    file = tmp_path / "scheduler.json"
    loopback = ("--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", file)
    worker = ("--nthreads", 1, "--preload", "reproduce.worker")
    commands = [("scheduler", "--port", 0, *loopback), *[("worker", *loopback, *worker)] * 2]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "dask", *map(str, command)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for command in commands
    ]
    wait_until(lambda: file.exists() and file.read_text().endswith("}"))
    yield json.loads(file.read_text())["address"]
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait(30)


def test_a_cluster_started_by_hand_gives_the_same_bytes(cluster, tmp_path):
    (here,) = compute(tmp_path / "here", graph())
    (there,) = compute(tmp_path / "there", graph(), Workers(2, 1, cluster))
    assert torch.equal(here.value.x, there.value.x)


def test_a_scheduler_that_does_not_answer_is_named():
    with (
        pytest.raises(UserError, match="no Dask scheduler answers at 'tcp://127.0.0.1:9'"),
        connected(Workers(1, 1, "tcp://127.0.0.1:9")),
    ):
        pass
