"""Attribution priors trained for many repetitions at once, against one repetition at a time as released; one thread each.

python -m pytest benchmarks/test_priors.py --benchmark-enable -s
"""

import copy
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from sklearn.impute import SimpleImputer
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional as F

from reproduce.training import priors
from reproduce.training.priors import Prior
from reproduce.training.repetitions import run_repetitions
from reproduce.training.rows import split_rows

LEAST_SPEEDUP = 2.0
REPETITIONS, ROWS, FEATURES, ROUNDS = 8, 3_000, 118, 2  # columns of the paper's table
EPOCHS = 25
STUDY = {  # configurations of the main study, and how often each is trained: once for every strength of the grid
    Prior(): 1,
    Prior(bias=False): 1,
    Prior("x_gradient", 1.0, bias=False): 5,
    Prior("gradient", 1.0): 5,
    Prior("rrr", 1.0): 5,
    Prior("expected_gradients", 1.0): 5,
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def table() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(ROWS, FEATURES, generator=generator)
    return features, features[:, 0] + torch.randn(ROWS, generator=generator) > 0.7


def one_attribution(net: nn.Module, x: Tensor, prior: Prior) -> Tensor:
    points, factor = x.clone(), torch.ones(())
    if prior.attribution == "x_gradient":
        factor = x
    if prior.attribution == "expected_gradients":
        factor = x - x[torch.randperm(len(x))]
        points = x - torch.rand(len(x), 1) * factor
    points.requires_grad_()
    z = net(points)
    score = 2 * F.logsigmoid(z) - z if prior.attribution == "rrr" else z
    return factor * torch.autograd.grad(score.sum(), points, create_graph=True)[0]


def run_one(features: Tensor, outcome: Tensor, prior: Prior, repetition: int) -> float:
    """A repetition as released: scikit-learn's scaling and AUC, nn.Linear, double backpropagation, a copy of the best net."""
    parts = split_rows(len(outcome), repetition)
    imputer, scaler = SimpleImputer(), StandardScaler()
    scaler.fit(imputer.fit_transform(features[parts[0]].numpy()))
    x, validation, tested = (torch.from_numpy(scaler.transform(imputer.transform(features[i].numpy()))) for i in parts)
    y, labels, wanted = (outcome[i] for i in parts)
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
    return float(roc_auc_score(wanted, kept(tested).detach().squeeze(1)))


def fastest(prior: Prior, features: Tensor, outcome: Tensor) -> tuple[float, float]:
    """Processor seconds of the repetitions at once and one at a time; fastest of interleaved rounds."""
    at_once, one_by_one = [], []
    for _ in range(ROUNDS):
        start = time.process_time()
        run_repetitions(features, outcome, prior, range(REPETITIONS), torch.Generator().manual_seed, epochs=EPOCHS)
        middle = time.process_time()
        for repetition in range(REPETITIONS):
            run_one(features, outcome, prior, repetition)
        at_once.append(middle - start)
        one_by_one.append(time.process_time() - middle)
    return min(at_once), min(one_by_one)


def test_the_main_study_is_at_least_twice_as_fast_as_one_repetition_at_a_time(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--benchmark-enable"):
        pytest.skip("a timing: run with --benchmark-enable")
    features, outcome = table()
    seconds = {prior: fastest(prior, features, outcome) for prior in STUDY}
    for prior, found in seconds.items():
        ours, theirs = (1e3 * value / REPETITIONS / EPOCHS for value in found)
        print(f"{prior}: {ours:.2f} against {theirs:.2f} ms per repetition and epoch")
    ours, theirs = (sum(times * seconds[prior][i] for prior, times in STUDY.items()) for i in (0, 1))
    print(f"main study: {theirs / ours:.1f} times as fast")
    assert theirs / ours >= LEAST_SPEEDUP
