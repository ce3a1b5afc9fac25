import torch

from xdnn import HomogeneousWrapper, fit_radius, integrated_gradients, to_x_variant, x_gradient

net = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 5), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(12544, 10))
images = torch.randn(4, 3, 32, 32)
x_net = to_x_variant(net)  # a copy without biases, checked operation by operation; train it as you would train net
fast, slow = x_gradient(x_net, images), integrated_gradients(x_net, images, steps=128)
print(f"one pass differs from 128 by {(fast - slow).abs().max() / slow.abs().max():.0e}")
maps = x_gradient(HomogeneousWrapper(net, fit_radius(images)), images)  # net was trained with biases: wrap it instead
