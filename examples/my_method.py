"""A plugin: a method, a net, a metric and a scale of your own, without touching the package.

python -m reproduce list --scale mine --plugin examples/my_method.py
python -m reproduce attribute photo.jpg --method squared_gradient,input_x_gradient --plugin examples/my_method.py
python -m reproduce run table1 contrast --scale mine --plugin examples/my_method.py
"""

import torch
from torch import Tensor, nn

from reproduce.scales import NetGroup, Scale
from reproduce.studies import contrast, table1
from xdnn import Method, Metric, gradient


def squared_gradient(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """The square of the gradient: says where the logit is sensitive, not in which direction. One pass."""
    return gradient(model, inputs, targets).square()


def three_layers(classes: int = 10, width: float = 1.0, image_px: int = 64) -> nn.Module:
    """A small net with biases; its X-variant follows from ``to_x_variant``."""
    channels = max(4, round(32 * width))
    first = [nn.Conv2d(3, channels, 5, stride=2), nn.ReLU()]
    second = [nn.Conv2d(channels, channels, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(4)]
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(16 * channels, classes))


def overlap(maps: Tensor, masks: Tensor) -> Tensor:
    """Intersection over union of the mask and as many of the highest pixels: (B, H, W) and bool (B, H, W) to (B,)."""
    flat, inside = maps.flatten(1), masks.flatten(1)
    places = flat.argsort(dim=1, descending=True).argsort(dim=1)
    chosen = places < inside.sum(1, keepdim=True)
    return (chosen & inside).sum(1) / (chosen | inside).sum(1)


METHODS = {"squared_gradient": Method(squared_gradient, passes=1, label="Squared gradient")}
MODELS = {"three_layers": three_layers}
METRICS = {"overlap": Metric("overlap", "", "higher", "mask", overlap)}
SCALES = {"mine": Scale("mine", "my net on the embedded data")}
NETS = {"my-nets": NetGroup("digits-on-photos", {"three_layers": 0.25}, "trained", ("mine",))}
PROTOCOLS = {  # study -> scale -> group of nets -> how much is measured
    "table1": {"mine": {"my-nets": table1.Protocol(images=200, mard_images=32)}},
    "contrast": {"mine": {"my-nets": contrast.Protocol(images=200)}},
}

if __name__ == "__main__":
    net, x = three_layers(), torch.randn(1, 3, 64, 64)
    print(squared_gradient(net, x, torch.tensor([0])).shape)
