"""Rankings of methods by their means over images, and how much of a ranking is chance."""

from collections.abc import Callable

import numpy as np
import scipy
from numpy.typing import NDArray

from reproduce.statistics import FEWEST, Interval

RESAMPLES = 500
Samples = NDArray[np.float64]


def rank(place: int, means: Samples) -> float:
    """1 for the largest."""
    return float(1 + (means > means[place]).sum())


def kendall_tau(first: Samples, second: Samples) -> float:
    """1 where two rankings agree in all pairs, -1 where they agree in none."""
    return float(scipy.stats.kendalltau(first, second).statistic)


def resampled(statistic: Callable[..., float], *samples: Samples) -> Interval:
    """A statistic of the methods' means, (methods,) of each of ``samples`` (methods, trainings, n), with its interval.

    Percentile bootstrap: the images are drawn, the same for all methods; the spread is that over trainings.
    """
    _, trainings, count = samples[0].shape
    value = statistic(*(s.mean((1, 2)) for s in samples))
    each = [statistic(*(s[:, t].mean(1) for s in samples)) for t in range(trainings)]
    spread = float(np.std(each, ddof=1)) if trainings > 1 else float("nan")
    if count < FEWEST:
        return Interval(value, float("nan"), float("nan"), count, trainings, spread)
    means = [s.mean(1) for s in samples]
    draws = np.random.default_rng(0).integers(count, size=(RESAMPLES, count))
    found = [statistic(*(m[:, drawn].mean(1) for m in means)) for drawn in draws]
    low, high = np.percentile(found, (2.5, 97.5))
    return Interval(value, float(low), float(high), count, trainings, spread)
