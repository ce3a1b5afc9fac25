"""What the README shows is what the files hold, and what it tells to type exists."""

import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from reproduce.scales import SCALES, PriorAmount, Scale
from reproduce.training import imagenet

from test_imagenet_training import make_folder  # isort: skip
from test_way_in import NET, clean_plugins, invoke, result_folder  # noqa: F401  # isort: skip

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def block(name: str) -> str:
    found = re.search(rf"<!-- {name}[^>]*-->\n(.*?)\n<!-- /{name} -->", README, re.S)
    assert found, f"README.md has no block {name}"
    return found[1].strip()


@pytest.mark.parametrize(("name", "scale"), [("table1", "embedded"), ("subset", "subset")])
def test_the_tables_are_the_tracked_ones(name, scale):
    tracked = (ROOT / "results" / scale / "table1.md").read_text()
    assert block(name) in tracked and block(name).count("\n") >= 7


def verdicts() -> str:
    """The claims that are judged on two data sets, as a table; a failing test shows what to paste."""
    embedded, subset = (
        pd.read_csv(ROOT / "results" / scale / "claims.csv", keep_default_na=False) for scale in ("embedded", "subset")
    )
    both = embedded.merge(subset, on=["study", "claim", "source"], suffixes=("", " there"))
    verdict = [both[column].str.partition(":")[0] for column in ("verdict", "verdict there")]
    return pd.DataFrame(
        {"claim": both["claim"], "from": both["source"], "digits-on-photos": verdict[0], "natural images": verdict[1]}
    ).to_markdown(index=False)


def test_the_verdicts_are_the_tracked_ones():
    assert block("claims") == verdicts()


def test_the_quickstart_is_the_example():
    assert (
        block("quickstart").removeprefix("```python\n").removesuffix("```").strip()
        == (ROOT / "examples" / "quickstart.py").read_text().strip()
    )


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z][a-z0-9-]+)", README))))
def test_every_make_target_exists(target):
    makefile = (ROOT / "Makefile").read_text()
    studies = re.search(r"^STUDIES := (.*)$", makefile, re.M)[1].split()
    assert target in studies or re.search(rf"^{target}:", makefile, re.M)


@pytest.mark.parametrize("command", sorted(set(re.findall(r"-m reproduce ([a-z]+)", README))))
def test_every_command_exists(command):
    from typer.testing import CliRunner

    from reproduce.__main__ import app

    assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0


def test_every_picture_and_link_is_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).is_file(), target


# --- the commands themselves, long ones at a small scale ---

FENCED = re.findall(r"^```\n(.*?)^```", README, re.S | re.M)
LINES = [line.partition("#")[0].strip() for fence in FENCED for line in fence.splitlines()]
INLINE = re.findall(r"`((?:make|python -m reproduce) [^`]+)`", README)
COMMANDS = sorted({" ".join(command.split()) for command in LINES + INLINE if command})
MAKE = [command for command in COMMANDS if command.startswith("make ")]
PYTHON = [command for command in COMMANDS if command.startswith("python -m reproduce ") and len(command.split()) > 4]


@pytest.mark.parametrize("command", MAKE)
def test_make_knows_what_each_command_means(command):
    words = re.sub(r"<[a-z ]+>", "HEAD", command).split()
    done = subprocess.run([*words, "-n"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "-m " in done.stdout, done.stderr


def test_the_readme_has_commands_to_check():
    assert len(MAKE) > 20 and len(PYTHON) >= 4


@pytest.mark.usefixtures("clean_plugins")
@pytest.mark.parametrize("command", PYTHON)
def test_each_python_command_runs(command, tmp_path, monkeypatch):
    """As written, with small things in place of IMAGE, DIR, WEIGHTS and of the papers' nets and scales."""
    monkeypatch.setattr(
        imagenet.figures, "save", lambda figure, stem: None
    )  # its pictures are tested with the training
    for name in ("A", "B"):
        result_folder(tmp_path / "results" / name)
    make_folder(tmp_path / "data")
    (tmp_path / "net.py").write_text(NET)
    Image.new("RGB", (40, 40), "teal").save(tmp_path / "photo.png")
    size, few = (
        ["--image-px", "64", "--width", "0.0625"],
        ["--epochs", "1", "--batch", "4", "--workers", "0", "--threads", "1"],
    )
    if " convert " in command:
        invoke("train", "resnet50", "--data", tmp_path / "data", "--out", tmp_path / "net", *few, *size)
    replaced = {
        "IMAGE": tmp_path / "photo.png", "DIR": tmp_path / "data", "MODEL": "alexnet", "WEIGHTS": tmp_path / "net" / "best.pth.tar",
        "FILE.py": ROOT / "examples" / "my_method.py", "results/A": tmp_path / "results" / "A", "results/B": tmp_path / "results" / "B",
    }  # fmt: skip
    words = [str(replaced.get(word, word)) for word in command.split()[3:]]
    kind = words[0]
    if kind == "attribute":
        words = [f"{tmp_path / 'net.py'}:tiny" if word == "resnet50" else word for word in words]
        words += ["--size", "32", "--out", str(tmp_path / "out")]
    elif kind in ("train", "convert"):
        words += [*size, *few, "--out", str(tmp_path / "out")]
    elif kind in ("run", "estimate"):
        small = Scale("small", "for tests", (), priors=PriorAmount(decoy_seeds=0))
        monkeypatch.setitem(SCALES, "small", small)
        words = [word for word in words if word not in ("all", "--force", "--scale", "paper", "--device", "cuda")]
        words += ["--scale", "small", "--cells", str(tmp_path / "cells")]
        words += ["--results", str(tmp_path / "out")] if kind == "run" else ["table1"]
    assert invoke(*words).exit_code == 0
