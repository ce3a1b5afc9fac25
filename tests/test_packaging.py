"""The package builds and installs, and the library needs nothing but torch and numpy."""

import re
import subprocess
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, from a clean copy, without the network: setuptools is part of requirements.txt."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "xdnn", "reproduce", "pyproject.toml", "README.md", "LICENSE"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(lambda name: (ROOT / name).is_file(), listed.stdout.split()):
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "source" / name).write_bytes((ROOT / name).read_bytes())
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, folder / "source")
    return next(folder.glob("*.whl"))


def pip(*words):
    done = subprocess.run([sys.executable, "-m", "pip", "--quiet", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_wheel_holds_both_packages_and_what_they_read(wheel):
    names = ZipFile(wheel).namelist()
    for name in ("xdnn/__init__.py", "xdnn/py.typed", "reproduce/cli/__init__.py", "reproduce/report/template.html"):
        assert name in names
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "results", "data"))]
    metadata = ZipFile(wheel).read(next(n for n in names if n.endswith("METADATA"))).decode()
    required = re.findall(r"^Requires-Dist: ([A-Za-z0-9-]+)(?!.*extra)", metadata, re.M)
    assert required == ["torch", "numpy"]
    entry_points = ZipFile(wheel).read(next(n for n in names if n.endswith("entry_points.txt"))).decode()
    assert "reproduce = reproduce.cli:main" in entry_points


def needed_by(*names):
    """These distributions and all that they require here."""
    found, waiting = {}, list(names)
    while waiting:
        name = waiting.pop()
        try:
            own = distribution(name)
        except PackageNotFoundError:  # for another platform
            continue
        if own.name not in found:
            found[own.name] = own
            waiting += [re.split(r"[^A-Za-z0-9._-]", r)[0] for r in own.requires or [] if "extra ==" not in r]
    return found.values()


@pytest.fixture(scope="module")
def bare(wheel, tmp_path_factory):
    """A folder of installed packages with the wheel, torch, numpy, and what these two need: nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    pip("install", "--no-deps", "--target", folder, wheel)
    site = Path(sysconfig.get_path("purelib"))
    for package in needed_by("torch", "numpy"):
        for top in {Path(str(file)).parts[0] for file in package.files or []} - {"..", "__pycache__"}:
            if (site / top).exists() and not (folder / top).exists():
                (folder / top).symlink_to(site / top)
    return folder


def run(bare, program):
    """In an interpreter that sees the standard library and that folder."""
    program = f"import sys; sys.path.insert(0, {str(bare)!r})\n{program}"
    return subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True)


def test_the_library_works_with_nothing_but_torch_and_numpy(bare):
    done = run(
        bare,
        "import torch\n"
        "from xdnn import METHODS, integrated_gradients, is_homogeneous, to_x_variant, x_gradient\n"
        "net = to_x_variant(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)))\n"
        "x, t = torch.randn(2, 4), torch.tensor([0, 2])\n"
        "assert is_homogeneous(net, x)\n"
        "torch.testing.assert_close(integrated_gradients(net, x, t), x_gradient(net, x, t))\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'scipy', 'pandas', 'captum', 'reproduce'}))\n"
        "print(len(METHODS))",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "[]" and int(done.stdout.split("\n")[1]) > 10


def test_importing_the_library_takes_hardly_longer_than_importing_torch(bare):
    """Modules are counted, not seconds: a busy machine makes no difference."""
    count = "import {}\nprint(len(sys.modules))"
    torch_alone, with_xdnn = (int(run(bare, count.format(name)).stdout) for name in ("torch, torch.fx", "xdnn"))
    own = len(list((ROOT / "xdnn").rglob("*.py")))
    assert with_xdnn <= torch_alone + own + 60


def test_every_package_that_is_imported_is_declared():
    """The extras of pyproject.toml and the lock name the same packages."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[^A-Za-z0-9-]", name)[0].lower() for name in project["dependencies"]}
    for extra in project["optional-dependencies"].values():
        declared |= {re.split(r"[^A-Za-z0-9-]", name)[0].lower() for name in extra}
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    locked = {line.partition("==")[0].lower() for line in lines if "==" in line}
    assert declared == locked
