"""What README tells to type exists, and its example is the tested one."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def block(name: str) -> str:
    found = re.search(rf"<!-- {name}[^>]*-->\n(.*?)\n<!-- /{name} -->", README, re.S)
    assert found, f"README.md has no block {name}"
    return found[1].strip()


def test_the_quickstart_is_the_example():
    example = (ROOT / "examples" / "quickstart.py").read_text().strip()
    assert block("quickstart").removeprefix("```python\n").removesuffix("```").strip() == example


@pytest.mark.parametrize("command", sorted(set(re.findall(r"-m reproduce ([a-z]+)", README))))
def test_every_command_exists(command):
    from typer.testing import CliRunner

    from reproduce.cli import app

    assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0


def test_every_picture_and_link_is_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target
