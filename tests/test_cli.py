"""The command line as a user meets it: what is typed, what is said, and the exit code."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, fields
from typing import Annotated

import pytest
import typer
from command_line import ROOT, ROWS, claim, invoke, result_folder
from typer.testing import CliRunner

from reproduce.cli import COMMANDS, options
from reproduce.cli.data import in_lines
from reproduce.cli.training import Settings
from reproduce.errors import UserError
from reproduce.studies import STUDIES

NAMES = [command.__name__.rstrip("_") for command in COMMANDS]


def process(*words, **options):
    return subprocess.run(
        [sys.executable, "-m", "reproduce", *map(str, words)], cwd=ROOT, capture_output=True, text=True, **options
    )


# --- mistakes ---


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "tabel1"], "unknown study 'tabel1'; did you mean 'table1'?"),
        (["run", "table1", "--scale", "papr"], "unknown scale 'papr'; did you mean 'paper'?"),
        (["run", "table1", "--device", "cuda:7"], "this machine has .* CUDA devices; use --device cpu"),
        (["run", "table1", "--device", "tpu9"], "unknown device 'tpu9'"),
        (["estimate", "tabel1"], "unknown study 'tabel1'"),
        (["data", "--scale", "papr"], "unknown scale 'papr'"),
        (["run", "table1", "--plugin", "none.py"], "plugin .*none.py is not a Python file"),
    ],
)
def test_a_mistake_gets_a_sentence(words, message, tmp_path):
    with pytest.raises(UserError, match=message):
        invoke(*words, "--cache", tmp_path)


def test_folders_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"cannot write results to {tmp_path}/file"):
        invoke("run", "table1", "--results", tmp_path / "file", "--cache", tmp_path / "cache")
    with pytest.raises(UserError, match=f"cannot keep finished tasks in {tmp_path}/file"):
        invoke("run", "table1", "--cache", tmp_path / "file")


def test_wrong_usage_exits_with_2():
    for words in (["rn"], ["run"], ["run", "table1", "--seeds", "0"], ["run", "table1", "--images", "0"], ["train"]):
        assert invoke(*words).exit_code == 2


def test_as_a_process_a_mistake_is_one_line_on_stderr_and_exits_with_1(tmp_path):
    done = process("run", "table1", "--scale", "x", "--cache", tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert (
        done.stderr.startswith("error: unknown scale 'x'; there are: smoke, embedded") and done.stderr.count("\n") == 1
    )


def test_ctrl_c_and_sigterm_end_a_run_with_a_sentence_and_130(tmp_path):
    for number in (signal.SIGINT, signal.SIGTERM):
        words = ["run", "nhanes", "--scale", "smoke", "--repetitions", "5000"]
        words += ["--cache", str(tmp_path / "cache"), "--results", str(tmp_path)]
        child = subprocess.Popen(
            [sys.executable, "-u", "-m", "reproduce", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert "tasks on" in child.stdout.readline()
        time.sleep(3)
        os.kill(child.pid, number)
        output, _ = child.communicate(timeout=60)
        assert child.returncode == 130
        assert "interrupted; finished tasks are kept, the same command goes on from there" in output


# --- help ---


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_a_short_sentence_and_an_example(name):
    text = invoke(name, "--help").output
    assert "Example: python -m reproduce " + name in " ".join(text.split())
    (short,) = re.findall(rf"^  {name} +(.*)$", invoke("--help").output, re.M)
    assert short.endswith(".") and not short.endswith("...")


def test_help_needs_neither_torch_nor_a_second(tmp_path):
    """What is imported is counted, not seconds: a busy machine makes no difference."""
    program = "import sys, reproduce.cli; print(sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.replace("'", '"')))
    assert not loaded & {"torch", "numpy", "pandas", "scipy", "matplotlib", "dask", "distributed"}


def test_listing_studies_loads_neither_what_draws_nor_what_tests():
    program = "import sys, reproduce.studies; print([n for n in ('matplotlib', 'scipy.stats') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- options in groups ---


@dataclass(frozen=True)
class Group:
    needed: Annotated[int, typer.Option(help="a number")]
    word: Annotated[str, typer.Option()] = "none"


def test_a_command_takes_a_group_of_options_as_one_argument():
    seen = []

    def command(
        first: Annotated[str, typer.Argument()], group: Group, flag: Annotated[bool, typer.Option("--flag")] = False
    ):
        """Docs."""
        seen.append((first, group, flag))

    one = typer.Typer()
    one.command()(options.flat(command))
    assert CliRunner().invoke(one, ["a", "--needed", "3", "--flag"]).exit_code == 0
    assert CliRunner().invoke(one, ["a", "--word", "b"]).exit_code == 2
    assert seen == [("a", Group(3), True)]


def test_train_and_convert_have_the_same_options():
    texts = [invoke(name, "--help").output for name in ("train", "convert")]
    for field in fields(Settings):
        option = f"--{field.name.replace('_', '-')}"
        assert all(re.search(rf"{option}\b", text) for text in texts), option


# --- list ---


def test_list_shows_everything(tmp_path):
    output = invoke("list", "--cache", tmp_path).output
    for word in ("embedded", "vgg16", "integrated_gradients_128", "digits-on-photos", " 0/", *STUDIES):
        assert word in output, word
    assert max(map(len, output.partition("scale     ")[0].splitlines())) <= 80


def test_list_says_what_is_missing(tmp_path):
    output = invoke("list", "--scale", "paper", "--cache", tmp_path).output
    assert re.search(r"^missing   .*imagenet-val is not in", output, re.M)


def test_list_as_json(tmp_path):
    found = json.loads(invoke("list", "--json", "--cache", tmp_path).output)
    assert found["methods"]["x_gradient"] == "X-Gradient"
    assert found["studies"]["table1"]["tasks_done"] == 0 < found["studies"]["table1"]["tasks"]
    assert "embedded" in found["scales"] and "alexnet" in found["models"]


# --- claims and report ---


def many_claims():
    outcomes = ["not reproduced"] * 14 + ["reproduced", "inconclusive", "not run"]
    some = [claim(id=f"toy/{i}", outcome=outcome) for i, outcome in enumerate(outcomes)]
    return (*some, claim(id="toy/theorem", kind="theorem", outcome="not reproduced", text="The code is right"))


def test_a_run_ends_in_counts_the_first_failures_and_the_report(tmp_path, capsys):
    from reproduce.cli.summary import MOST_FAILURES, print_summary

    folder = result_folder(tmp_path / "embedded", claims=many_claims())
    print_summary(folder)
    output = capsys.readouterr().out
    assert re.search(r"empirical +│ +1 +│ +14 +│ +1 +│ +1 ", output)
    failures = re.findall(r"^not reproduced \((.*?)\): (\S+): (.*)$", output, re.M)
    assert failures[0] == ("theorem", "toy/theorem", "The code is right"), "a fault of the code comes first"
    assert len(failures) == MOST_FAILURES and "and 5 more; `python -m reproduce claims` shows all" in output
    assert output.splitlines()[-1] == f"report: {folder / 'report.html'}"
    assert len(output.splitlines()) < 30


def test_claims_shows_all_of_them_as_text_and_as_json(tmp_path):
    result_folder(tmp_path / "embedded", claims=many_claims())
    output = invoke("claims", "--results", tmp_path).output
    assert output.count("It [really] holds") == 17 + 9
    found = json.loads(invoke("claims", "--results", tmp_path, "--json").output)
    assert len({c["id"] for c in found}) == len(found) == 18
    assert (found[0]["kind"], found[0]["margin"], found[0]["n"]) == ("empirical", 1.5, [40])
    assert found[0]["outcome"] == "not reproduced" and "1 [0.9, 1.1]" in found[0]["measured"]


@pytest.mark.parametrize("command", ["claims", "report"])
def test_no_results_and_broken_results_end_in_a_sentence(command, tmp_path):
    with pytest.raises(UserError, match=f"no results in {tmp_path}/embedded; make some with `make reproduce-all"):
        invoke(command, "--results", tmp_path)
    with pytest.raises(UserError, match="unknown scale 'papr'; did you mean 'paper'"):
        invoke(command, "--results", tmp_path, "--scale", "papr")
    folder = result_folder(tmp_path / "embedded", ROWS)
    (folder / "toy.json").write_text('{"study": "toy", ')
    with pytest.raises(UserError, match=r"toy.json cannot be read .*remove it and run the study again"):
        invoke(command, "--results", tmp_path)


# --- publish ---


def test_publish_refuses_a_tree_that_differs_from_its_commit(monkeypatch):
    from reproduce import provenance

    monkeypatch.setattr(provenance, "changed_files", lambda: [f"file{i}.py" for i in range(8)])
    with pytest.raises(
        UserError, match="clean tree only, and 8 files differ .*: file0.py, .*file4.py and 3 more; commit"
    ):
        invoke("publish")
    monkeypatch.setattr(provenance, "changed_files", lambda: None)
    with pytest.raises(UserError, match="from a git checkout only"):
        invoke("publish")


def test_publish_writes_the_studies_that_are_named(tmp_path, monkeypatch):
    from reproduce import provenance
    from reproduce.cli import publish

    monkeypatch.setattr(provenance, "changed_files", list)
    monkeypatch.setattr(publish, "PUBLISHED", tmp_path / "published")
    invoke("publish", "steps", "--scale", "smoke", "--cache", tmp_path / "cache", "--workers", 1)
    assert {path.stem for path in (tmp_path / "published" / "smoke").glob("*.json")} == {"steps"}
    with pytest.raises(UserError, match="unknown study 'step'; did you mean 'steps'"):
        invoke("publish", "step")


def test_changed_files_are_named_and_published_results_do_not_count(tmp_path, monkeypatch):
    from reproduce import provenance

    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert provenance.changed_files() is None
    git("init")
    (tmp_path / "code.py").write_text("1")
    git("add", "-A")
    git("commit", "-m", "first")
    assert provenance.changed_files() == []
    (tmp_path / "code.py").write_text("2")
    (tmp_path / "new.py").write_text("")
    (tmp_path / "results" / "published" / "embedded").mkdir(parents=True)
    (tmp_path / "results" / "published" / "embedded" / "table1.csv").write_text("")
    assert provenance.changed_files() == ["code.py", "new.py"]


# --- data ---


def test_data_says_in_lines_what_is_there_and_what_cannot_run(tmp_path, monkeypatch):
    from reproduce.datasets import fetch

    monkeypatch.setattr(fetch.Store.__dataclass_fields__["folder"], "default", tmp_path / "data")
    output = invoke("data", "--scale", "subset", "--offline", "--cache", tmp_path / "cache").output
    assert "│" not in output
    assert re.search(r"^released: 0 of 6 files are there$", output, re.M)
    assert re.search(r"^  missing: released/\S+ could not be fetched, and 5 more$", output, re.M)
    assert re.search(r"^cannot run on \S+: ", output, re.M)


def test_what_each_source_answered_is_a_line_of_its_own_which_nothing_breaks():
    answers = ["https://a.example/very/long/path: 404 Client Error", "b: sha256 is 0, expected 1. Remove it"]
    assert in_lines("x.bin could not be fetched. " + "; ".join(answers)) == ["x.bin could not be fetched", *answers]
    assert in_lines("x.bin: sha256 is 0, expected 1") == ["x.bin: sha256 is 0, expected 1"]


# --- continuous integration ---


def test_ci_runs_readme_s_two_commands_in_its_order():
    fence = re.search(r"## Reproduce\n\n```\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    script = (ROOT / ".ci" / "run").read_text().splitlines()
    assert (
        [line for line in script if line.startswith("make ")]
        == fence.splitlines()
        == ["make reproduce-all", "make test"]
    )


def test_the_makefile_s_variables_reach_the_command_line():
    done = subprocess.run(
        ["make", "-n", "reproduce-all", "SCALE=smoke", "SEEDS=5", "ARGS=--workers 1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "-m reproduce run all --scale smoke --device cpu --seeds 5 --workers 1" in done.stdout
    for name in STUDIES:
        one = subprocess.run(["make", "-n", name], cwd=ROOT, capture_output=True, text=True, check=True)
        assert f"-m reproduce run {name} --scale embedded" in one.stdout


def test_set_up_says_what_it_installs_and_how_large_before_it_does():
    done = subprocess.run(
        ["make", "-n", "-W", "requirements.txt", "setup"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert re.search(r"about \d GB(.|\n)*-m pip install", done.stdout)
