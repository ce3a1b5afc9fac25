"""The command line as a user meets it: what is typed, what is said, and the exit code."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reproduce.__main__ import app
from reproduce.errors import UserError

ROOT = Path(__file__).resolve().parent.parent


def invoke(*words):
    return CliRunner().invoke(app, list(words))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "tabel1"], "unknown study 'tabel1'; did you mean 'table1'?"),
        (["run", "table1", "--scale", "papr"], "unknown scale 'papr'; did you mean 'paper'?"),
        (["run", "table1", "--device", "cuda:7"], "this machine has .* CUDA devices; use --device cpu"),
        (["run", "table1", "--device", "tpu9"], "unknown device 'tpu9'"),
        (["report", "--results", "/nonexistent"], "no results in /nonexistent/embedded; make some with"),
    ],
)
def test_a_mistake_gets_a_sentence(words, message, tmp_path):
    result = invoke(*words, *([] if words[0] == "report" else ["--cells", str(tmp_path)]))
    assert isinstance(result.exception, UserError)
    with pytest.raises(UserError, match=message):
        raise result.exception


def test_results_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "results").write_text("a file")
    result = invoke("run", "table1", "--results", str(tmp_path / "results"), "--cells", str(tmp_path / "cells"))
    assert isinstance(result.exception, UserError) and "cannot write results to" in str(result.exception)


def test_list_shows_everything(tmp_path):
    result = invoke("list", "--cells", str(tmp_path))
    for word in ("table1", "convergence", "embedded", "vgg16", "integrated_gradients_128", "imagenet-20", "0/"):
        assert word in result.output


def test_list_says_what_is_missing(tmp_path):
    output = invoke("list", "--scale", "paper", "--cells", str(tmp_path)).output
    assert "missing   imagenet-val (released weights): imagenet-val is not in" in output


def test_usage_errors_exit_with_2():
    for words in (["rn"], ["run"], ["run", "table1", "--threads", "0"]):
        assert invoke(*words).exit_code == 2


def test_as_a_process_an_error_is_one_line_without_a_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "reproduce", "run", "table1", "--scale", "x", "--cells", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip().startswith("error: unknown scale 'x'; there are: embedded")
    assert "Traceback" not in done.stderr
