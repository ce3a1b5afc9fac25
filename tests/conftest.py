"""Small nets in float64, where a wrong sign, factor or axis cannot hide behind rounding."""

import pytest
import torch
from torch import Tensor, nn

from reproduce.xdnn import to_x_variant

torch.set_num_threads(2)


def small_cnn() -> nn.Module:
    """Two convolutions and a hidden layer, (B, 3, 16, 16) -> (B, 5), biases everywhere; the same at each call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(),
            nn.Linear(72, 16), nn.ReLU(), nn.Linear(16, 5),
        )  # fmt: skip
        for module in net:
            if getattr(module, "bias", None) is not None:
                nn.init.normal_(module.bias, std=0.5)
    return net.double().eval()


@pytest.fixture
def net() -> nn.Module:
    return small_cnn()


@pytest.fixture
def x_net() -> nn.Module:
    return to_x_variant(small_cnn())


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Four float64 images and targets of ``small_cnn``."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(4, 3, 16, 16, generator=generator, dtype=torch.float64)
    return images, torch.tensor([0, 3, 4, 1])


@pytest.fixture
def references() -> Tensor:
    return torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
