"""Where the suite keeps things: in the checkout that it is run from, else in the working directory."""

from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parent.parent

ROOT = _CHECKOUT if (_CHECKOUT / "pyproject.toml").is_file() else Path.cwd()
DATA = ROOT / "data"
RESULTS = ROOT / "results"
PUBLISHED = RESULTS / "published"
CACHE = ROOT / ".cache"
