"""From a regular net to its X-variant, and from 128 passes to one."""

import torch
from torch import nn

from reproduce import HomogeneousWrapper, integrated_gradients, is_homogeneous, to_x_variant, x_gradient

torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(3, 16, 5), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(16 * 49, 10)).eval()
nn.init.normal_(net[0].bias)  # a trained net has biases; a fresh one hardly
images, targets = torch.randn(4, 3, 32, 32), torch.tensor([3, 1, 4, 1])

x_net = to_x_variant(net)  # no biases; proved homogeneous on its graph. Train it as you would train ``net``
print("regular:", is_homogeneous(net, images))
print("X-net:  ", is_homogeneous(x_net, images))

slow = integrated_gradients(x_net, images, targets, steps=128)  # 128 forward and backward passes
fast = x_gradient(x_net, images, targets)  # one
print(f"IG and X-Gradient differ by {(slow - fast).abs().max():.1g} at most, of {slow.abs().max():.2g}")

wrapped = HomogeneousWrapper(
    net, radius=float(images.flatten(1).norm(dim=1).median())
)  # keeps biases, needs no training
print("wrapped:", is_homogeneous(wrapped, images))
maps = x_gradient(wrapped, images, targets)  # (4, 3, 32, 32); sums to the logit
assert torch.allclose(maps.flatten(1).sum(1), wrapped(images).gather(1, targets[:, None])[:, 0], atol=1e-4)
