"""Attribution priors: the batched trainer against one-at-a-time training with double backpropagation, in float64."""

import copy
from itertools import pairwise

import pytest
import torch
from sklearn.impute import SimpleImputer
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional as F

from reproduce.training.priors import LEARNING_RATE, Prior, expected_gradients, train
from reproduce.training.repetitions import run_repetitions
from reproduce.training.rows import Scaling, split_rows
from reproduce.training.side_by_side import forward, initial_layers
from xdnn import gradient, input_x_gradient
from xdnn.metrics.gini import gini
from xdnn.metrics.ranking import roc_auc

REPETITIONS, FEATURES, EPOCHS, HIDDEN = 3, 7, 6, (16, 8, 4)
PRIORS = [
    Prior(),
    Prior(bias=False),
    Prior("x_gradient", 0.3, bias=False),
    Prior("gradient", 0.3),
    Prior("gradient", 0.3, bias=False),
    Prior("rrr", 0.3),
    Prior("expected_gradients", 0.3),
    Prior("expected_gradients", 0.3, references=3),
]
SMALL = {"epochs": EPOCHS, "hidden": HIDDEN}


def rows(seed=0, repetitions=REPETITIONS, count=100):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(repetitions, count, FEATURES, generator=g, dtype=torch.float64)
    noise = torch.randn(repetitions, count, generator=g, dtype=torch.float64)
    return x, x[..., 0] + 0.5 * x[..., 1] + noise > 0


def generators(chosen=range(REPETITIONS)):
    return [torch.Generator().manual_seed(100 + r) for r in chosen]


def gini_by_definition(sizes):
    return 0.5 * (sizes[:, None] - sizes).abs().mean() / sizes.mean()


# --- written out: one repetition, nn.Sequential, autograd twice ---


def one_net(prior, generator):
    sizes = [FEATURES, *HIDDEN, 1]
    linears = [nn.Linear(i, o, bias=prior.bias, dtype=torch.float64) for i, o in pairwise(sizes)]
    for part in ("weight", "bias"):
        for layer in linears:
            if (tensor := getattr(layer, part)) is not None:
                shape = tensor.shape if part == "weight" else (1, *tensor.shape)
                draws = torch.rand(shape, generator=generator, dtype=torch.float64)
                tensor.data = ((2 * draws - 1) / layer.in_features**0.5).view(tensor.shape)
    layers = [piece for layer in linears for piece in (layer, nn.ReLU())][:-1]
    return nn.Sequential(*layers)


def one_attribution(net, x, prior, generator):
    target = torch.zeros(len(x), dtype=torch.int64)
    if prior.attribution == "x_gradient":
        return input_x_gradient(net, x, target, create_graph=True)
    if prior.attribution == "gradient":
        return gradient(net, x, target, create_graph=True)
    if prior.attribution == "rrr":
        points = x.clone().requires_grad_()
        z = net(points)
        return torch.autograd.grad((F.logsigmoid(z) + F.logsigmoid(-z)).sum(), points, create_graph=True)[0]
    k = prior.references
    deck = torch.arange(len(x)).repeat(k)  # the released loader: every row k times, shuffled, without replacement
    chosen = deck[torch.randperm(len(deck), generator=generator)].view(len(x), k)
    a = torch.rand(len(x) * k, generator=generator, dtype=torch.float64).view(len(x), k, 1)
    total = 0
    for j in range(k):
        reference = x[chosen[:, j]]
        point = reference + a[:, j] * (x - reference)
        total = total + (x - reference) * gradient(net, point, target, create_graph=True)
    return total / k


def train_one(x, y, xv, yv, prior, generator):
    net = one_net(prior, generator)
    optimizer = torch.optim.Adam(net.parameters(), LEARNING_RATE)
    losses, best, best_net, best_epoch = [], -1, None, None
    for epoch in range(EPOCHS):
        auc = roc_auc_score(yv, net(xv).detach().squeeze(1))
        if auc > best:
            best, best_net, best_epoch = auc, copy.deepcopy(net), epoch
        loss = F.binary_cross_entropy_with_logits(net(x).squeeze(1), y.double())
        if prior.attribution:
            loss = loss - prior.strength * gini_by_definition(one_attribution(net, x, prior, generator).abs().mean(0))
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses, best, best_epoch, best_net


@pytest.mark.parametrize("prior", PRIORS, ids=str)
def test_the_batch_trains_what_double_backpropagation_trains_one_at_a_time(prior):
    (x, y), (xv, yv) = rows(0), rows(1)
    batch = train(x, y, xv, yv, prior, generators(), **SMALL)
    for r, generator in enumerate(generators()):
        losses, auc, epoch, net = train_one(x[r], y[r], xv[r], yv[r], prior, generator)
        torch.testing.assert_close(batch.losses[r], torch.tensor(losses, dtype=torch.float64), rtol=0, atol=1e-9)
        assert batch.validation_auc[r].item() == pytest.approx(auc, abs=1e-12) and batch.epoch[r] == epoch
        weights = [p for p in net.parameters() if p.ndim == 2]
        for (ours, _), theirs in zip(batch.layers, weights, strict=True):
            torch.testing.assert_close(ours[r], theirs.data, rtol=0, atol=1e-9)
        with torch.enable_grad():
            sizes = input_x_gradient(net, x[r], torch.zeros(100, dtype=torch.int64)).abs().mean(0)
        assert batch.gini[r].item() == pytest.approx(gini_by_definition(sizes).item(), abs=1e-9)


@pytest.mark.parametrize("prior", [PRIORS[0], PRIORS[2], PRIORS[7]], ids=str)
def test_a_repetition_alone_is_the_same_repetition_in_the_batch(prior):
    (x, y), (xv, yv) = rows(0), rows(1)
    batch = train(x, y, xv, yv, prior, generators(), **SMALL)
    alone = train(x[1:2], y[1:2], xv[1:2], yv[1:2], prior, generators([1]), **SMALL)
    torch.testing.assert_close(alone.losses[0], batch.losses[1], rtol=0, atol=1e-9)
    assert alone.gini_own[0].item() == pytest.approx(batch.gini_own[1].item(), abs=1e-9)


# --- a configuration ---


def table(count=260, seed=0):
    x, y = rows(seed, 1, count)
    x = x[0].clone()
    x[::7, 2] = torch.nan
    x[:, 5], x[:, 6] = 1.5, torch.nan  # constant; never recorded
    return x, y[0]


def test_a_whole_repetition_is_what_scikit_learn_and_the_written_out_training_make_of_it():
    x, y = table()
    prior = Prior("x_gradient", 0.3, bias=False)
    made = run_repetitions(x, y, prior, [4, 9], lambda r: torch.Generator().manual_seed(r), **SMALL)
    for place, repetition in enumerate((4, 9)):
        train_rows, validation_rows, test_rows = split_rows(len(y), repetition)
        imputer, scaler = SimpleImputer(keep_empty_features=True), StandardScaler()
        scaled = scaler.fit_transform(imputer.fit_transform(x[train_rows].numpy()))
        other = [torch.tensor(scaler.transform(imputer.transform(x[i].numpy()))) for i in (validation_rows, test_rows)]
        _, auc, epoch, net = train_one(
            torch.tensor(scaled),
            y[train_rows],
            other[0],
            y[validation_rows],
            prior,
            torch.Generator().manual_seed(repetition),
        )
        assert made.validation_auc[place] == pytest.approx(auc, abs=1e-12) and made.epoch[place] == epoch
        tested = roc_auc_score(y[test_rows], net(other[1]).detach().squeeze(1))
        assert made.test_auc[place] == pytest.approx(tested, abs=1e-12)


@pytest.mark.parametrize("prior", [Prior(), Prior("expected_gradients", 1.0, references=2)], ids=str)
def test_the_size_of_a_group_changes_nothing(prior):
    x, y = table()
    made, shares = [], []
    for group in (1, 2, 5):
        shares.append([])
        made.append(
            run_repetitions(
                x,
                y,
                prior,
                range(5),
                lambda r: torch.Generator().manual_seed(r),
                epochs=4,
                hidden=HIDDEN,
                group=group,
                progress=shares[-1].append,
            )
        )
    assert shares == [[0.2, 0.4, 0.6, 0.8, 1.0], [1 / 3, 2 / 3, 1.0], [1.0]]
    for other in made[1:]:
        assert other.epoch == made[0].epoch and len(other.epoch) == 5
        for metric in ("test_auc", "validation_auc", "gini", "gini_own"):
            assert getattr(other, metric) == pytest.approx(getattr(made[0], metric), abs=1e-9)


def test_splits_are_100_100_and_the_rest_and_the_repetition_decides_them():
    train_rows, validation_rows, test_rows = split_rows(300, 3)
    assert [len(part) for part in (train_rows, validation_rows, test_rows)] == [100, 100, 100]
    assert sorted([*train_rows, *validation_rows, *test_rows]) == list(range(300))
    assert (split_rows(300, 3)[0] == train_rows).all() and (split_rows(300, 4)[0] != train_rows).any()


def test_gaps_constants_and_columns_without_a_value():
    nan = torch.nan
    rows = torch.tensor([[1.0, 5.0, nan, nan], [3.0, 5.0, nan, 2.0], [2.0, 5.0, nan, 4.0]], dtype=torch.float64)
    scaled = Scaling.fit(rows)(torch.tensor([[nan, 7.0, 9.0, 3.0], [4.0, nan, nan, 2.0]], dtype=torch.float64))
    # column 3: values 2, 4 and the mean 3 in the gap, so variance 2/3; column 2 has no value: 0 for everybody
    expected = [[0, 2, 0, 0], [2 / (2 / 3) ** 0.5, 0, 0, -1 / (2 / 3) ** 0.5]]
    torch.testing.assert_close(scaled, torch.tensor(expected, dtype=torch.float64))


def test_expected_gradients_sum_to_the_change_of_the_logit_on_average():
    x, _ = rows(count=20)
    layers = initial_layers((FEATURES, *HIDDEN, 1), True, generators(), x)
    z, _ = forward(layers, x)
    summed = expected_gradients(layers, x, 4_000, generators()).sum(-1)
    torch.testing.assert_close(summed, z - z.mean(1, keepdim=True), rtol=0, atol=0.01)


@pytest.mark.parametrize("references", [1, 3])
def test_every_row_is_a_reference_exactly_k_times(references):
    """On a linear net the attributions of all rows sum to w (sum of rows - sum of references / k): to nothing, then.

    Independent draws, which use some rows more often than others, would leave a rest.
    """
    x, _ = rows()
    weights = torch.randn(REPETITIONS, 1, FEATURES, generator=generators()[0], dtype=torch.float64)
    layers = [(weights, None)]
    attributions = expected_gradients(layers, x, references, generators())
    assert attributions.abs().mean() > 0.1
    torch.testing.assert_close(attributions.sum(1), torch.zeros(REPETITIONS, FEATURES).double(), rtol=0, atol=1e-10)
    one, other = (expected_gradients(layers, x, references, generators([r] * 3))[0] for r in (0, 1))
    assert not torch.equal(one, other)  # each epoch is shuffled anew


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"attribution": "shap"}, "unknown attribution 'shap'; there are: x_gradient"),
        ({"attribution": "expected_gradients", "references": 0}, "references must be >= 1, got 0"),
        ({"attribution": "x_gradient"}, "X-Gradient is defined on nets without biases"),
    ],
)
def test_a_prior_that_makes_no_sense_is_refused(words, message):
    with pytest.raises(ValueError, match=message):
        Prior(**words)


# --- its two measures ---


def test_gini_by_hand_and_by_definition():
    sizes = torch.tensor([[1.0, 1, 1, 1], [0, 0, 0, 8], [0, 0, 2, 2], [1, 2, 3, 4]], dtype=torch.float64)
    assert gini(sizes).tolist() == pytest.approx([0, 0.75, 0.5, 0.25])
    random = torch.rand(30, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    torch.testing.assert_close(gini(random), gini_by_definition(random))
    ours, theirs = (torch.autograd.grad(f(random), random)[0] for f in (gini, gini_by_definition))
    torch.testing.assert_close(ours, theirs)


def test_gini_of_nothing_is_zero_and_trains_nothing():
    zero = torch.zeros(2, 5, requires_grad=True)
    value = gini(zero)
    assert value.tolist() == [0, 0]
    assert torch.isfinite(torch.autograd.grad(value.sum(), zero)[0]).all()


def test_roc_auc_of_many_rows_is_scikit_learns_with_ties():
    g = torch.Generator().manual_seed(0)
    scores, labels = torch.randint(5, (6, 40), generator=g).double(), torch.rand(6, 40, generator=g) < 0.3
    expected = [roc_auc_score(y, s) for s, y in zip(scores, labels, strict=True)]
    assert roc_auc(scores, labels).tolist() == pytest.approx(expected, abs=1e-12)
    assert roc_auc(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([False, False, True, True])).item() == 0.75
    with pytest.raises(ValueError, match="all labels are the same"):
        roc_auc(scores, torch.ones(6, 40, dtype=torch.bool))
