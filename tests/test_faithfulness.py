"""captum's two measures, through our perturbations: exact cases by hand."""

import torch
from conftest import generator
from torch import Tensor, nn

from reproduce.attributions import gradient, input_x_gradient, random
from reproduce.metrics.faithfulness import RADIUS, infidelity, max_sensitivity

close = torch.testing.assert_close
WEIGHTS = torch.randn(3, 12, 10, generator=generator(4), dtype=torch.float64)


class LinearNet(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        total = (x * WEIGHTS).flatten(1).sum(1)
        return torch.stack([total, -total], 1)


def images(count: int = 3) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 3, 12, 10, generator=generator(), dtype=torch.float64), torch.tensor([0, 1, 0][:count])


def test_input_x_gradient_of_a_linear_net_predicts_every_removal_exactly():
    inputs, targets = images()
    exact = input_x_gradient(LinearNet(), inputs, targets)
    close(infidelity(LinearNet(), inputs, targets, exact, generator=generator()), torch.zeros(3, dtype=torch.float64))
    scaled = infidelity(LinearNet(), inputs, targets, -7 * exact, generator=generator())
    close(scaled, torch.zeros(3, dtype=torch.float64))  # one factor per image is fitted
    noise = random(LinearNet(), inputs, targets, generator=generator(1))
    assert (infidelity(LinearNet(), inputs, targets, noise, generator=generator()) > 0.1).all()


def test_infidelity_sees_only_the_sum_over_channels():
    inputs, targets = images()
    noise = random(LinearNet(), inputs, targets, generator=generator(1))
    whole, mean = (infidelity(LinearNet(), inputs, targets, a, generator=generator()) for a in (noise, noise.mean(1)))
    close(whole, mean)


def test_max_sensitivity_by_hand():
    inputs, targets = images()
    net = LinearNet()
    constant = max_sensitivity(lambda x, y: gradient(net, x, y), inputs, targets, generator=generator())
    close(constant, torch.zeros(3, dtype=torch.float64))
    noise = (
        2 * torch.rand(30, 3, 12, 10, generator=generator(), dtype=torch.float64) - 1
    )  # ten draws for each image in turn
    norm = (RADIUS * noise).flatten(1).norm(dim=1).view(3, 10).amax(1) / inputs.flatten(1).norm(dim=1)
    close(max_sensitivity(lambda x, y: x, inputs, targets, generator=generator()), norm)
