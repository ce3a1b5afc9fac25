"""Batched training of attribution priors against one repetition at a time, as released. Same run, interleaved.

python -m pytest benchmarks/test_priors.py --benchmark-enable -s
"""

import copy
import time
from itertools import pairwise

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from reproduce.training import priors
from reproduce.training.priors import Prior, train

LEAST_OVER_TWIN = 4.0
REPETITIONS, FEATURES, EPOCHS, ROUNDS = 4, 118, 25, 3  # columns of the paper's table
STUDY = {  # configurations of the main study, and how often each is trained: once for every strength of the grid
    Prior(): 1, Prior(bias=False): 1, Prior("x_gradient", 1.0, bias=False): 5, Prior("gradient", 1.0): 5, Prior("rrr", 1.0): 5,
    Prior("expected_gradients", 1.0): 5,
}  # fmt: skip


def rows(seed: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(REPETITIONS, priors.TRAIN_ROWS, FEATURES, generator=g)
    return x, x[..., 0] + torch.randn(x.shape[:2], generator=g) > 0.7


def one_attribution(net: nn.Module, x: Tensor, prior: Prior) -> Tensor:
    points, factor = x.clone(), torch.ones(())
    if prior.attribution == "x_gradient":
        factor = x
    if prior.attribution == "expected_gradients":
        factor = x - x[torch.randint(len(x), (len(x),))]
        points = x - torch.rand(len(x), 1) * factor
    points.requires_grad_()
    z = net(points)
    score = 2 * F.logsigmoid(z) - z if prior.attribution == "rrr" else z
    return factor * torch.autograd.grad(score.sum(), points, create_graph=True)[0]


def train_one(x: Tensor, y: Tensor, validation: Tensor, labels: Tensor, prior: Prior) -> nn.Module:
    """The released training loop: nn.Linear, double backpropagation, scikit-learn's AUC and a copy of the best net."""
    layers = [nn.Linear(i, o, bias=prior.bias) for i, o in pairwise([FEATURES, *priors.HIDDEN, 1])]
    net = nn.Sequential(*[piece for layer in layers for piece in (layer, nn.ReLU())][:-1])
    optimizer, best, kept = torch.optim.Adam(net.parameters(), priors.LEARNING_RATE), -1.0, net
    for _ in range(EPOCHS):
        loss = F.binary_cross_entropy_with_logits(net(x).squeeze(1), y.float())
        if prior.attribution:
            sizes = one_attribution(net, x, prior).abs().mean(0)
            loss = loss - prior.strength * 0.5 * (sizes[:, None] - sizes).abs().mean() / sizes.mean()
        auc = roc_auc_score(labels, net(validation).detach().squeeze(1))
        if auc > best:
            best, kept = auc, copy.deepcopy(net)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return kept


def test_the_main_study_is_at_least_four_times_as_fast_as_one_repetition_at_a_time(
    request: pytest.FixtureRequest,
) -> None:
    if not request.config.getoption("--benchmark-enable"):
        pytest.skip("a timing: run with --benchmark-enable")
    (x, y), (validation, labels) = rows(0), rows(1)
    seconds: dict[Prior, tuple[float, float]] = {}
    for prior in STUDY:
        batched, single = [], []
        for _ in range(ROUNDS):
            generators = [torch.Generator().manual_seed(r) for r in range(REPETITIONS)]
            start = time.perf_counter()
            train(x, y, validation, labels, prior, generators, epochs=EPOCHS)
            middle = time.perf_counter()
            for r in range(REPETITIONS):
                train_one(x[r], y[r], validation[r], labels[r], prior)
            batched.append(middle - start)
            single.append(time.perf_counter() - middle)
        seconds[prior] = min(batched), min(single)
        per_epoch = [1e3 * value / REPETITIONS / EPOCHS for value in seconds[prior]]
        print(f"{prior}: {per_epoch[0]:.2f} against {per_epoch[1]:.2f} ms per repetition and epoch")
    ours, theirs = (sum(times * seconds[prior][i] for prior, times in STUDY.items()) for i in (0, 1))
    print(f"main study: {theirs / ours:.1f} times as fast")
    assert theirs / ours >= LEAST_OVER_TWIN
