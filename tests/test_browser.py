"""The page in a browser, on a wide screen and on a phone, and on paper: nothing overflows, everything answers."""

import json
import os
import re
import shutil
import subprocess

import pandas as pd
import pytest

from reproduce.report import tables

from test_findings import CLAIMS, findings_of  # isort: skip
from test_report import make_record, write_results  # isort: skip

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--allow-file-access-from-files",  # the probe looks into the page from outside, as a frame of the wanted width
    "--force-prefers-reduced-motion",
]
pytestmark = pytest.mark.skipif(
    BROWSER is None and not os.environ.get("CI"), reason="needs a browser: apt-get install chromium"
)


def browse(tmp_path, *arguments):
    assert BROWSER, "continuous integration checks the page in a browser: apt-get install chromium"
    done = subprocess.run(
        [BROWSER, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in done.stderr, done.stderr
    return done.stdout


def look(tmp_path, width, probe):
    """What ``probe``, the body of a function of the page's window and document, returns on a screen of that width."""
    (
        tmp_path / "probe.html"
    ).write_text(f"""<body style="margin: 0"><iframe src="embedded/report.html" width="{width}" height="900"
        style="border: 0"></iframe><script>
        const frame = document.querySelector("iframe");
        const answer = (window, document) => {{ {probe} }};
        frame.onload = () => setTimeout(() => {{
          let seen;
          try {{ seen = answer(frame.contentWindow, frame.contentDocument); }} catch (error) {{ seen = String(error); }}
          document.title = JSON.stringify(seen);
        }}, 300);</script>""")
    dump = ("--virtual-time-budget=3000", "--window-size=1400,1000", "--dump-dom", (tmp_path / "probe.html").as_uri())
    return json.loads(re.search(r"<title>(.*?)</title>", browse(tmp_path, *dump))[1])


def wide_record(**changes):
    """A study whose table is far wider than any screen, with a best value in its last column."""
    rows = pd.DataFrame(
        [
            {
                "dataset": "digits-on-photos",
                "model": "alexnet",
                "variant": variant,
                "metric": f"m{column}",
                "better": "higher",
            }
            | {"value": v, "low": v - 1, "high": v + 1, "n": 80}
            for column in range(24)
            for variant, v in (("regular", 50.0), ("x", 60.0), ("wrapped", 51.0))
        ]
    )
    heads = {f"m{column}": f"A heading of some length, {column}" for column in range(24)}
    return make_record(table=tables.record(tables.wide(rows, ["dataset", "model", "variant"], heads)), **changes)


@pytest.mark.parametrize("width", [1280, 768, 390])
def test_the_page_does_not_scroll_sideways_and_the_tables_do(tmp_path, width):
    write_results(tmp_path / "embedded", wide_record())
    seen = look(
        tmp_path,
        width,
        """
        for (const details of document.querySelectorAll("details")) details.open = true;
        const root = document.documentElement, scroll = document.querySelector("#toy-table").parentElement;
        return {screen: window.innerWidth, page: root.scrollWidth - root.clientWidth, table: scroll.scrollWidth > scroll.clientWidth,
          counts: document.querySelector(".counts").offsetWidth > document.querySelector(".counts").parentElement.clientWidth,
          best: document.querySelectorAll("td.best").length};""",
    )
    assert seen == {"screen": width, "page": 0, "table": True, "counts": False, "best": 24}


@pytest.mark.parametrize("width", [1280, 390])
def test_the_navigation_and_the_ids_of_a_line_stay_in_sight(tmp_path, width):
    write_results(tmp_path / "embedded", wide_record())
    seen = look(
        tmp_path,
        width,
        """
        window.scrollTo(0, document.documentElement.scrollHeight);
        const scroll = document.querySelector("#toy-table").parentElement;
        scroll.scrollLeft = 600;
        const box = scroll.getBoundingClientRect();
        const ids = [...document.querySelectorAll("#toy-table tbody tr:first-child .stays")].map((cell) => cell.getBoundingClientRect());
        const gone = document.querySelector("#toy-table tbody td:not(.id)").getBoundingClientRect();
        return {nav: document.querySelector("nav").getBoundingClientRect().top, ids: ids.length,
          inside: ids.every((id) => id.left >= box.left && id.right <= box.left + 0.6 * box.width),
          apart: ids.every((id, i) => i === 0 || id.left >= ids[i - 1].right - 1), gone: gone.right < box.left + 1,
          top: document.querySelector("nav").getBoundingClientRect().bottom < 60};""",
    )
    count = seen.pop("ids")
    assert seen == {"nav": 0, "inside": True, "apart": True, "gone": True, "top": True}
    assert count == 3 if width == 1280 else 1 <= count <= 3


def test_tables_sort_and_filter_figures_open_and_sliders_slide(tmp_path):
    write_results(tmp_path / "embedded")
    seen = look(
        tmp_path,
        1280,
        """
        const rows = () => [...document.querySelectorAll("#toy-table tbody tr:not([hidden])")];
        const column = (n) => rows().map((row) => row.cells[n].textContent.split(" ")[0]);
        const header = document.querySelectorAll("#toy-table th button")[3];
        const seen = {};
        header.click(); seen.up = column(3);
        header.click(); seen.down = column(3); seen.aria = header.closest("th").getAttribute("aria-sort");
        const box = document.createElement("input");
        box.dataset.filter = "toy-table"; box.value = "VGG regular";
        document.body.append(box);
        box.insertAdjacentHTML("afterend", '<output data-count="toy-table"></output>');
        window.filterRows(box); seen.filtered = column(1); seen.count = document.querySelector('[data-count="toy-table"]').value;
        document.querySelector("button.figure").click(); seen.open = document.querySelector("dialog").open;
        const range = document.querySelector(".slider input");
        range.value = 2; range.dispatchEvent(new window.Event("input"));
        seen.slide = [document.querySelector(".slider output").value, document.querySelector(".slider figcaption span").textContent,
          document.querySelector(".frame").style.backgroundPosition];
        seen.requests = window.performance.getEntriesByType("resource").filter((e) => !e.name.startsWith("data:")).map((e) => e.name);
        return seen;""",
    )
    up = ["50.0", "60.0", "70.0", "80.0", "90.0", "100.0"]  # by number: 100 is not before 50
    assert seen == {
        "up": up,
        "down": up[::-1],
        "aria": "descending",
        "filtered": ["VGG16"],
        "count": "1 of 6 rows",
        "open": True,
        "slide": ["128", 'it\'s "0" %', "100% 0px"],
        "requests": [],
    }


def test_findings_are_filtered_by_outcome_and_a_link_opens_one(tmp_path):
    write_results(tmp_path / "embedded")
    seen = look(
        tmp_path,
        390,
        """
        const shown = () => [...document.querySelectorAll(".claims li")].filter((li) => li.offsetHeight > 0).map((li) => li.id);
        const press = (outcome) => document.querySelector(`.filter [data-outcome="${outcome}"]`).click();
        const seen = {all: shown().length};
        press("not reproduced"); seen.bad = shown(); seen.said = document.querySelector(".filter output").value;
        seen.pressed = [...document.querySelectorAll('[aria-pressed="true"]')].map((b) => b.textContent);
        seen.kinds = [...document.querySelectorAll(".kind:not([hidden]) h2")].length;
        window.location.hash = "#toy/small"; window.openFinding();
        seen.opened = document.getElementById("toy/small").querySelector("details").open; seen.again = shown().length;
        return seen;""",
    )
    assert seen == {
        "all": 5,
        "bad": ["toy/large", "toy/theorem"],
        "said": "2 shown",
        "pressed": ["not reproduced 2"],
        "kinds": 2,
        "opened": True,
        "again": 5,
    }


def test_the_printed_report_of_the_size_of_a_run_has_at_most_fifteen_pages(tmp_path):
    words = "Intervals over images hold the spread of the training as well. " * 15
    claim = "X-Gradient on the X-net is not worse by this metric than IG on the regular net, within a margin of 1 point"
    lines = pd.DataFrame(
        [
            {"dataset": "digits-on-photos", "model": f"model {i}", "variant": "x", "metric": "hits", "better": "higher"}
            | {"value": 50.0, "low": 49.0, "high": 51.0, "n": 80}
            for i in range(60)
        ]
    )
    long = tables.record(tables.wide(lines, ["dataset", "model", "variant"], {"hits": "Hits (%)"}))
    claims = [record | {"text": claim} for record in findings_of(CLAIMS * 2)][:8]  # of 19 studies: 152
    write_results(
        tmp_path / "embedded",
        *(
            make_record(
                study=f"toy{i}", method=words, differs=words[:400], table=long, claims=claims, notes=[words[:120]]
            )
            for i in range(19)
        ),
    )
    browse(
        tmp_path,
        "--no-pdf-header-footer",
        f"--print-to-pdf={tmp_path / 'a.pdf'}",
        (tmp_path / "embedded/report.html").as_uri(),
    )
    pages = len(re.findall(rb"/Type\s*/Page\b(?!s)", (tmp_path / "a.pdf").read_bytes()))
    assert 2 <= pages <= 15
