"""Small nets in float64, where a wrong sign, factor or axis cannot hide behind rounding."""

import pytest
import torch
from torch import Tensor, nn

from xdnn import to_x_variant

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


@pytest.fixture
def level_net() -> nn.Module:
    """The small net with logits that are level over random pixels, so that boundaries are near and classes differ."""
    net = small_cnn()
    with torch.no_grad():
        logits = net(torch.rand(64, 3, 16, 16, generator=generator(9), dtype=torch.float64))
        net[-1].weight *= 2 / logits.std(0)[:, None]
        net[-1].bias.copy_((net[-1].bias - logits.mean(0)) * 2 / logits.std(0))
    return net


@pytest.fixture
def pixels(level_net) -> tuple[Tensor, Tensor]:
    """Six float64 images in [0, 1] and the class that ``level_net`` sees in each; their paths differ in length."""
    images = torch.rand(6, 3, 16, 16, generator=generator(3), dtype=torch.float64)
    return images, level_net(images).argmax(1)


@pytest.fixture
def one_thread():
    """Thousands of passes through a tiny net: a second thread would only wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
