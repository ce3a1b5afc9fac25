"""README and the blocks of docs/: short, made from the published results, and everything that they tell to type exists."""

import re
import subprocess

import pytest
from command_line import ROOT, claim, invoke

from reproduce.engine import MEMORY_OF_A_WORKER
from reproduce.errors import UserError
from reproduce.paths import PUBLISHED
from reproduce.report import readme
from reproduce.studies import STUDIES
from xdnn import METHODS

README = (ROOT / "README.md").read_text()
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in ROOT.glob("docs/**/*.md")}
TEXTS = {"README.md": README, "CONTRIBUTING.md": (ROOT / "CONTRIBUTING.md").read_text()} | PAGES
MOST_WORDS = 900


# --- what it says ---


def test_it_is_short():
    assert len(README.split()) <= MOST_WORDS


def test_the_blocks_are_what_the_published_results_say():
    """After `make publish`: `make readme`."""
    for path, blocks in readme.documents(PUBLISHED, STUDIES.values()).items():
        for name, content in blocks.items():
            assert readme.block(path.read_text(), name) == content, f"{path.name}, block {name}: run `make readme`"


def test_every_study_stands_in_its_table():
    lines = readme.block(README, "studies").splitlines()
    assert [line.split("`")[1] for line in lines] == list(STUDIES)


def test_its_code_is_the_example_which_another_test_runs():
    code = readme.block(README, "quickstart").removeprefix("```python\n").removesuffix("```").strip()
    assert code == (ROOT / "examples" / "quickstart.py").read_text().strip()
    assert len([line for line in code.splitlines() if line]) <= 8


@pytest.mark.parametrize(
    ("term", "meaning"),
    [
        ("IG", "Integrated Gradients (IG)"),
        ("MARD", "*MARD*: mean absolute relative difference"),
        ("KPM", '*KPM*, "keep positive"'),
        ("EG", "*EG*, Expected Gradients"),
        ("Wrapped", "*Wrapped*: made homogeneous"),
        ("X-DNN", "*X-DNN* (X-net) has no biases"),
    ],
)
def test_a_term_is_explained_where_it_stands_first(term, meaning):
    first = re.search(rf"(?<![\w(./]){term}(?!\w)|\({term}\)", README)
    start = README.index(meaning)
    assert first and start <= first.start() <= start + len(meaning)


def test_disk_and_memory_are_those_of_the_makefile_and_the_engine():
    disk = re.search(r"about (\d+) GB on disk", (ROOT / "Makefile").read_text())
    assert disk and f"{disk[1]} GB disk" in README
    assert f"{MEMORY_OF_A_WORKER / 2**30:g} GB memory per core" in README


# --- what it tells to type ---


@pytest.mark.parametrize("name", TEXTS)
def test_every_make_target_exists(name):
    targets = set(re.findall(r"(?:`|^)make ([a-z][a-z0-9-]+)", TEXTS[name], re.M)) - set(STUDIES)
    makefile = (ROOT / "Makefile").read_text()
    own = {"sparsity"}  # docs/own-study.md: the example as a study
    assert not {target for target in targets - own if not re.search(rf"^{target}:", makefile, re.M)}


COMMANDS = sorted({name for text in TEXTS.values() for name in re.findall(r"-m reproduce ([a-z]+)", text)})


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_exists(command):
    assert invoke(command, "--help").exit_code == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_exists(command):
    """Those that stand in a line of code, of that command."""
    lines = [line for text in TEXTS.values() for line in re.findall(rf"-m reproduce {command}\b[^`\n]*", text)]
    known = invoke(command, "--help").output
    assert not {option for line in lines for option in re.findall(r"(--[a-z-]+)", line) if option not in known}


@pytest.mark.parametrize("name", [*TEXTS, "data/README.md", "data/open-photographs/README.md", "CHANGELOG.md"])
def test_every_picture_and_link_is_there(name):
    folder = (ROOT / name).parent
    targets = re.findall(r"\]\(([^)#\s]+)", (ROOT / name).read_text())
    assert not [t for t in targets if not t.startswith("https://") and not (folder / t).exists()]


def test_the_version_is_one():
    from xdnn import __version__

    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


# --- how the blocks are made ---


def record(**changes):
    return {"study": "toy", "seconds": 90.0, "claims": [claim()], "tasks": []} | changes


def task(name, key, seconds, threads=1):
    return {"task": name, "key": key, "seconds": seconds, "threads": threads, "cores": 2, "hardware": "a chip"}


def test_findings_are_counted_told_and_failures_named():
    claims = [
        claim(),
        claim(id="toy/fails", outcome="not reproduced"),
        claim(id="toy/slow", kind="speed on this machine"),
    ]
    text = readme.findings_block(claims, told=["toy/fails"])
    assert "| Empirical findings" in text and "- **Does not hold.** It [really] holds. *a 1 [0.9, 1.1].*" in text
    assert text.endswith("Not reproduced (1): toy: `fails`.")
    assert readme.findings_block([claim()], told=["toy/holds"]).endswith("No claim failed.")


def test_a_claim_that_is_told_and_not_published_is_an_error():
    with pytest.raises(UserError, match="toy/gone"):
        readme.findings_block([claim()], told=["toy/gone"])


def test_of_several_trainings_the_time_of_one_counts_and_a_shared_task_counts_once():
    trainings = [task("train", "1", 100.0), task("train", "2", 140.0)]
    timed = task("cost", "3", 60.0, threads=2)
    text = readme.run_block([record(tasks=trainings), record(tasks=[*trainings, timed])])
    assert "about 2 minutes on 2 cores (a chip)" in text  # 120 s on one core of two, and 60 s on both


def test_the_registry_of_methods_is_shown_whole():
    text = readme.methods_block(METHODS)
    assert text.count("\n") == len(METHODS) + 1
    assert "| `x_gradient`" in text and "an X-net" in text and "batch mates" in text


def test_a_block_is_replaced_and_its_neighbours_are_not():
    text = "a\n<!-- one -->\nold\n<!-- /one -->\nb\n<!-- two -->\nkept\n<!-- /two -->\n"
    new = readme.refreshed(text, {"one": "new"})
    assert new == text.replace("old", "new") and readme.block(new, "one") == "new"
    with pytest.raises(UserError, match="no block three"):
        readme.refreshed(text, {"three": ""})


def test_a_machine_is_a_row_of_its_medians_against_captum_at_its_best(tmp_path):
    heading = "net,against,ratio,smallest,largest,cpu,threads\n"
    lines = "alexnet,captum at its best: all,1.256,1.2,1.3,a chip,2\nalexnet,captum as built: 16,2,2,2,a chip,2\n"
    (tmp_path / "a.csv").write_text(heading + lines)
    (tmp_path / "b.csv").write_text(heading + "resnet50,captum at its best: 8,0.9,0.8,1,another,1\n")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in readme.peers_block(tmp_path).splitlines()]
    assert rows[0] == ["machine", "AlexNet", "ResNet-50"]
    assert rows[2:] == [
        ["a chip, 2 threads", "1.26 (1.20 to 1.30)", ""],
        ["another, 1 threads", "", "0.90 (0.80 to 1.00)"],
    ]
    with pytest.raises(UserError, match="holds no table; measure this machine with `make peers`"):
        readme.peers_block(tmp_path / "empty")


def test_results_of_another_version_or_none_are_named(tmp_path):
    with pytest.raises(UserError, match="no results in"):
        readme.documents(tmp_path, STUDIES.values())
    folder = tmp_path / "embedded"
    folder.mkdir()
    (folder / "toy.json").write_text('{"claims": [{"claim": "old"}]}')
    with pytest.raises(UserError, match="is not the record of a study"):
        readme.documents(tmp_path, STUDIES.values())


def test_make_prints_what_readme_is_made_by():
    done = subprocess.run(["make", "-n", "readme"], cwd=ROOT, capture_output=True, text=True)
    assert "reproduce.report.readme" in done.stdout
