"""Numbers that all images give together: the interval of a slope covers it, and counts say of how many."""

import numpy as np
import pytest
from scipy import stats

from reproduce.statistics import count_interval, jackknife_interval, log_log_slope

REFERENCES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def slope(table):
    return log_log_slope(REFERENCES, table.mean(0).tolist())[0]


@pytest.mark.parametrize("images", [8, 16])
def test_the_interval_of_a_slope_covers_it(images):
    """Squared errors that fall like 1/k, of images whose sizes differ by a factor of two."""
    rng = np.random.default_rng(images)
    covered = 0
    for _ in range(300):
        sizes = np.exp(0.5 * rng.normal(size=(images, 1)))
        found = jackknife_interval(slope, [sizes / REFERENCES * rng.chisquare(20, (images, 9)) / 20])
        covered += found.low <= -1 <= found.high
    assert 0.91 <= covered / 300 <= 0.98


def test_the_jackknife_of_a_mean_is_students_interval_of_it():
    values = [1.0, 2.0, 4.0, 9.0, 3.0]
    found = jackknife_interval(lambda table: float(table.mean()), [values])
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert (found.value, found.low, found.high, found.n) == pytest.approx((3.8, low, high, 5))


def test_the_spread_of_trainings_is_in_the_interval():
    one, other = np.full(8, 1.0) + 0.01 * np.arange(8), np.full(8, 2.0) + 0.01 * np.arange(8)
    found = jackknife_interval(lambda table: float(table.mean()), [one, other])
    assert found.trainings == 2 and found.spread == pytest.approx(2**-0.5)
    assert found.high - found.low > 1


def test_a_count_says_of_how_many_and_has_no_interval():
    found = count_interval([True] * 7 + [False])
    assert (found.value, found.n, found.trainings) == (7, 8, 1) and np.isnan(found.low) and np.isnan(found.high)
    both = count_interval([[True, True], [True, False]])
    assert (both.value, both.n, both.trainings) == (1.5, 2, 2)
