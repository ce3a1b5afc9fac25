"""Repetitions of one configuration of an attribution prior: split, standardise, train and test each."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from reproduce.tasks import Progress, no_progress
from reproduce.training.priors import EPOCHS, HIDDEN, Prior, train
from reproduce.training.rows import TRAIN_ROWS, Scaling, split_rows
from reproduce.training.side_by_side import forward
from xdnn.metrics.ranking import roc_auc

# Points (repetitions x rows x references) whose activations are alive at once: more fall out of the cache, and memory grows.
GROUP_POINTS = 400


@dataclass(frozen=True)
class Tested:
    """One number per repetition, in their order.

    Attributes:
        test_auc, validation_auc: ROC-AUC, 0..1, of the kept epoch
        gini, gini_own: of mean |x dz/dx| over training rows, and of the prior's own attribution
        epoch: the kept one, counted from 0
    """

    test_auc: list[float]
    validation_auc: list[float]
    gini: list[float]
    gini_own: list[float]
    epoch: list[int]


def run_repetitions(
    features: Tensor,
    labels: Tensor,
    prior: Prior,
    repetitions: Sequence[int],
    generator: Callable[[int], torch.Generator],
    *,
    epochs: int = EPOCHS,
    hidden: Sequence[int] = HIDDEN,
    group: int | None = None,
    progress: Progress = no_progress,
) -> Tested:
    """Split, standardise, train and test each repetition.

    Groups of repetitions run side by side, each on one thread: products of this size gain nothing from two.

    Args:
        features:  (n, d) float with NaN gaps, labels (n,) bool; dtype and device are those of the training.
        generator: repetition -> its generator.
        hidden:    units of the hidden layers.
        group:     repetitions trained at once; default: what keeps GROUP_POINTS points alive. Does not change a number
                   beyond rounding.
    """
    group = group or max(1, GROUP_POINTS // (TRAIN_ROWS * prior.references))
    parts = [repetitions[start : start + group] for start in range(0, len(repetitions), group)]
    out = Tested([], [], [], [], [])
    run_part = partial(_run_group, features, labels, prior, generator, epochs, hidden)
    with _one_thread_each(features.device) as pool:
        for number, found in enumerate(pool.map(run_part, parts), start=1):
            out.test_auc.extend(found.test_auc)
            out.validation_auc.extend(found.validation_auc)
            out.gini.extend(found.gini)
            out.gini_own.extend(found.gini_own)
            out.epoch.extend(found.epoch)
            progress(number / len(parts))
    return out


@contextmanager
def _one_thread_each(device: torch.device) -> Iterator[ThreadPoolExecutor]:
    """As many workers as torch has threads, one thread for each; a GPU gets one worker. Interrupted, no further group starts."""
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads if device.type == "cpu" else 1)
    torch.set_num_threads(1)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _run_group(
    features: Tensor,
    labels: Tensor,
    prior: Prior,
    generator: Callable[[int], torch.Generator],
    epochs: int,
    hidden: Sequence[int],
    part: Sequence[int],
) -> Tested:
    splits = [[torch.from_numpy(rows).to(features.device) for rows in split_rows(len(labels), r)] for r in part]
    scalings = [Scaling.fit(features[train_rows]) for train_rows, _, _ in splits]
    pairs = list(zip(scalings, splits, strict=True))
    train_rows, validation_rows = (torch.stack([scale(features[split[i]]) for scale, split in pairs]) for i in (0, 1))
    train_labels, validation_labels = (torch.stack([labels[split[i]] for split in splits]) for i in (0, 1))
    generators = [generator(r) for r in part]
    trained = train(
        train_rows,
        train_labels,
        validation_rows,
        validation_labels,
        prior,
        generators,
        epochs=epochs,
        hidden=hidden,
    )
    tested = []
    for number, (scale, split) in enumerate(pairs):  # many test rows: one repetition at a time
        layers = [(w[number, None], None if b is None else b[number, None]) for w, b in trained.layers]
        with torch.no_grad():
            scores, _ = forward(layers, scale(features[split[2]])[None])
        tested.append(float(roc_auc(scores[0], labels[split[2]])))
    return Tested(
        tested,
        trained.validation_auc.tolist(),
        trained.gini.tolist(),
        trained.gini_own.tolist(),
        trained.epoch.tolist(),
    )
