"""Intervals: every mean in the suite comes with one, and with its n."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 2_000


@dataclass(frozen=True)
class Interval:
    """A mean, its percentile bootstrap interval and the number of independent units behind it."""

    value: float
    low: float
    high: float
    n: int

    def columns(self) -> dict[str, float | int]:
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


def mean_interval(values: ArrayLike) -> Interval:
    """Mean of independent units (images, batches, repetitions) with its 95 % percentile bootstrap interval.

    The resampling is seeded, so the same values give the same interval. One unit gives an interval of width 0 and n = 1.

    Raises:
        ValueError: no values, or more than one axis.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not len(sample):
        raise ValueError(f"need a non-empty list of numbers, got shape {sample.shape}")
    mean = float(sample.mean())
    if len(sample) == 1 or np.ptp(sample) == 0 or not np.isfinite(sample).all():
        return Interval(mean, mean, mean, len(sample))
    result = stats.bootstrap(
        (sample,), np.mean, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, method="percentile",
        rng=np.random.default_rng(0), batch=max(1, 2_000_000 // len(sample)),
    ).confidence_interval  # fmt: skip
    return Interval(mean, float(result.low), float(result.high), len(sample))


def difference_interval(first: ArrayLike, second: ArrayLike) -> Interval:
    """Mean of ``first - second`` over the same units (paired), with its interval.

    Raises:
        ValueError: different lengths.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"paired values must have one shape, got {a.shape} and {b.shape}")
    return mean_interval(a - b)


def log_log_slope(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Slope of log y over log x by least squares, and its standard error: an error that falls like k^-1/2 gives -0.5."""
    fit = stats.linregress(np.log(x), np.log(y))
    return float(fit.slope), float(fit.stderr)
