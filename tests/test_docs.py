"""The site of docs/: it builds without a warning and without a network, every link leads somewhere, every page is reached."""

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from command_line import ROOT

import xdnn


class Page(HTMLParser):
    """A page's links and what it loads, and the places in it that links can lead to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.alternatives: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag in ("script", "img") and given.get("src"):
            self.loaded.append(given["src"])
        if tag == "img":
            self.alternatives.append(given.get("alt") or "")
        if tag == "link" and "stylesheet" in (given.get("rel") or ""):
            self.loaded.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Path -> page."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--builder", "html", "docs", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    return {path: Page(path) for path in out.rglob("*.html")}


def leads_to(page: Path, link: str) -> tuple[Path, str]:
    parts = urlsplit(link)
    return ((page.parent / unquote(parts.path)).resolve() if parts.path else page), parts.fragment


def is_own(link: str) -> bool:
    return not urlsplit(link).scheme


def test_every_link_leads_somewhere(site):
    broken = []
    for path, page in site.items():
        for link in filter(is_own, page.links + page.loaded):
            target, place = leads_to(path, link)
            if not target.is_file() or (place and target in site and place not in site[target].ids):
                broken.append(f"{path.name}: {link}")
    assert not broken


def test_nothing_is_loaded_from_elsewhere(site):
    assert not [link for page in site.values() for link in page.loaded if not is_own(link)]


def test_every_page_is_reached_from_the_first(site):
    start = next(path for path in site if path.name == "index.html" and path.parent.name != "api")
    reached, waiting = set(), [start]
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            waiting += [
                target for link in filter(is_own, site[path].links) if (target := leads_to(path, link)[0]) in site
            ]
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages <= {path.relative_to(start.parent).as_posix() for path in reached}


def test_every_name_of_the_library_is_documented(site):
    documented = {place.rpartition(".")[2] for page in site.values() for place in page.ids if place.startswith("xdnn.")}
    registries = {"METHODS", "METRICS", "QUADRATURES"}
    assert set(xdnn.__all__) - registries <= documented


def test_every_picture_says_what_it_shows(site):
    assert not [path.name for path, page in site.items() if "" in page.alternatives]
