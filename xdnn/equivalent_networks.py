"""Networks made from a network: equivalent ones, and ones with a property that an axiom speaks of."""

import copy

import torch
from torch import Tensor, nn

# --- equivalent networks: the same function, another graph ---


def equivalent_network(model: nn.Module, generator: torch.Generator) -> nn.Module:
    """A copy that computes the same function through another graph, up to rounding.

    Linear and convolution layers are rewritten in turn: neurons permuted and put back, split into two layers that are
    added, and reparametrised by a random rotation and its inverse.
    """
    model = copy.deepcopy(model)
    layers = [(path, m) for path, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    for i, (path, layer) in enumerate(layers):
        rewritten = REWRITES[i % len(REWRITES)](layer, generator)
        if not path:
            return rewritten
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, rewritten)
    return model


class Permuted(nn.Module):
    """A layer whose neurons are in another order, put back behind it."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, generator: torch.Generator) -> None:
        super().__init__()
        order = torch.randperm(len(layer.weight), generator=generator).to(layer.weight.device)
        self.layer = _with(layer, layer.weight[order], None if layer.bias is None else layer.bias[order])
        self.register_buffer("back", order.argsort())

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).index_select(1, self.get_buffer("back"))


class Split(nn.Module):
    """A layer as the sum of two, with random shares of every weight and bias."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, generator: torch.Generator) -> None:
        super().__init__()

        def share(values: Tensor) -> Tensor:
            return torch.rand(values.shape, generator=generator, dtype=torch.float64).to(values) * values

        weight = share(layer.weight)
        bias, rest = None, None
        if layer.bias is not None:
            bias = share(layer.bias)
            rest = layer.bias - bias
        self.first = _with(layer, weight, bias)
        self.second = _with(layer, layer.weight - weight, rest)

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x) + self.second(x)


class Rotated(nn.Module):
    """A layer followed by a random rotation of its neurons' space and, as another layer, by the inverse rotation."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, generator: torch.Generator) -> None:
        super().__init__()
        width = len(layer.weight)
        rotation = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))[0]
        rotation = rotation.to(layer.weight)
        weight = (rotation @ layer.weight.flatten(1)).view_as(layer.weight)
        self.layer = _with(layer, weight, None if layer.bias is None else rotation @ layer.bias)
        convolution = isinstance(layer, nn.Conv2d)
        back = nn.Conv2d(width, width, 1, bias=False) if convolution else nn.Linear(width, width, bias=False)
        back = back.to(layer.weight)
        back.weight = nn.Parameter(rotation.T.reshape(back.weight.shape).contiguous())
        self.back = back

    def forward(self, x: Tensor) -> Tensor:
        return self.back(self.layer(x))


REWRITES = (Permuted, Split, Rotated)


def _with(layer: nn.Linear | nn.Conv2d, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """The layer with other numbers."""
    layer = copy.deepcopy(layer)
    layer.weight = nn.Parameter(weight.detach().clone())
    layer.bias = None if bias is None else nn.Parameter(bias.detach().clone())
    return layer


# --- networks with a property ---


class DeadFeatures(nn.Module):
    """F(m * x): does not depend on the features where ``alive`` (*F) is 0."""

    def __init__(self, model: nn.Module, alive: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("alive", alive)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x * self.get_buffer("alive"))


class Mirrored(nn.Module):
    """(F(x) + F(x mirrored)) / 2: does not know left from right.

    Each half has its own layers, as DeepLIFT's hooks need.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.other = model, copy.deepcopy(model)

    def forward(self, x: Tensor) -> Tensor:
        return (self.model(x) + self.other(x.flip(-1))) / 2


class Combination(nn.Module):
    """Logit t is a F_t + b F_(t+1), the classes taken as a ring."""

    def __init__(self, model: nn.Module, a: float, b: float) -> None:
        super().__init__()
        self.model, self.a, self.b = model, a, b

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
        return self.a * logits + self.b * logits.roll(-1, 1)
