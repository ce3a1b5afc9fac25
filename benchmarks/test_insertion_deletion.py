"""The insertion/deletion engine is bounded by its forward passes: at most 1.3 times the bare ones."""

from statistics import median

import torch
from torch import nn

from reproduce.metrics.insertion_deletion import insertion_deletion
from reproduce.metrics.timing import clocked, counted

IMAGES, PX, STEP, ROUNDS, MOST = 40, 64, 256, 9, 1.3


def net() -> nn.Module:
    """About the cost of a pass through the embedded nets."""
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 5, 2, 2), nn.ReLU()]
    for _ in range(4):
        layers += [nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)).eval()
    return model.to(memory_format=torch.channels_last)


@torch.no_grad()
def test_the_engine_costs_at_most_its_forward_passes(benchmark):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(IMAGES, 3, PX, PX, generator=generator).contiguous(memory_format=torch.channels_last)
    attributions = torch.randn(images.shape, generator=generator)
    model = net()
    with counted(model) as passes:
        insertion_deletion(model, images, attributions, step=STEP)
    rounds = passes.forward // IMAGES
    ratios = []
    for _ in range(ROUNDS):  # both sides in turn, so that a busy machine slows both
        bare, _ = clocked(lambda: [model(images) for _ in range(rounds)])
        engine, _ = clocked(lambda: insertion_deletion(model, images, attributions, step=STEP))
        ratios.append(engine / bare)
    benchmark.extra_info |= {"forward_passes": passes.forward, "over_bare_passes": median(ratios)}
    benchmark.pedantic(insertion_deletion, args=(model, images, attributions), kwargs={"step": STEP}, rounds=3)
    assert median(ratios) <= MOST
