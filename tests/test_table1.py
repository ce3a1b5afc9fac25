"""What removing the biases costs: in points, in percent of the error, and only where a top-5 accuracy says something."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import generator

from reproduce import maps
from reproduce.cache import ResultCache
from reproduce.claims import Outcome, judge
from reproduce.context import Context
from reproduce.datasets import Images
from reproduce.experiment import Experiment
from reproduce.nets import Net
from reproduce.scales import SCALES
from reproduce.studies import table1, table2
from reproduce.studies.table1 import Measurement, Protocol
from reproduce.tasks import Result, in_order, no_progress

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


@pytest.mark.parametrize("mapped", [3, 8, 12])
def test_images_that_table2_has_mapped_are_compared_there_with_the_same_result(net, mapped):
    """Batches of MARD may lie across the last image that was mapped."""
    pixels = torch.randint(0, 256, (12, 3, 16, 16), generator=generator(), dtype=torch.uint8)
    images = Images(pixels, torch.arange(12) % 5, (0.5,) * 3, (0.2,) * 3, classes=5)
    about = Net("alexnet", "regular", "blobs", 1.0, "trained", 0)
    context = SimpleNamespace(device=torch.device("cpu"), seed=0, images=lambda dataset: images)
    explained = maps.Protocol(mapped, (maps.IG, "input_x_gradient"), pool=2)
    made = maps.measure(
        net.float(), images.first(mapped), explained, Experiment(context, about, explained, no_progress)
    )
    protocol = Protocol(images=12, mard_images=10, mard_batch=4)
    experiment = Experiment(context, about, protocol, no_progress)
    alone = table1.measure(net, images, protocol, experiment)
    together = table1.measure(net, images, protocol, experiment, made)
    assert len(alone.mard) == len(together.mard) == 10
    assert together.mard == pytest.approx(alone.mard, rel=1e-4)


@pytest.mark.parametrize("most_images", [None, 7])
def test_the_maps_that_it_needs_are_those_of_table2(tmp_path, most_images):
    context = Context(SCALES["embedded"], ResultCache(tmp_path, {}), tmp_path, most_images=most_images)
    ready = {task.digest for task in in_order(table2.STUDY.at(context))}
    wanted = [need for task in table1.STUDY.at(context) for need in task.needs if need.type is maps.Maps]
    assert len(wanted) == 4 and {task.digest for task in wanted} <= ready


def test_a_converted_net_is_held_against_the_regular_one_on_the_images_that_both_saw():
    """It sees the first half, and misses 50 images of it more."""
    regular = result("regular", 100, "digits-on-photos")
    hits = (np.arange(COUNT // 2) >= 150).tolist()
    converted = Result(
        Net("alexnet", "converted", "digits-on-photos", 1.0, "trained", 0),
        Measurement(hits, hits, [0.0] * 16, []),
        1.0,
        {},
    )
    rows = table1.rows([regular, converted])
    change = rows[(rows["metric"] == "top1_change") & (rows["variant"] == "converted")].iloc[0]
    assert (change["value"], change["n"]) == (pytest.approx(-1), COUNT // 2)
