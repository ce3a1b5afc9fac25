"""What makes a number stale: the code that it was computed by, and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

PACKAGE = {
    "xdnn/__init__.py": "from xdnn.near import near\nfrom xdnn.far import far\n",
    "xdnn/far.py": '"""Far."""\nCONSTANT = 1\nOTHER = 2\n\n\ndef far():\n    return CONSTANT\n\n\ndef unused():\n    return OTHER\n',
    "xdnn/near.py": "from xdnn.far import far\n\n\ndef near(x: 'Shape'):\n    # why\n    return far()\n\n\nclass Shape:\n    side = 1\n",
    "xdnn/registry.py": "def discover(name, attribute):\n    return {}\n",
    "xdnn/kinds/__init__.py": "from xdnn.registry import discover\nKINDS = discover(__name__, 'KINDS')\n",
    "xdnn/kinds/one.py": "def one():\n    return 1\n\n\nKINDS = {'one': one}\n",
    "study.py": (
        "from xdnn import near\nfrom xdnn.kinds import KINDS\n\nTITLE = 'a'\nTITLES = [TITLE for word in 'ab']\n\n\n"
        "def measure():\n    word = near(1)\n    return word\n\n\n"
        "def of_all_kinds():\n    return KINDS\n\n\ndef figure():\n    return TITLE\n"
    ),
}
PROGRAM = """
import json, sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
import study
from reproduce.fingerprint import fingerprint
print(json.dumps({name: fingerprint(getattr(study, name)) for name in ("measure", "of_all_kinds", "figure")}))
"""


@pytest.fixture
def package(tmp_path):
    for name, text in PACKAGE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def fingerprints(package):
    """In a process of its own: a running one keeps the code that it started with."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(package), str(ROOT)], capture_output=True, text=True, cwd=package
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("xdnn/far.py", "CONSTANT = 1", "CONSTANT = 3", {"measure"}),
        ("xdnn/far.py", "OTHER = 2", "OTHER = 3", set()),
        ("xdnn/far.py", '"""Far."""', '"""Further."""', set()),
        ("xdnn/near.py", "# why", "# because", set()),
        ("xdnn/near.py", "side = 1", "side = 2", {"measure"}),
        ("xdnn/kinds/one.py", "return 1", "return 2", {"of_all_kinds"}),
        ("study.py", "TITLE = 'a'", "TITLE = 'b'", {"figure"}),
        ("study.py", "near(1)", "near(2)", {"measure"}),
    ],
)
def test_what_a_function_reaches_changes_its_fingerprint(package, file, old, new, changed):
    before = fingerprints(package)
    path = package / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    after = fingerprints(package)
    assert {name for name in before if before[name] != after[name]} == changed


def test_a_new_file_in_a_registry_counts(package):
    before = fingerprints(package)
    (package / "xdnn/kinds/two.py").write_text("KINDS = {}\n")
    after = fingerprints(package)
    assert {name for name in before if before[name] != after[name]} == {"of_all_kinds"}


# --- the suite's own tasks ---

KEYS = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from reproduce.cache import ResultCache
from reproduce.context import Context
from reproduce.scales import SCALES
from reproduce.studies import STUDIES
from reproduce.tasks import in_order
context = Context(SCALES["smoke"], ResultCache(Path(sys.argv[2]), {}), Path(sys.argv[2]))
keys = {task.name: task.digest for study in STUDIES.values() for task in in_order(study.at(context))}
print(json.dumps(keys))
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """A copy of the packages to change."""
    folder = tmp_path_factory.mktemp("suite")
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "xdnn", "reproduce", "data"], cwd=ROOT,
                           capture_output=True, text=True, check=True).stdout.split()  # fmt: skip
    for name in (*names, "pyproject.toml"):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


def keys(suite, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KEYS, str(suite), str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=suite,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# Those that measure MARD, and ground-truth, which reads the registry of all metrics.
READ_MARD = {"table1", "mantissa", "width", "beyond-images", "ground-truth"}


@pytest.mark.parametrize(
    ("file", "old", "new", "studies"),
    [
        ("xdnn/metrics/agreement.py", "MARD_EPSILON = 1e-7", "MARD_EPSILON = 2e-7", READ_MARD),
        ("xdnn/metrics/agreement.py", "MARD_EPSILON = 1e-7", "# the paper's\nMARD_EPSILON = 1e-7", set()),
        ("reproduce/studies/table1.py", "POINTS = 1.5", "POINTS = 2.5", set()),  # a claim's limit measures nothing
    ],
)
def test_one_changed_constant_computes_exactly_the_dependent_tasks_again(suite, tmp_path, file, old, new, studies):
    before = keys(suite, tmp_path)
    path = suite / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    after = keys(suite, tmp_path)
    path.write_text(text)
    changed = {name for name in before if before[name] != after[name]}
    assert before.keys() == after.keys()
    assert {name.split(" ")[0] for name in changed} == studies
    assert changed == {name for name in before if name.split(" ")[0] in studies}
