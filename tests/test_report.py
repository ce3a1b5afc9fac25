"""The page: which paper, which value is best, what is escaped, and that it works in a browser without asking for anything."""

import json
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reproduce.report import figures, page, tables, web

ROWS = pd.DataFrame(
    [
        {"data": "d", "net": net, "metric": metric, "value": v, "low": v - 1, "high": v + 1, "better": better}
        for net, hits, gap in (("plain", 50, 80), ("x", 60, 2), ("wrapped", 51, 40))
        for metric, v, better in (("hits", hits, "higher"), ("gap", gap, "lower"))
    ]
)


def results(folder, **changes):
    """A folder with one study, as the runner leaves it."""
    table = tables.wide(ROWS, ["data", "net"], {"hits": "Hits (%)", "gap": "Gap (%)"})
    claim = {
        "study": "toy",
        "claim": "It <holds>",
        "source": "X-DNN Sec. 1",
        "reported": "",
        "measured": "7 %",
        "verdict": "reproduced",
    }
    record = {
        "study": "toy", "title": "A toy", "question": "Does it?", "source": "X-DNN Sec. 1", "protocol": "Look.", "differs": "All.",
        "scale": "embedded", "about": "small", "estimates_paper": False, "table": tables.record(table),
        "claims": [
            claim,
            claim | {"verdict": "not reproduced", "source": "IG paper Sec. 2"},
            claim | {"verdict": "not run: needs weights", "measured": "", "source": "MFABA Table 1"},
        ],
        "provenance": {
            "commit": "abcdef0123456789", "dirty": False, "python": "3.11", "packages": {"torch": "2"}, "hardware": "a chip",
            "threads": 1, "dtype": "float32", "seed": 0, "date": "2026-01-01T00:00:00+00:00",
        },
        "slides": [{"title": "IG", "label": "steps", "positions": ["1", "2", "128"], "rows": [
            {"name": "regular", "image": figures.sprite(np.zeros((3, 8, 8))), "captions": ["50 %", "20 %", "it's \"0\" %"]}]}],
        "data": {"d": "0" * 64}, "seconds": 60.0, "files": [".csv", ".png"],
    } | changes  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "toy.json").write_text(json.dumps(record))
    (folder / "toy.md").write_text("## A toy\n")
    tables.write_csv(ROWS, folder / "toy.csv")
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(folder / "toy.png")
    page.write(folder)
    return (folder / "report.html").read_text()


def test_a_best_value_is_marked_only_where_no_rival_s_interval_touches_it():
    table = tables.record(tables.wide(ROWS, ["data", "net"], {"hits": "Hits", "gap": "Gap"}))
    assert web.best(table) == {(1, 2), (1, 3)}  # x is first by hits (higher) and by gap (lower)
    close = ROWS.assign(low=ROWS["value"] - 10, high=ROWS["value"] + 10)
    table = tables.record(tables.wide(close, ["data", "net"], {"hits": "Hits", "gap": "Gap"}))
    assert web.best(table) == {(1, 3)}  # 60 +- 10 touches 51 +- 10; 2 +- 10 does not touch 40 +- 10
    bare = tables.record(tables.wide(ROWS, ["data", "net"], {"hits": "Hits", "gap": "Gap"}, intervals=False))
    assert web.best(bare) == set()


def test_rivals_are_the_rows_that_differ_in_the_last_id_only():
    two = pd.concat(
        [ROWS, ROWS.assign(data="e", value=ROWS["value"] + 30, low=ROWS["low"] + 30, high=ROWS["high"] + 30)]
    )
    table = tables.record(tables.wide(two, ["data", "net"], {"hits": "Hits"}))
    assert web.best(table) == {(1, 2), (4, 2)}


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ("X-DNN Table 1", "X-DNN"),
        ("IG paper Sec. 5; X-DNN Sec. 3", "IG"),
        ("Monte-Carlo error; Erion et al. report convergence", "Erion"),
        ("MFABA Table 2", "MFABA"),
        ("extends IDSDS", web.OTHER),
        ("BIG and RIGHT", web.OTHER),
    ],
)
def test_a_claim_goes_to_the_paper_that_its_source_names_first(source, key):
    assert web.paper(source) == key


def test_the_page_says_what_holds_and_escapes_what_it_quotes(tmp_path):
    html = results(tmp_path / "embedded")
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html[html.index("<body>") : html.rindex("<script>")]))
    for words in (
        "1 reproduced", "1 not reproduced", "1 not run", "Holds: measured 7 %.", "Does not hold here: measured 7 %.",
        "Not run: needs weights.", "It &lt;holds&gt;", "abcdef012345", "a chip", "make toy", "50.0 [49.0, 51.0]",
    ):  # fmt: skip
        assert words in text, words
    assert "<holds>" not in html
    assert "In the paper" not in html and 'download="toy.csv"' in html


def test_nothing_on_the_page_comes_from_elsewhere(tmp_path):
    html = results(tmp_path / "embedded")
    assert not re.findall(r"https?://", html)
    assert all(
        link.startswith(("data:", "#", "toy.pdf")) for link in re.findall(r'(?:src|href)="([^"]*)"', html) if link
    )


def test_a_study_that_was_not_run_and_an_empty_folder_make_pages_too(tmp_path):
    html = results(tmp_path / "embedded", table={"columns": [], "ids": 0, "better": {}, "rows": []}, files=[".csv"])
    assert "Not run at this scale." in html and "<img src" not in html
    (tmp_path / "none").mkdir()
    page.write(tmp_path / "none")
    assert "No study has been run." in (tmp_path / "none" / "report.html").read_text()


def test_a_large_picture_is_made_small_and_a_large_csv_is_linked(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (700, 700, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    assert len(web.picture(tmp_path / "noise.png")) < 4 / 3 * (tmp_path / "noise.png").stat().st_size / 2
    (tmp_path / "large.csv").write_text("1" * (web.INLINE_BYTES + 1))
    assert web.address(tmp_path / "large.csv", "text/csv") == "large.csv"


# --- in a browser ---

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--enable-logging=stderr", "--dump-dom",
)  # fmt: skip
PROBE = """<script>
const column = (n) => [...document.querySelectorAll("#toy-table tbody tr:not([hidden])")].map((r) => r.cells[n].textContent.split(" ")[0]);
const header = document.querySelectorAll("#toy-table th button")[2];
const seen = {};
header.click(); seen.up = column(2);
header.click(); seen.down = column(2); seen.aria = header.closest("th").getAttribute("aria-sort");
const box = document.createElement("input");
box.dataset.filter = "toy-table"; box.value = "WRAP";
document.body.append(box);
box.insertAdjacentHTML("afterend", '<output data-count="toy-table"></output>');
filter(box); seen.filtered = column(1); seen.count = document.querySelector('[data-count="toy-table"]').value;
document.querySelector("button.figure").click(); seen.open = document.querySelector("dialog").open;
const range = document.querySelector(".slider input");
range.value = 2; range.dispatchEvent(new Event("input"));
seen.slide = [document.querySelector(".slider output").value, document.querySelector(".slider figcaption span").textContent,
  document.querySelector(".frame").style.backgroundPosition];
seen.requests = performance.getEntriesByType("resource").filter((e) => !e.name.startsWith("data:")).map((e) => e.name);
seen.sideways = document.documentElement.scrollWidth > document.documentElement.clientWidth;
document.title = JSON.stringify(seen);
</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
@pytest.mark.parametrize("size", ["1280,900", "500,900"])
def test_in_a_browser_tables_sort_and_filter_and_nothing_is_asked_for(tmp_path, size):
    html = results(tmp_path / "embedded")
    probed = tmp_path / "probed.html"
    probed.write_text(html.replace("</body>", PROBE + "</body>"))
    done = subprocess.run(
        [BROWSER, *FLAGS, f"--window-size={size}", f"--user-data-dir={tmp_path / 'profile'}", probed.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr, done.stderr
    seen = json.loads(re.search(r"<title>(.*?)</title>", done.stdout)[1])
    assert seen == {
        "up": ["50.0", "51.0", "60.0"], "down": ["60.0", "51.0", "50.0"], "aria": "descending", "filtered": ["wrapped"],
        "count": "1 of 3 rows", "open": True, "slide": ["128", "it's \"0\" %", "100% 0px"],
        "requests": [], "sideways": False,
    }  # fmt: skip
