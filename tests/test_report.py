"""The report: what the page and the Markdown hold, and what happens to broken files."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reproduce import provenance
from reproduce.errors import UserError
from reproduce.report import figures, page, tables, web

from test_findings import CLAIMS, ROWS, findings_of  # isort: skip

STAMP = {
    "commit": "abcdef0123456789",
    "dirty": False,
    "python": "3.11.2",
    "packages": {"torch": "2.9", "numpy": "2.1"},
    "device": "cpu",
    "hardware": "a chip",
    "cores": 2,
    "threads": 1,
    "dtype": "float32",
    "tf32": False,
    "seed": 0,
}
TASKS = [
    {"task": "toy 1", "key": "k1", "seconds": 40.0, "date": "2026-01-01T10:00:00+00:00"} | STAMP,
    {"task": "toy 2", "key": "k2", "seconds": 20.0, "date": "2026-01-02T11:30:00+00:00"} | STAMP,
]


def make_record(**changes):
    """A study's JSON as it is written."""
    table = tables.wide(ROWS, ["dataset", "model", "variant"], {"hits": "Hits (%)", "gap": "Gap (%)"})
    stamps = [{name: value for name, value in task.items() if name not in ("task", "key", "seconds")} for task in TASKS]
    return {
        "study": "toy",
        "order": 1,
        "title": "A toy",
        "question": "Does it <b>?",
        "source": "X-DNN Sec. 1",
        "method": "Look.",
        "differs": "All.",
        "shows": "Hits and gaps side by side.",
        "scale": "embedded",
        "about": "small",
        "estimates_paper": False,
        "table": tables.record(table),
        "claims": findings_of(missing=["needs weights"]),
        "criteria": {"commit": "fedcba9876543210", "dirty": False},
        "provenance": provenance.span(stamps),
        "tasks": TASKS,
        "slides": [
            {
                "title": "IG",
                "label": "steps",
                "positions": ["1", "2", "128"],
                "rows": [
                    {
                        "name": "regular",
                        "image": figures.sprite(np.zeros((3, 8, 8))),
                        "captions": ["50 %", "20 %", 'it\'s "0" %'],
                    }
                ],
            }
        ],
        "data": {"d": "0" * 64},
        "seconds": 60.0,
        "files": [".csv", ".md", ".tex", ".png", ".pdf"],
        "made_from": "",
    } | changes


def write_results(folder, *records):
    """A folder as a run leaves it, and its page."""
    folder.mkdir(parents=True, exist_ok=True)
    for record in records or (make_record(),):
        path = folder / record["study"]
        path.with_suffix(".json").write_text(json.dumps(record))
        tables.write_csv(ROWS, path.with_suffix(".csv"))
        if ".png" in record["files"]:
            Image.fromarray(np.zeros((200, 300, 3), np.uint8)).save(path.with_suffix(".png"))
    page.write(folder)
    return (folder / "report.html").read_text()


def text_of(html):
    body = html[html.index("<body>") : html.rindex("<script>")]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


# --- the page ---


def test_the_page_opens_with_counts_by_kind_and_outcome(tmp_path):
    text = text_of(write_results(tmp_path / "embedded"))
    order = ["Empirical findings Speed on this machine Theorems", "reproduced 1 0 0", "not reproduced 1 0 1"]
    order += ["inconclusive 0 1 0", "not run 1 0 0", "all 5", "Empirical findings 1 of 3 reproduced"]
    places = [text.index(words) for words in order]
    assert places == sorted(places) and places[-1] < text.index("A toy")


def test_what_does_not_hold_stands_first_and_a_broken_theorem_is_named_at_the_top(tmp_path):
    text = text_of(write_results(tmp_path / "embedded"))
    empirical = text[text.index("Empirical findings 1 of 3") :]
    assert empirical.index("It is large") < empirical.index("It &lt;holds&gt;") < empirical.index("It is absent")
    assert (
        "1 theorem does not hold here. Either rounding" in text and "or the code is broken: It &lt;holds&gt; ." in text
    )
    good = make_record(claims=findings_of(CLAIMS[:1]))
    assert "the code is broken" not in text_of(write_results(tmp_path / "good", good))


def test_the_page_says_what_holds_and_escapes_what_it_quotes(tmp_path):
    html = write_results(tmp_path / "embedded")
    text = text_of(html)
    for words in (
        "Holds: AlexNet 2 [1, 3] %; VGG16 2 [1, 3] %; ResNet-50 2 [1, 3] %.",
        "Does not hold here: AlexNet 2 [1, 3] %",
        "Left open (3 of 3 intervals reach over the limit, or are missing)",
        "Not run: needs weights.",
        "gap at most 10 %, in every row",
        "1.2 %",
        "make toy",
        "Method",
        "Look.",
        "50.0 [49.0, 51.0]",
        "Measured 2026-01-01 10:00 to 2026-01-02 11:30 UTC at commit abcdef012345: a chip, 1 thread, float32, seed 0, Python 3.11.2, "
        "torch 2.9, numpy 2.1.",
        "the criteria are those of commit fedcba987654",
        "1 min of measuring",
        "Does it &lt;b&gt;?",
    ):
        assert words in text, words
    assert "<holds>" not in html
    assert "In the paper" not in html and 'download="toy.csv"' in html


def test_the_figure_s_text_says_what_it_shows(tmp_path):
    html = write_results(tmp_path / "embedded", make_record(question="Does it?"))
    assert 'alt="A toy: Hits and gaps side by side. It answers: Does it? The numbers are in the table."' in html


def test_papers_are_linked_and_nothing_is_loaded_from_elsewhere(tmp_path):
    html = write_results(tmp_path / "embedded")
    assert set(re.findall(r'href="(https?://[^"]*)"', html)) == {paper.link for paper in web.PAPERS.values()}
    assert html.count("https://") == len(re.findall(r'href="https://arxiv.org/abs/\d{4}\.\d{5}"', html))
    assert all(link.startswith("data:") for link in re.findall(r'src="([^"]*)"', html))
    assert "default-src 'none'" in html


@pytest.mark.parametrize(
    ("source", "linked"),
    [
        ("X-DNN Table 1", '<a href="https://arxiv.org/abs/2111.07668">X-DNN</a> Table 1'),
        (
            "IG paper Sec. 5 & MFABA",
            '<a href="https://arxiv.org/abs/1703.01365">IG paper</a> Sec. 5 &amp; '
            '<a href="https://arxiv.org/abs/2312.13630">MFABA</a>',
        ),
        ("Erion et al. report it", '<a href="https://arxiv.org/abs/1906.10670">Erion et al.</a> report it'),
        ("extends IDSDS; X-DNNs", "extends IDSDS; X-DNNs"),
    ],
)
def test_the_papers_that_a_source_names_are_linked(source, linked):
    assert web.linked(source) == linked


def test_a_study_that_was_not_run_makes_a_page_too(tmp_path):
    record = make_record(
        table=tables.record(tables.Table((), ())),
        files=[".csv"],
        slides=[],
        tasks=[],
        provenance={},
        data={},
        claims=findings_of(rows=pd.DataFrame(), missing=["needs weights"]),
    )
    html = write_results(tmp_path / "embedded", record)
    assert "Not run at this scale." in html and "<img src" not in html and "Measured" not in text_of(html)
    assert "Not run at this scale." in (tmp_path / "embedded" / "report.md").read_text()


def test_studies_keep_their_order(tmp_path):
    html = write_results(
        tmp_path / "s", make_record(study="b", title="First", order=1), make_record(study="a", order=2)
    )
    assert html.index('id="b"') < html.index('id="a"')


def test_a_large_picture_is_made_small_and_a_large_csv_is_linked(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (700, 700, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    assert len(web.picture(tmp_path / "noise.png")) < 4 / 3 * (tmp_path / "noise.png").stat().st_size / 2
    (tmp_path / "large.csv").write_text("1" * (web.INLINE_BYTES + 1))
    assert web.address(tmp_path / "large.csv", "text/csv") == "large.csv"
    with pytest.raises(UserError, match="cannot be read as a picture.*make large"):
        web.picture(tmp_path / "large.csv")


def test_figures_have_two_pixels_for_each_that_the_page_shows(tmp_path):
    fig, axes = figures.subplots(1, 2)
    axes[0].plot([0, 1])
    figures.save(fig, tmp_path / "a")
    with Image.open(tmp_path / "a.png") as image:
        assert image.width >= 2 * 55 * 16  # page.css: 55rem at most


# --- files ---


def test_the_markdown_starts_with_counts_and_the_csv_has_a_line_for_each_claim(tmp_path):
    write_results(tmp_path / "embedded")
    text = (tmp_path / "embedded" / "report.md").read_text()
    assert "| Empirical findings    | 1            | 1                | 0              | 1         |" in text[:700]
    assert (
        text.index("## Empirical findings")
        < text.index("It is large")
        < text.index("It <holds>")
        < text.index("## A toy")
    )
    claims = pd.read_csv(tmp_path / "embedded" / "claims.csv", keep_default_na=False)
    assert list(claims) == ["id", "study", "kind", "claim", "source", "reported", "measured", "n", "outcome"]
    assert list(claims["id"]) == ["toy/small", "toy/large", "toy/open", "toy/theorem", "toy/absent"]
    assert list(claims["outcome"]) == ["reproduced", "not reproduced", "inconclusive", "not reproduced", "not run"]
    assert (
        claims["measured"][0] == "AlexNet 2 [1, 3] %; VGG16 2 [1, 3] %; ResNet-50 2 [1, 3] %" and claims["n"][0] == "80"
    )
    assert claims["measured"][4] == "" and claims["n"][4] == ""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"study": "toy", "cla', "cannot be read.*remove it and run the study again"),
        ("[1, 2]", "remove it and run the study again"),
        (
            '{"study": "toy", "claims": []}',
            "another version of the suite.*remove it, and make it again with `make broken`",
        ),
    ],
)
def test_a_broken_file_is_named_with_the_way_out(tmp_path, content, words):
    write_results(tmp_path / "embedded")
    (tmp_path / "embedded" / "broken.json").write_text(content)
    with pytest.raises(UserError, match=rf"broken\.json.*{words}"):
        page.write(tmp_path / "embedded")


def test_a_claim_of_another_version_is_named(tmp_path):
    record = make_record(claims=[{"claim": "It holds", "verdict": "reproduced"}])
    with pytest.raises(
        UserError, match=r"toy\.json is not the record of a study: one of its claims has no id, .*outcome"
    ):
        write_results(tmp_path / "embedded", record)
