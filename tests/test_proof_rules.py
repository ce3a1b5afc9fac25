"""The proof's tables, row by row and in random graphs: what they allow is homogeneous by measurement in float64, and an
operand that is not what its rule says is refused.
"""

import operator
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xdnn import NotHomogeneousError, check_homogeneous, is_homogeneous
from xdnn.homogeneity.rules import CONSTANT_RESULTS, IN_PLACE, RULES, Operand

SHAPE = (4, 6, 6)  # of every signal of a graph
X, Y, K = "a signal", "another signal", "a constant"  # operands that a graph fills in


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


class Sample(NamedTuple):
    """A call of an operation by the names of its rule's operands; ``back`` makes the result a signal of SHAPE again."""

    call: Callable[..., Any]
    operands: dict[str, Any]
    back: Callable[[Any, Tensor], Tensor]  # (result, a signal)


def reshaped(result: Tensor, x: Tensor) -> Tensor:
    return result.reshape(-1, *SHAPE)


def sample(call: Callable[..., Any], back: Callable[[Any, Tensor], Tensor] = reshaped, **operands: Any) -> list[Sample]:
    return [Sample(call, operands, back)]


def unary(call: Callable[[Tensor], Any], back: Callable[[Any, Tensor], Tensor] = reshaped) -> list[Sample]:
    return sample(lambda input: call(input), back, input=X)


def binary(call: Callable[..., Any], pairs: list[tuple[Any, Any]], back: Any = reshaped) -> list[Sample]:
    return [s for a, b in pairs for s in sample(lambda input, other: call(input, other), back, input=a, other=b)]


def layer(call: Callable[..., Any], weight: Tensor, axes: int) -> list[Sample]:
    def run(input: Tensor, weight: Tensor, bias: Any) -> Any:
        return call(input if axes == 2 else input.flatten(2), weight, bias, 1, 1)

    return sample(run, input=X, weight=weight, bias=None)


def pool(call: Callable[..., Any], axes: int) -> list[Sample]:
    """Of three places, with padding: the size stays."""
    return unary(lambda x: call(over_axes(x, axes), 3, 1, 1))


def max_pool(call: Callable[..., Any], axes: int) -> list[Sample]:
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    return sample(
        lambda input, **others: call(over_axes(input, axes), *(others[name] for name in names)),
        input=X,
        **dict(zip(names, (3, 1, 1, 1, False, False), strict=True)),
    )


def adaptive(call: Callable[..., Any], axes: int) -> list[Sample]:
    return unary(
        lambda x: call(over_axes(x, axes), 1),
        lambda result, x: result.reshape(x.size(0), -1)[:, :1, None, None] * SPREAD,
    )


def over_axes(x: Tensor, axes: int) -> Tensor:
    """A signal of SHAPE for a pooling over so many axes."""
    return {1: lambda: x.flatten(2), 2: lambda: x, 3: lambda: x.unsqueeze(1)}[axes]()


def over_channels(call: Callable[..., Any]) -> list[Sample]:
    return unary(lambda x: call(x, 1, keepdim=True), lambda result, x: result.expand(-1, 4, -1, -1))


SPREAD, MATRIX, SLOPES = numbers(*SHAPE), numbers(6, 6), numbers(4)
SUMS, PRODUCTS = [(X, Y), (X, 0), (0, X)], [(X, SPREAD), (SPREAD, X), (X, -0.3)]


def scaled_by(result: Any, x: Tensor) -> Tensor:
    """A constant shows as what multiplies a signal."""
    return x * result


SAMPLES: dict[str, list[Sample]] = {
    "add": binary(operator.add, SUMS),
    "sub": binary(operator.sub, SUMS),
    "mul": binary(operator.mul, PRODUCTS),
    "matmul": binary(operator.matmul, [(X, MATRIX), (MATRIX, X)]),
    "truediv": sample(lambda input, other: input / other, input=X, other=0.7),
    "div": sample(
        lambda input, other, rounding_mode: torch.div(input, other, rounding_mode=rounding_mode),
        input=X,
        other=SPREAD.abs() + 0.1,
        rounding_mode=None,
    ),
    "linear": sample(lambda input, weight, bias: F.linear(input, weight, bias), input=X, weight=MATRIX, bias=None),
    "conv1d": layer(F.conv1d, numbers(4, 4, 3), 1),
    "conv2d": layer(F.conv2d, numbers(4, 4, 3, 3), 2),
    **{
        name: sample(lambda tensors, join=join: join(tensors, 1), lambda r, x: r[:, :4] - r[:, 4:], tensors=[X, Y])
        for name, join in {"cat": torch.cat, "concat": torch.concat}.items()
    },
    "stack": sample(lambda tensors: torch.stack(tensors), lambda r, x: r[0] - 2 * r[1], tensors=[X, Y]),
    "maximum": binary(torch.maximum, [(X, Y)]),
    "minimum": binary(torch.minimum, [(X, Y)]),
    "where": sample(
        lambda condition, input, other: torch.where(condition, input, other), condition=SPREAD > 0, input=X, other=Y
    ),
    "relu": unary(torch.relu) + unary(F.relu),
    "leaky_relu": unary(lambda x: F.leaky_relu(x, 0.1)),
    "neg": unary(operator.neg),
    "abs": unary(torch.abs),
    "prelu": sample(lambda input, weight: F.prelu(input, weight), input=X, weight=SLOPES),
    "dropout": sample(lambda input, p, training: F.dropout(input, p, training), input=X, p=0.5, training=False),
    "dropout2d": sample(lambda input, p, training: F.dropout2d(input, p, training), input=X, p=0.5, training=False),
    "max_pool1d": max_pool(F.max_pool1d, 1),
    "max_pool2d": max_pool(F.max_pool2d, 2),
    "max_pool3d": max_pool(F.max_pool3d, 3),
    "adaptive_max_pool2d": sample(
        lambda input, output_size, return_indices: F.adaptive_max_pool2d(input, output_size, return_indices),
        lambda result, x: result.repeat(1, 1, 2, 2),
        input=X,
        output_size=3,
        return_indices=False,
    ),
    "avg_pool1d": pool(F.avg_pool1d, 1),
    "avg_pool2d": pool(F.avg_pool2d, 2),
    "avg_pool3d": pool(F.avg_pool3d, 3),
    "adaptive_avg_pool1d": adaptive(F.adaptive_avg_pool1d, 1),
    "adaptive_avg_pool2d": adaptive(F.adaptive_avg_pool2d, 2),
    "adaptive_avg_pool3d": adaptive(F.adaptive_avg_pool3d, 3),
    "mean": over_channels(torch.mean),
    "sum": over_channels(torch.sum),
    "amax": over_channels(torch.amax),
    "amin": over_channels(torch.amin),
    "pad": sample(
        lambda input, pad, mode, value: F.pad(input, pad, mode, value),
        lambda result, x: result[..., 1:],
        input=X,
        pad=(1, 0),
        mode="constant",
        value=0.0,
    ),
    "interpolate": unary(
        lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear"), lambda result, x: F.avg_pool2d(result, 2)
    ),
    "flatten": unary(lambda x: x.flatten(1)),
    "unflatten": unary(lambda x: x.unflatten(1, (2, 2))),
    "reshape": unary(lambda x: x.reshape(-1, 144)),
    "view": unary(lambda x: x.contiguous().view(-1, 144)),
    "permute": unary(lambda x: x.permute(0, 1, 3, 2)),
    "transpose": unary(lambda x: x.transpose(2, 3)),
    "squeeze": unary(lambda x: x.unsqueeze(1).squeeze(1)),
    "unsqueeze": unary(lambda x: x.unsqueeze(1)),
    "contiguous": unary(lambda x: x.contiguous()),
    "chunk": unary(lambda x: x.chunk(2, 1), lambda result, x: torch.cat([result[1], result[0]], 1)),
    "split": unary(lambda x: x.split(2, 1), lambda result, x: torch.cat([result[1], result[0]], 1)),
    "getitem": unary(lambda x: x[:, [2, 0, 3, 1]]),
    "expand": unary(lambda x: x[:, :1].expand(-1, 4, -1, -1)),
    "repeat": unary(lambda x: x[:, :2].repeat(1, 2, 1, 1)),
    "to": unary(lambda x: x.to(torch.float64)),
    "float": unary(lambda x: x.float(), lambda result, x: result.double()),
    "double": unary(lambda x: x.double()),
    "clone": unary(lambda x: x.clone()),
    "detach": unary(lambda x: x.detach()),
    "size": unary(lambda x: x.size(1), scaled_by),
    "dim": unary(lambda x: x.dim(), scaled_by),
    "numel": unary(lambda x: x.numel(), lambda result, x: x * (result / result)),
    **{name: binary(getattr(operator, name), SUMS, scaled_by) for name in ("gt", "ge", "lt", "le", "eq", "ne")},
}
IN_PLACE_CALLS: dict[str, Callable[[Tensor], Tensor]] = {
    "add_": lambda x: x.add_(x * 2),
    "sub_": lambda x: x.sub_(x * 2),
    "mul_": lambda x: x.mul_(SPREAD),
    "div_": lambda x: x.div_(0.7),
    "relu_": lambda x: x.relu_(),
    "leaky_relu_": lambda x: F.leaky_relu_(x, 0.1),
    "dropout_": lambda x: torch.dropout_(x, 0.5, False),
    "iadd": lambda x: operator.iadd(x, x * 2),
    "isub": lambda x: operator.isub(x, x * 2),
    "imul": lambda x: operator.imul(x, SPREAD),
    "itruediv": lambda x: operator.itruediv(x, 0.7),
}


class Graph(nn.Module):
    """A random graph: each step's operands are drawn among the signals so far. ``wrong`` replaces an operand of a step."""

    def __init__(
        self, steps: list[Sample], draws: random.Random, wrong: dict[int, tuple[str, Any]] | None = None
    ) -> None:
        super().__init__()
        self.steps, self.wrong = steps, wrong or {}
        self.sources = [(draws.randrange(i + 1), draws.randrange(i + 1)) for i in range(len(steps))]

    def forward(self, x: Tensor) -> Tensor:
        signals = [x]
        for i, (step, (first, second)) in enumerate(zip(self.steps, self.sources, strict=True)):
            places = {X: signals[first], Y: signals[second], K: SPREAD}
            operands = dict(step.operands)
            operands |= dict([self.wrong[i]]) if i in self.wrong else {}
            filled = {name: fill(value, places) for name, value in operands.items()}
            signals.append(step.back(step.call(**filled), signals[first]))
        return torch.stack(signals).sum(0).flatten(1)  # with x, which keeps it away from zero, where all is rounding


def fill(value: Any, places: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [fill(part, places) for part in value]
    return places.get(value, value) if isinstance(value, str) else value


ALL = [(name, i) for name, samples in SAMPLES.items() for i in range(len(samples))]
IMAGES = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_every_row_has_a_sample_with_all_operands_of_one_of_its_rules():
    assert set(SAMPLES) == set(RULES) and set(IN_PLACE_CALLS) == set(IN_PLACE)
    for name, samples in SAMPLES.items():
        assert all(set(s.operands) >= set(rule) for s in samples for rule in RULES[name]), name


@pytest.mark.parametrize(("name", "i"), ALL)
def test_what_a_row_allows_is_homogeneous(name, i):
    net = Graph([SAMPLES[name][i]], random.Random(0))
    check_homogeneous(net)
    assert is_homogeneous(net, IMAGES, tolerance=1e-5 if name == "float" else None)


@pytest.mark.parametrize("name", IN_PLACE)
def test_operations_in_place_are_homogeneous_on_signals(name):
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return IN_PLACE_CALLS[name](x.clone()).flatten(1)

    check_homogeneous(InPlace())
    assert is_homogeneous(InPlace(), IMAGES)


def test_a_constant_that_is_changed_in_place_is_one_no_longer():
    class Squared(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            constant = torch.ones_like(SPREAD)
            constant.mul_(x)
            return constant * x

    with pytest.raises(NotHomogeneousError, match="mul_ changes a constant in place"):
        check_homogeneous(Squared())


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_of_allowed_operations_are_homogeneous(seed):
    draws = random.Random(seed)
    names = draws.choices([name for name in SAMPLES if name != "float"], k=8)
    net = Graph([draws.choice(SAMPLES[name]) for name in names], draws)
    check_homogeneous(net)
    measured = is_homogeneous(net, IMAGES)
    assert measured, f"{names}: {measured}"


WRONG = {
    Operand.SIGNAL: K,
    Operand.SIGNAL_OR_ZERO: K,
    Operand.CONSTANT: X,
    Operand.ABSENT: 1.0,
    Operand.FALSE: True,
}
# The comparison of constants is a constant, which is no mistake.
OPERANDS = [
    (name, i, operand)
    for name, i in ALL
    for operand, value in SAMPLES[name][i].operands.items()
    if name not in CONSTANT_RESULTS or value == Y or set(SAMPLES[name][i].operands.values()) == {X, Y} or value == 0
]


def kept_rule(name: str, step: Sample) -> dict[str, Operand]:
    """Of an operation's rules the one in which this sample's signals are asked for."""
    signals = {
        operand
        for operand, value in step.operands.items()
        if isinstance(value, list) or (isinstance(value, str) and value in (X, Y))
    }
    return next(rule for rule in RULES[name] if Operand.CONSTANT not in [rule[operand] for operand in signals])


@pytest.mark.parametrize(("name", "i", "operand"), OPERANDS)
def test_a_random_graph_with_one_wrong_operand_is_refused(name, i, operand):
    step = SAMPLES[name][i]
    value = [X, K] if operand == "tensors" else WRONG[kept_rule(name, step)[operand]]
    draws = random.Random(f"{name} {i} {operand}")
    steps = [draws.choice(SAMPLES[other]) for other in draws.choices(["relu", "conv2d", "add", "cat", "mul"], k=4)]
    place = draws.randrange(5)
    steps.insert(place, step)
    check_homogeneous(Graph(steps, random.Random(1)))
    with pytest.raises(NotHomogeneousError):
        check_homogeneous(Graph(steps, random.Random(1), {place: (operand, value)}))
