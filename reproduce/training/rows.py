"""Rows of a table for a net: which are trained on, and how gaps and units are taken out of them."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

TRAIN_ROWS, VALIDATION_ROWS = 100, 100  # sparsity/run_sparsity_experiments.py of the released code


def split_rows(rows: int, repetition: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of training, validation and test rows: 200 by ``random_state=repetition``, of them 100, the rest is tested."""
    from sklearn.model_selection import train_test_split  # half a second to import: not by whoever lists studies

    both, test = train_test_split(np.arange(rows), train_size=TRAIN_ROWS + VALIDATION_ROWS, random_state=repetition)
    train, validation = train_test_split(both, train_size=TRAIN_ROWS, random_state=repetition)
    return train, validation, test


@dataclass(frozen=True)
class Scaling:
    """Mean imputation and standardisation, (d,) each, fitted on training rows: a gap becomes 0, the mean.

    A column that is constant there is centred only. One with no value there carries nothing to learn from: it is 0 for everybody,
    which is leaving it out.
    """

    mean: Tensor
    deviation: Tensor

    @staticmethod
    def fit(rows: Tensor) -> "Scaling":
        """From rows (n, d) with NaN gaps."""
        mean = rows.nanmean(0)
        filled = rows.where(~rows.isnan(), mean)
        deviation = filled.var(0, unbiased=False).sqrt()  # NaN where the whole column is
        return Scaling(mean, deviation.where(deviation != 0, 1.0))

    def __call__(self, rows: Tensor) -> Tensor:
        return ((rows - self.mean) / self.deviation).nan_to_num_(0.0)
