"""Insertion and deletion are bounded by their forward passes: at most 1.3 times the bare ones, measured in turn.

python -m pytest benchmarks/test_insertion_deletion.py --benchmark-enable
"""

from statistics import median

import pytest
import torch
from torch import nn

from reproduce.timing import clocked
from xdnn.metrics.insertion_deletion import insertion_deletion
from xdnn.passes import count_passes

IMAGES, PX, STEP, ROUNDS, MOST = 40, 64, 256, 9, 1.3


def net() -> nn.Module:
    """About the cost of a pass through the embedded nets."""
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 5, 2, 2), nn.ReLU()]
    for _ in range(4):
        layers += [nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)).eval()
    return model.to(memory_format=torch.channels_last)


@pytest.mark.benchmark(group="insertion-deletion")
@torch.no_grad()
def test_insertion_and_deletion_cost_their_forward_passes(benchmark) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(IMAGES, 3, PX, PX, generator=generator).contiguous(memory_format=torch.channels_last)
    attributions = torch.randn(images.shape, generator=generator)
    model = net()
    with count_passes(model) as passes:
        insertion_deletion(model, images, attributions, step=STEP)
    bare_calls = passes.forward // IMAGES
    ratios = []
    for _ in range(ROUNDS):  # both sides in turn, so that a busy machine slows both
        bare, _ = clocked(lambda: [model(images) for _ in range(bare_calls)])
        ours, _ = clocked(lambda: insertion_deletion(model, images, attributions, step=STEP))
        ratios.append(ours / bare)
    benchmark.extra_info |= {"forward_passes": passes.forward, "over_bare_passes": median(ratios)}
    benchmark.pedantic(insertion_deletion, args=(model, images, attributions), kwargs={"step": STEP}, rounds=3)
    assert median(ratios) <= MOST
