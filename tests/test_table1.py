"""What removing the biases costs: in points, in percent of the error, and only where a top-5 accuracy says something."""

import numpy as np
import pytest

from reproduce.claims import Outcome, judge
from reproduce.nets import Net
from reproduce.studies import table1
from reproduce.studies.table1 import Measurement
from reproduce.tasks import Result

COUNT = 10_000


def result(variant: str, missed: int, dataset: str, seed: int = 0) -> Result:
    """Of 10,000 images ``missed`` are not recognised, neither as the first class nor among five."""
    hits = (np.arange(COUNT) >= missed).tolist()
    gaps = [0.0 if variant == "x" else 0.5] * 16
    return Result(Net("alexnet", variant, dataset, 1.0, "trained", seed), Measurement(hits, hits, gaps, []), 1.0, {})


def findings(regular: int, x: int, dataset: str = "digits-on-photos") -> dict[str, Outcome]:
    rows = table1.rows([result("regular", regular, dataset), result("x", x, dataset)])
    return {finding.claim.id: finding.outcome for finding in judge(table1.STUDY.claims, rows)}


@pytest.mark.parametrize(
    ("regular", "x", "points", "share"),
    [
        (2_000, 2_020, Outcome.REPRODUCED, Outcome.REPRODUCED),  # 0.2 points, 1 % of the error
        (4_000, 4_300, Outcome.NOT_REPRODUCED, Outcome.REPRODUCED),  # 3 points of a large error
        (50, 90, Outcome.REPRODUCED, Outcome.NOT_REPRODUCED),  # 0.4 points, and nearly twice the error
    ],
)
def test_a_cost_is_small_in_points_and_beside_the_error(regular, x, points, share):
    found = findings(regular, x)
    assert (found["accuracy-cost"], found["error-increase"]) == (points, share)


def test_a_top_5_accuracy_counts_among_many_classes_only():
    assert findings(2_000, 2_020)["accuracy-cost-top5"] is Outcome.NOT_RUN
    assert findings(2_000, 2_020, "imagenet-val")["accuracy-cost-top5"] is Outcome.REPRODUCED
    assert findings(2_000, 2_400, "imagenet-val")["accuracy-cost-top5"] is Outcome.NOT_REPRODUCED


def test_a_net_without_errors_has_no_relative_increase():
    rows = table1.rows([result("regular", 0, "digits-on-photos"), result("x", 9, "digits-on-photos")])
    assert "error_increase" not in set(rows["metric"]) and "top1_change" in set(rows["metric"])


def test_the_unit_of_mard_is_the_image():
    rows = table1.rows([result("regular", 9, "digits-on-photos", seed) for seed in range(3)])
    mard = rows[rows["metric"] == "mard"].iloc[0]
    assert (mard["n"], mard["trainings"], mard["value"]) == (16, 3, pytest.approx(50))
