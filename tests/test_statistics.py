"""Intervals: they cover what they say they cover, in the designs and at the numbers of units that the studies have."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from reproduce.statistics import (
    FEWEST,
    difference_interval,
    exact,
    log_log_slope,
    mean_interval,
    median_interval,
    ratio_interval,
    share_interval,
)
from xdnn.metrics.agreement import mard_by_image

REPETITIONS = 2_000  # of a simulation; the share that is covered then has a standard error of 0.5 points
COVERED = (0.92, 0.98)
UNITS = (5, 10, 20, 30, 100)
# Each has mean 0 and standard deviation 1.
DISTRIBUTIONS = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "exponential": lambda rng, shape: rng.exponential(size=shape) - 1,
    "falling": lambda rng, shape: 1 - rng.exponential(size=shape),
    "uniform": lambda rng, shape: np.sqrt(12) * (rng.random(shape) - 0.5),
}


def coverage(samples, mean, interval=mean_interval):
    """Share of the samples whose interval holds the mean."""
    found = [interval(sample) for sample in samples]
    return sum(i.low <= mean <= i.high for i in found) / len(found)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("units", UNITS)
def test_the_interval_of_a_mean_covers_it(units, name):
    draws = DISTRIBUTIONS[name](np.random.default_rng([units, *name.encode()]), (REPETITIONS, units))
    assert COVERED[0] <= coverage(3 + draws, 3) <= COVERED[1]


@pytest.mark.parametrize(("images", "accuracy"), [(100, 0.7), (200, 0.9), (1_000, 0.94)])
def test_the_interval_of_an_accuracy_covers_it_and_stays_below_100_percent(images, accuracy):
    hits = np.random.default_rng(images).random((REPETITIONS, images)) < accuracy
    assert COVERED[0] <= coverage(100.0 * hits, 100 * accuracy) <= COVERED[1]
    rare = mean_interval([100.0] * 998 + [0.0] * 2)
    assert rare.low < 99.8 < rare.high <= 100


@pytest.mark.parametrize("effects", [(0.3, 1, 1), (1, 0.3, 1), (0, 1, 0.3)], ids=("units", "trainings", "no trainings"))
@pytest.mark.parametrize("name", ["normal", "exponential"])
@pytest.mark.parametrize(("trainings", "units"), [(5, 100), (200, 5)])
def test_the_interval_over_trainings_and_units_covers_the_mean(trainings, units, name, effects):
    """Value = effect of the training + effect of the unit + rest. The effect of a training is normal."""
    rng = np.random.default_rng([trainings, *name.encode()])
    draw, count = DISTRIBUTIONS[name], REPETITIONS // 2
    of_training = effects[0] * rng.normal(size=(count, trainings, 1))
    of_unit = effects[1] * draw(rng, (count, 1, units))
    rest = effects[2] * rng.normal(size=(count, trainings, units))
    assert COVERED[0] <= coverage(of_training + of_unit + rest, 0) <= COVERED[1]


def test_an_interval_over_images_alone_would_not_cover_the_mean_over_trainings():
    """Why the trainings are in the interval: leaving them out covers far less than 95 %."""
    rng = np.random.default_rng(0)
    tables = rng.normal(size=(REPETITIONS // 4, 5, 1)) + rng.normal(size=(REPETITIONS // 4, 5, 100))
    assert coverage(tables, 0, lambda table: mean_interval(table.mean(0))) < 0.5


@pytest.mark.parametrize("units", [10, 100])
def test_the_interval_of_a_ratio_covers_it(units):
    rng = np.random.default_rng(units)
    bottom = 2 + 0.5 * rng.normal(size=(REPETITIONS // 2, units))
    top = 3 * bottom + rng.normal(size=bottom.shape)
    pairs = np.stack([top, bottom], axis=1)
    assert COVERED[0] <= coverage(pairs, 3, lambda pair: ratio_interval(*pair)) <= COVERED[1]


@pytest.mark.parametrize("images", [16, 80])
def test_the_interval_of_mard_over_images_covers_it(images):
    """Batches of 16, as in its definition. Images differ in the size of their attributions and in how far the two agree."""
    rng = np.random.default_rng(images)
    batches = REPETITIONS // 2 * images // 16
    size, gap = rng.lognormal(sigma=0.5, size=(batches, 16)), rng.lognormal(-1, 0.5, size=(batches, 16))
    reference = torch.from_numpy(size).view(batches, 16, 1)
    other = torch.from_numpy(size * (1 + gap)).view(batches, 16, 1)
    parts = torch.stack([mard_by_image(a, b) for a, b in zip(reference, other, strict=True)]).numpy()
    expected = parts.mean()  # of batches of 16, whose bias is part of the definition; from thousands of batches
    assert COVERED[0] <= coverage(parts.reshape(-1, images), expected) <= COVERED[1]


def test_the_interval_is_student_s_where_the_sample_is_symmetric():
    sample = [-2.0, -1.0, 0.0, 1.0, 2.0]
    found = mean_interval(sample)
    half = 2.776445 * math.sqrt(2.5 / 5)  # t of 4 degrees of freedom, standard error by hand
    assert (found.low, found.high) == pytest.approx((-half, half)) and found.n == 5


def test_the_interval_of_a_large_sample_is_the_normal_one_and_the_same_each_time():
    sample = np.random.default_rng(1).normal(5, 2, 400)
    found, half = mean_interval(sample), 1.96 * sample.std() / 20
    assert found.value == pytest.approx(sample.mean()) and found.n == 400
    assert (found.low, found.high) == pytest.approx((sample.mean() - half, sample.mean() + half), abs=0.05 * half)
    assert str(found) == str(mean_interval(sample))


def test_the_long_side_of_the_interval_is_that_of_the_long_tail():
    found = mean_interval([1.0, 1.0, 1.0, 2.0, 2.0, 3.0, 9.0])
    assert found.high - found.value > 2 * (found.value - found.low) > 0
    mirrored = mean_interval([-1.0, -1.0, -1.0, -2.0, -2.0, -3.0, -9.0])
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))


def test_the_interval_scales_with_the_unit():
    sample = np.random.default_rng(3).exponential(size=12)
    one, other = mean_interval(sample), mean_interval(5 - 100 * sample)
    assert (other.low, other.high) == pytest.approx((5 - 100 * one.high, 5 - 100 * one.low))


def test_a_crossed_interval_by_hand():
    """Two trainings of five units: mean squares 10, 5 and 1, so the variance of the mean is (10 + 5 - 1) / 10."""
    units = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])  # mean square over units: 2 * 2.5
    rest = np.array([1.0, -2.0, 0.0, 2.0, -1.0]) * math.sqrt(4 / 20)  # sum of squares 4 over both, 4 degrees of freedom
    table = np.stack([1 + units + rest, -1 + units - rest])  # mean square over trainings: 5 * 2
    found = mean_interval(table)
    degrees = 14**2 / (10**2 / 1 + 5**2 / 4 + 1**2 / 4)
    half = stats.t.ppf(0.975, degrees) * math.sqrt(1.4)
    assert found.value == pytest.approx(0)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.15)  # but for the little skewness of five units
    assert (found.n, found.trainings, found.spread) == (5, 2, pytest.approx(math.sqrt(2)))


def test_trainings_that_agree_by_chance_have_an_interval_with_a_width():
    one = np.random.default_rng(0).normal(size=40)
    other = np.random.default_rng(1).normal(size=40)
    found = mean_interval([one - one.mean(), other - other.mean()])  # both have the mean 0
    assert found.value == pytest.approx(0) and found.high - found.low > 0.5


def test_one_training_in_a_list_is_one_training():
    sample = [1.0, 5.0, 2.0, 4.0, 4.0, 9.0]
    assert str(mean_interval([sample])) == str(mean_interval(sample))


def test_a_few_units_have_no_interval_and_equal_ones_a_point():
    few = mean_interval([1.0] * (FEWEST - 1))
    assert few.value == 1 and math.isnan(few.low) and math.isnan(few.high) and few.n == FEWEST - 1
    equal = mean_interval([0.1] * 30)
    assert equal.low <= equal.value <= equal.high and equal.high - equal.low < 1e-15
    assert math.isnan(exact(3, 7).low) and exact(3, 7).columns()["n"] == 7


def test_paired_values_that_agree_have_a_narrow_interval():
    first = np.random.default_rng(2).normal(0, 10, 200)
    found = difference_interval(first + 1, first)
    assert found.value == pytest.approx(1) and found.high - found.low < 1e-9
    by_training = difference_interval([first + 1, first + 3], [first, first])
    assert by_training.value == pytest.approx(2) and by_training.trainings == 2


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mean_interval([]), "need .units,."),
        (lambda: mean_interval([1.0, math.nan, math.inf]), "2 of 3 values"),
        (lambda: mean_interval(np.zeros((2, 3, 4))), r"\(2, 3, 4\)"),
        (lambda: difference_interval([1.0], [1.0, 2.0]), "one shape"),
        (lambda: ratio_interval([1.0, 2.0], [1.0, -1.0]), "mean that is not 0"),
    ],
)
def test_what_has_no_interval_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_the_slope_of_a_power_law_is_its_exponent():
    k = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    slope, error = log_log_slope(k, 3 * k**-0.5)
    assert slope == pytest.approx(-0.5) and error < 1e-9


@pytest.mark.parametrize("units", [10, 30, 200])
def test_the_interval_of_a_median_covers_it_whatever_the_law(units):
    draws = np.random.default_rng(units).standard_cauchy((REPETITIONS // 4, units))
    assert coverage(draws, 0.0, median_interval) >= COVERED[0]
    assert median_interval([1.0, 2.0, 30.0]).value == 2 and math.isnan(median_interval([1.0, 2.0, 30.0]).low)


def test_the_interval_of_a_share_covers_it_and_is_not_empty_where_nothing_was_hit():
    hits = np.random.default_rng(0).random((REPETITIONS // 4, 30)) < 0.1
    assert coverage(hits, 0.1, share_interval) >= COVERED[0]
    none, two = share_interval([False] * 30), share_interval([True, True] + [False] * 28)
    assert (none.value, none.low) == (0, 0) and 0.1 < none.high < 0.15
    assert two.value == pytest.approx(2 / 30) and 0 < two.low < two.value < two.high < 0.25
    with pytest.raises(ValueError, match="at least one unit"):
        share_interval([])
