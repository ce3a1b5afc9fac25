import torch
from torch import nn

from xdnn import HomogeneousWrapper, fit_radius, integrated_gradients, to_x_variant, x_gradient

net = nn.Sequential(nn.Conv2d(3, 16, 5), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 28 * 28, 10))  # or a net of yours
images, targets = torch.randn(4, 3, 32, 32), torch.tensor([3, 1, 4, 1])

x_net = to_x_variant(net)  # without biases, checked operation by operation: to be trained as you would train the net
fast = x_gradient(x_net, images, targets)  # one backward pass
slow = integrated_gradients(x_net, images, targets, steps=128)
print(f"one pass differs from 128 by {(fast - slow).abs().max() / slow.abs().max():.0e}")

wrapped = HomogeneousWrapper(net, fit_radius(images))  # a trained net made homogeneous from outside, biases and all
maps = x_gradient(wrapped, images, targets)  # (4, 3, 32, 32): one number for each input, in units of the logit
