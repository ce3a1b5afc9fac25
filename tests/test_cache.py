"""The result cache: whole files, keys that hold everything, provenance at measuring."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor

from reproduce.cache import ResultCache
from reproduce.errors import UserError
from reproduce.tasks import Task, in_order, join_shards

CALLS: list[str] = []


@dataclass(frozen=True)
class Named:
    name: str
    number: float = 1.0


@dataclass(frozen=True)
class Found:
    x: Tensor
    notes: list[Named]


def compute(experiment, *needed):
    CALLS.append(experiment.name)
    return Found(torch.tensor([experiment.number + sum(n.x.item() for n in needed)]), [experiment])


def interrupted(experiment):
    raise KeyboardInterrupt


def task(name="a", number=1.0, needs=(), function=compute, protocol=None):
    return Task(name, Found, function, Named(name, number), protocol, needs=needs)


def get(cache, wanted, **options):
    return cache.get(wanted, lambda task, needed: task.compute(task.about, *needed), lambda: {"date": "now"}, **options)


@pytest.fixture(autouse=True)
def no_calls():
    CALLS.clear()


def test_a_finished_task_is_read_not_computed_and_keeps_its_types_and_provenance(tmp_path):
    first = get(ResultCache(tmp_path, {}), task())
    again = get(ResultCache(tmp_path, {}), task())
    assert CALLS == ["a"] and first.value.x == again.value.x
    assert again.value.notes == [Named("a")] and again.about == Named("a")
    assert again.provenance == {"date": "now"} and again.seconds >= 0


def test_the_protocol_the_needs_and_the_environment_decide(tmp_path):
    cache = ResultCache(tmp_path, {})
    get(cache, task("top", needs=(task("base"),)))
    assert CALLS == ["base", "top"]
    assert get(cache, task("top", needs=(task("base", 5.0),))).value.x == 6
    assert CALLS == ["base", "top", "base", "top"]
    get(cache, task("base", protocol=Named("steps", 3)))
    get(ResultCache(tmp_path, {"torch": "other"}), task("base"))
    assert CALLS[-2:] == ["base", "base"]


def test_a_partial_with_another_argument_needs_another_key():
    one, other = (Task("a", Found, partial(compute, n), None, data={"n": n}) for n in (1, 2))
    assert one.digest != other.digest


def test_needs_come_first_and_once():
    left, right = task("left", needs=(task("base"),)), task("right", needs=(task("base"),))
    assert [t.name for t in in_order([task("top", needs=(left, right))])] == ["base", "left", "right", "top"]


def test_an_interrupted_task_leaves_nothing(tmp_path):
    cache = ResultCache(tmp_path, {})
    with pytest.raises(KeyboardInterrupt):
        get(cache, task(function=interrupted))
    assert not list(cache.folder.iterdir())


def test_a_damaged_file_is_put_aside_and_computed_again(tmp_path):
    cache = ResultCache(tmp_path, {})
    get(cache, task())
    path = cache.path(task())
    path.write_bytes(path.read_bytes()[:100])
    assert get(cache, task()).value.x == 1 and CALLS == ["a", "a"]
    assert path.with_suffix(".damaged").exists()


def test_kill_9_at_any_moment_leaves_only_whole_files(tmp_path):
    """A process that writes large values is killed again and again; whatever lies there under a task's name reads."""
    program = tmp_path / "writer.py"
    program.write_text(
        """
import sys, torch
from dataclasses import dataclass
from pathlib import Path
from torch import Tensor
from reproduce.cache import ResultCache
from reproduce.tasks import Task

@dataclass(frozen=True)
class Number:
    i: int

@dataclass(frozen=True)
class Large:
    x: Tensor

def compute(about):
    return Large(torch.full((500_000,), 1.0))

if __name__ == "__main__":
    cache = ResultCache(Path(sys.argv[1]), {})
    print("ready", flush=True)
    for i in range(10_000):
        cache.get(Task(str(i), Large, compute, Number(i)), lambda task, needed: task.compute(task.about), dict)
"""
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    for wait in (0.05, 0.1, 0.2):
        child = subprocess.Popen(
            [sys.executable, str(program), str(tmp_path / "cache")],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        child.stdout.readline()
        time.sleep(wait)
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
    finished = list(ResultCache(tmp_path / "cache", {}).folder.glob("*.pt"))
    assert finished
    for path in finished:
        assert torch.load(path, weights_only=True)["value"]["x"].sum() == 500_000


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot keep finished tasks in .*file"):
        ResultCache(tmp_path / "file", {})


def test_a_pickle_that_executes_code_is_not_read(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/executed",)

    cache = ResultCache(tmp_path, {})
    torch.save({"value": Evil()}, cache.path(task()))
    assert cache.read(task()) is None
    assert not (tmp_path / "executed").exists()


def test_shards_join_into_the_whole_and_numbers_do_not():
    @dataclass
    class Measurement:
        hits: list[bool]
        scores: Tensor
        curves: dict[str, list[float]]

    parts = [Measurement([True], torch.ones(1, 2), {"a": [1.0]}), Measurement([False], torch.zeros(2, 2), {"a": [2.0]})]
    whole = join_shards(None, *parts)
    assert whole.hits == [True, False] and whole.scores.shape == (3, 2) and whole.curves == {"a": [1.0, 2.0]}
    with pytest.raises(TypeError, match=r"Named.name is a str, not a list or tensor over images"):
        join_shards(None, Named("a"), Named("b"))
