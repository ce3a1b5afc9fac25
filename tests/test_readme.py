"""What the README shows is what the files hold, and what it tells to type exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def block(name: str) -> str:
    found = re.search(rf"<!-- {name}[^>]*-->\n(.*?)\n<!-- /{name} -->", README, re.S)
    assert found, f"README.md has no block {name}"
    return found[1].strip()


def test_the_main_table_is_the_tracked_one():
    tracked = (ROOT / "results" / "embedded" / "table1.md").read_text()
    assert block("table1") in tracked and block("table1").count("\n") >= 7


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
