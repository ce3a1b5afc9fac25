import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from reproduce.cells import Cell, Cells
from reproduce.errors import UserError


def counting(calls, name="a", key=None, needs=(), value=1):
    def compute(tick, *needed):
        calls.append(name)
        return {"x": torch.tensor([value + sum(n["x"].item() for n in needed)])}

    return Cell(name, key or {"name": name}, compute, needs)


def test_a_finished_cell_is_read_not_computed(tmp_path):
    calls = []
    cell = counting(calls)
    first = Cells(tmp_path, {}).get(cell)
    again = Cells(tmp_path, {}).get(counting(calls))
    assert calls == ["a"] and first["x"] == again["x"] and again["seconds"] >= 0


def test_the_key_the_needs_and_the_environment_decide(tmp_path):
    calls = []
    base = counting(calls, "base", {"v": 1})
    Cells(tmp_path, {}).get(counting(calls, "top", needs=(base,)))
    assert calls == ["base", "top"]
    Cells(tmp_path, {}).get(counting(calls, "top", needs=(counting(calls, "base", {"v": 2}, value=5),)))
    assert calls == ["base", "top", "base", "top"]
    assert Cells(tmp_path, {"torch": "other"}).get(counting(calls, "base", {"v": 1}))
    assert calls[-1] == "base"


def test_needs_come_first_and_once():
    base = counting([], "base")
    left, right = counting([], "left", needs=(base,)), counting([], "right", needs=(counting([], "base"),))
    top = counting([], "top", needs=(left, right))
    assert [cell.name for cell in top.closure()] == ["base", "left", "right", "top"]


def test_an_interrupted_cell_leaves_nothing(tmp_path):
    def interrupted(tick):
        raise KeyboardInterrupt

    cells = Cells(tmp_path, {})
    with pytest.raises(KeyboardInterrupt):
        cells.get(Cell("a", {"a": 1}, interrupted))
    assert not list(cells.folder.iterdir())


def test_a_damaged_file_is_put_aside_and_computed_again(tmp_path):
    calls = []
    cells = Cells(tmp_path, {})
    cells.get(cell := counting(calls))
    path = cells.path(cell)
    path.write_bytes(path.read_bytes()[:100])
    assert cells.get(cell)["x"] == 1 and calls == ["a", "a"]
    assert path.with_suffix(".damaged").exists()


def test_kill_9_at_any_moment_leaves_only_whole_cells(tmp_path):
    """A process that writes large cells is killed again and again; whatever lies there under a cell's name reads."""
    program = """
import sys, torch
from pathlib import Path
from reproduce.cells import Cell, Cells
cells = Cells(Path(sys.argv[1]), {})
print("ready", flush=True)
for i in range(10_000):
    cells.get(Cell(str(i), {"i": i}, lambda tick: {"x": torch.full((500_000,), 1.0)}))
"""
    for wait in (0.02, 0.07, 0.15):
        child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        child.stdout.readline()
        time.sleep(wait)
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
    finished = list(Cells(tmp_path, {}).folder.glob("*.pt"))
    assert finished
    for path in finished:
        assert torch.load(path, weights_only=True)["x"].sum() == 500_000


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot keep finished cells in .*file"):
        Cells(tmp_path / "file", {})


def test_a_pickle_that_executes_code_is_not_read(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/executed",)

    cells = Cells(tmp_path, {})
    cell = counting([])
    torch.save({"x": Evil()}, cells.path(cell))
    assert cells.read(cell) is None
    assert not (tmp_path / "executed").exists()
