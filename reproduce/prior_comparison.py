"""Attribution priors compared: how each is trained, which strength it is given, and rows of what its nets are worth."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import scipy
import torch

from reproduce.datasets.tables import Table
from reproduce.statistics import Interval, difference_interval, mean_interval, median_interval, share_interval
from reproduce.tasks import Progress
from reproduce.training import priors
from reproduce.training.priors import Prior
from reproduce.training.repetitions import Tested, run_repetitions

PRIORS: dict[str, Prior] = {
    "unregularised": Prior(),
    "unregularised_no_bias": Prior(bias=False),
    "x_gradient": Prior("x_gradient", bias=False),
    "expected_gradients": Prior("expected_gradients"),
    "gradient": Prior("gradient"),
    "rrr": Prior("rrr"),
}
METRICS = {  # name -> (label, unit, better)
    "test_auc": ("test ROC-AUC", "", "higher"),
    "test_auc_median": ("its median", "", "higher"),
    "collapsed": ("collapsed (%)", "%", "lower"),
    "validation_auc": ("validation ROC-AUC", "", "higher"),
    "gini": ("Gini of |x dz/dx|", "", "higher"),
    "gini_own": ("Gini of own attribution", "", "higher"),
}
DIFFERENCE = "test_auc_difference"


@dataclass(frozen=True)
class Training:
    """What decides the numbers of a repetition, besides its data and prior.

    Attributes:
        epochs, hidden: sparsity/run_sparsity_experiments.py of X-DNN's released code.
        collapsed: a test ROC-AUC up to this is that of a net which has learnt nothing: chance, and two standard errors of
            the ROC-AUC of 5,000 people at chance.
    """

    epochs: int = priors.EPOCHS
    hidden: tuple[int, ...] = priors.HIDDEN
    collapsed: float = 0.52


@dataclass(frozen=True)
class Measurement:
    """One number per repetition.

    Attributes:
        collapsed: up to ``Training.collapsed``?
        data: name -> fingerprint of what they were measured on.
    """

    strength: float
    tested: Tested
    collapsed: list[bool]
    data: dict[str, str]


def train_and_test(
    table: Table,
    prior: Prior,
    training: Training,
    repetitions: Sequence[int],
    generator: Callable[[int], torch.Generator],
    device: torch.device,
    progress: Progress,
) -> Measurement:
    """The repetitions of one configuration. See ``run_repetitions``."""
    tested = run_repetitions(
        torch.tensor(table.features, device=device),
        torch.tensor(table.labels, device=device).bool(),
        prior,
        repetitions,
        generator,
        epochs=training.epochs,
        hidden=training.hidden,
        progress=progress,
    )
    collapsed = [auc <= training.collapsed for auc in tested.test_auc]
    data = {table.name: table.fingerprint()}
    return Measurement(prior.strength, tested, collapsed, data)


def best_strength(measured: Iterable[Measurement]) -> float:
    """The strength with the highest mean validation ROC-AUC over all repetitions; of equals the smaller."""
    scores: dict[float, list[float]] = {}
    for one in measured:
        scores.setdefault(one.strength, []).extend(one.tested.validation_auc)
    return min(scores, key=lambda strength: (-float(np.mean(scores[strength])), strength))


def joined(parts: Sequence[Measurement]) -> Measurement:
    """The repetitions of several measurements of one configuration, one after the other."""
    tested = Tested(*([v for part in parts for v in getattr(part.tested, f.name)] for f in fields(Tested)))
    collapsed = [flag for part in parts for flag in part.collapsed]
    return Measurement(parts[0].strength, tested, collapsed, {k: v for part in parts for k, v in part.data.items()})


def metric_rows(ids: dict[str, Any], measured: Measurement) -> list[dict[str, Any]]:
    """A row for each of METRICS; ``sem`` is the standard error of a mean, which the paper's figure shows."""
    tested = measured.tested
    samples = {name: getattr(tested, name) for name in ("test_auc", "validation_auc", "gini", "gini_own")}
    found: dict[str, Interval] = {name: mean_interval(sample) for name, sample in samples.items()}
    found["test_auc_median"] = median_interval(tested.test_auc)
    found["collapsed"] = percent(share_interval(measured.collapsed))
    return [
        ids
        | {"metric": name, "unit": unit, "better": better}
        | found[name].columns()
        | {"sem": float(scipy.stats.sem(samples[name])) if name in samples and found[name].n > 1 else None}
        for name, (_, unit, better) in METRICS.items()
    ]


def percent(share: Interval) -> Interval:
    return Interval(100 * share.value, 100 * share.low, 100 * share.high, share.n)


def difference_row(ids: dict[str, Any], first: Measurement, second: Measurement) -> dict[str, Any]:
    """Difference of test ROC-AUC over the repetitions, which both must have, with p of Student's t and of Wilcoxon's test."""
    a, b = np.asarray(first.tested.test_auc), np.asarray(second.tested.test_auc)
    interval = difference_interval(a, b)
    differ = len(a) > 1 and np.ptp(a - b) > 0
    p_values = {
        "p_t": float(scipy.stats.ttest_rel(a, b).pvalue) if differ else 1.0,
        "p_wilcoxon": float(scipy.stats.wilcoxon(a, b).pvalue) if differ else 1.0,
    }
    return ids | {"metric": DIFFERENCE, "unit": "", "better": "higher"} | interval.columns() | p_values
