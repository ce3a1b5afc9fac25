"""What is said of each claim: its JSON, its numbers in words, its criterion, and when they were measured."""

import json
from functools import partial

import pandas as pd
import pytest

from reproduce.claims import Claim, Kind, at_least, at_most, better, between, judge, not_worse, select
from reproduce.report import findings, measuring

NETS = [(model, variant) for model in ("alexnet", "vgg16", "resnet50") for variant in ("regular", "x")]
ROWS = pd.DataFrame(
    [
        {
            "dataset": "digits-on-photos",
            "model": model,
            "variant": variant,
            "metric": metric,
            "unit": "%",
            "better": side,
        }
        | {"value": v, "low": v - 1, "high": v + 1, "n": 80, "trainings": 1}
        for i, (model, variant) in enumerate(NETS)
        for metric, v, side in (
            ("hits", 50.0 + 10 * i, "higher"),
            ("gap", 80.0 if variant == "regular" else 2.0, "lower"),
        )
    ]
)


def claim(name="c", *, kind=Kind.EMPIRICAL, criterion=None, text="It <holds>", source="X-DNN Table 1", **where):
    where = where or {"metric": "gap", "variant": "x"}
    return Claim(
        name,
        text,
        kind,
        source,
        "1.2 %",
        str(where["metric"]),
        criterion or at_most(10),
        partial(select, **where),
        "enough",
    )


CLAIMS = (
    claim("small"),
    claim("large", criterion=at_least(30), text="It is large", source="IG paper Sec. 2; MFABA Table 2"),
    claim("open", criterion=at_most(2.5), text="It is open", kind=Kind.SPEED),
    claim("theorem", kind=Kind.THEOREM, metric="hits"),
    claim("absent", metric="loss", text="It is absent", source="Erion et al., extended"),
)


def findings_of(claims=CLAIMS, rows=ROWS, missing=()):
    return [findings.record("toy", finding, missing) for finding in judge(claims, rows)]


def test_a_finding_is_json_with_numbers_and_ids():
    record = json.loads(json.dumps(findings_of()[0], allow_nan=False))
    assert record["id"] == "toy/small" and record["kind"] == "empirical" and record["outcome"] == "reproduced"
    assert record["criterion"] == {"low": None, "high": 10, "margin": 0, "smallest": 0}
    assert record["evidence"][0] == {
        "dataset": "digits-on-photos",
        "model": "alexnet",
        "variant": "x",
        "metric": "gap",
        "unit": "%",
        "better": "lower",
        "value": 2.0,
        "low": 1.0,
        "high": 3.0,
        "n": 80,
        "trainings": 1,
        "says": True,
    }


def test_up_to_three_rows_are_named_and_more_are_a_range_with_the_one_nearest_to_the_limit():
    assert findings.measured(findings_of([claim()])[0]).startswith("AlexNet 2 [1, 3] %; VGG16 2")
    hits = findings_of([claim(metric="hits", criterion=at_least(45))])[0]
    assert (
        findings.measured(hits)
        == "50.0 to 100.0 % over 6 nets; nearest to the limit: AlexNet regular 50.0 [49.0, 51.0] %"
    )
    least = findings_of([claim(metric="hits", criterion=at_least(65))])[0]
    assert "; 4 of 6 support it; nearest to the limit: AlexNet regular" in findings.measured(least)
    most = findings_of([claim(metric="hits", criterion=at_most(200))])[0]
    assert findings.measured(most).endswith("nearest to the limit: ResNet-50 X-variant 100.0 [99.0, 101.0] %")
    several = pd.concat([ROWS, ROWS.assign(against="gradient")])
    text = findings.measured(findings_of([claim(metric="hits", criterion=at_least(45))], several)[0])
    assert (
        text.startswith("50.0 to 100.0 % in 12 comparisons on 6 nets") and "against Gradient" not in text.split(";")[-1]
    )


def test_rows_are_named_by_what_tells_them_apart():
    rows = [
        {
            "dataset": "cifar10",
            "model": "alexnet",
            "method": "x_gradient",
            "steps": 8,
            "metric": "kpm",
            "against": "gradient",
        },
        {
            "dataset": "cifar10",
            "model": "alexnet",
            "method": "gradient",
            "steps": 16,
            "metric": "kpm",
            "against": "regular integrated_gradients_128",
        },
    ]
    assert findings.row_names(rows) == [
        "AlexNet, CIFAR-10 X-Gradient steps 8 against Gradient",
        "AlexNet, CIFAR-10 Gradient steps 16 against regular IG (128)",
    ]
    assert findings.row_names([{"model": "mlp", "value": 1.0}]) == ["MLP"]
    assert findings.row_names([{"metric": "a", "chosen": True}, {"metric": "a", "chosen": False}]) == [
        "chosen",
        "not chosen",
    ]


@pytest.mark.parametrize(
    ("criterion", "words"),
    [
        (at_most(10), "gap at most 10 %, in every row"),
        (at_least(30), "gap at least 30 %, in every row"),
        (between(4, 8), "gap 4 to 8 %, in every row"),
        (not_worse(1.5), "gap at least -1.5 %, in every row"),
        (better(0.5), "gap above 0; less than 0.5 % with certainty refutes it, in every row"),
    ],
)
def test_a_criterion_in_words(criterion, words):
    assert findings.allowed(findings_of([claim(criterion=criterion)])[0]) == words


def test_what_was_measured_at_several_times_and_places_is_said():
    span = {
        "first": "2026-01-01T10:00:00+00:00",
        "last": "2026-01-01T10:00:59+00:00",
        "dirty": True,
        "commit": ["a" * 40, None],
        "hardware": ["chip A", "chip B"],
        "threads": [1, 2],
        "python": ["3.11", "3.12"],
        "packages": [{"torch": "2"}, {"torch": "3"}],
        "dtype": ["float32"],
        "seed": [0],
    }
    assert measuring.sentence(span) == (
        "Measured 2026-01-01 10:00 UTC at commits aaaaaaaaaaaa, unknown with local changes: chip A; chip B, 1 or 2 threads, float32, "
        "seed 0, Python 3.11 or 3.12, torch 2 or 3."
    )
    assert measuring.dates(span | {"last": "2026-01-01T12:30:00+00:00"}) == "2026-01-01 10:00 to 12:30 UTC"
    assert measuring.sentence({}) == ""
