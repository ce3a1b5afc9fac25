"""Fixup-ResNet (Zhang, Dauphin, Ma 2019): the "ResNet-50" of X-DNN Table 1, residual nets without any BatchNorm.

A Fixup net carries scalar biases and a scalar scale per block instead of normalisation. Its X-variant drops the
scalar biases, the scale and the bias of ``fc`` (``XFixupResNet`` in the released
``imagenet/models/fixup_resnet.py``); here that is ``x_variant_``, the hook that ``to_x_variant`` calls on modules
with parameters of their own. Parameter names and shapes are those of ``{,x}fixup_resnet50_model_best.pth.tar``.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from reproduce.models.layout import scaled

# depth -> (bottleneck blocks?, blocks per stage)
STAGES: dict[int, tuple[bool, tuple[int, int, int, int]]] = {
    18: (False, (2, 2, 2, 2)),
    34: (False, (3, 4, 6, 3)),
    50: (True, (3, 4, 6, 3)),
    101: (True, (3, 4, 23, 3)),
    152: (True, (3, 8, 36, 3)),
}
EXPANSION = 4  # a bottleneck's output channels per inner channel


class FixupBlock(nn.Module):
    """Basic (3x3, 3x3) or bottleneck (1x1, 3x3, 1x1) residual block with scalar biases before and after each convolution.

    The biases are ``bias1a, bias1b, bias2a, ...``: ``a`` before and ``b`` after the numbered convolution.
    """

    def __init__(self, channels_in: int, inner: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        channels_out = inner * EXPANSION if bottleneck else inner
        widths = (channels_in, inner, inner, channels_out) if bottleneck else (channels_in, inner, channels_out)
        strided = 2 if bottleneck else 1  # the number of the 3x3 convolution that downsamples
        self.convolutions = len(widths) - 1
        for i, (a, b) in enumerate(pairwise(widths), start=1):
            kernel = 1 if bottleneck and i != 2 else 3
            conv = nn.Conv2d(a, b, kernel, stride if i == strided else 1, padding=kernel // 2, bias=False)
            self.add_module(f"conv{i}", conv)
            for side in "ab":
                self.register_parameter(f"bias{i}{side}", nn.Parameter(torch.zeros(1)))
        self.scale: nn.Parameter | None = nn.Parameter(torch.ones(1))
        self.relu = nn.ReLU()
        reshapes = stride != 1 or channels_in != channels_out
        self.downsample = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False) if reshapes else None

    def x_variant_(self) -> None:
        for name in [name for name, _ in self.named_parameters(recurse=False)]:
            setattr(self, name, None)

    def forward(self, x: Tensor) -> Tensor:
        if self.scale is None:
            return self._forward_x(x)
        x_in = x + self._scalar("bias1a", x)
        out = x_in
        for i in range(1, self.convolutions + 1):
            out = out if i == 1 else out + self._scalar(f"bias{i}a", out)
            out = getattr(self, f"conv{i}")(out)
            if i < self.convolutions:
                out = self.relu(out + self._scalar(f"bias{i}b", out))
        out = out * self._scalar("scale", out) + self._scalar(f"bias{self.convolutions}b", out)
        return self.relu(out + (x if self.downsample is None else self.downsample(x_in)))

    def _scalar(self, name: str, signal: Tensor) -> Tensor:
        """A scalar parameter in the signal's dtype: under autocast a float32 scalar would turn the signal to float32."""
        return getattr(self, name).to(signal.dtype)

    def _forward_x(self, x: Tensor) -> Tensor:
        out = x
        for i in range(1, self.convolutions + 1):
            out = getattr(self, f"conv{i}")(out)
            if i < self.convolutions:
                out = self.relu(out)
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class FixupResNet(nn.Module):
    """Fixup-ResNet-``depth``.

    Args:
        depth:    18, 34, 50, 101 or 152.
        classes:  number of logits.
        width:    channel multiplier; 1 is the papers' network.
        image_px: accepted for a common signature: the net is fully convolutional, any size of at least 32 px fits.
    """

    def __init__(self, depth: int = 50, classes: int = 1000, width: float = 1.0, image_px: int = 224) -> None:
        super().__init__()
        bottleneck, blocks = STAGES[depth]
        narrowest = scaled(64, width)
        self.conv1 = nn.Conv2d(3, narrowest, 7, stride=2, padding=3, bias=False)
        self.bias1: nn.Parameter | None = nn.Parameter(torch.zeros(1))
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = narrowest
        for stage, count in enumerate(blocks, start=1):
            inner = narrowest * 2 ** (stage - 1)
            layer = nn.Sequential()
            for i in range(count):
                layer.append(FixupBlock(channels, inner, 2 if i == 0 and stage > 1 else 1, bottleneck))
                channels = inner * EXPANSION if bottleneck else inner
            self.add_module(f"layer{stage}", layer)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.bias2: nn.Parameter | None = nn.Parameter(torch.zeros(1))
        self.fc = nn.Linear(channels, classes)
        self._initialise(sum(blocks), bottleneck)

    def _initialise(self, blocks: int, bottleneck: bool) -> None:
        """Fixup's rule: the last convolution of a block and ``fc`` start at zero, the others shrink with depth."""
        shrink = blocks ** (-0.25 if bottleneck else -0.5)
        for module in self.modules():
            if isinstance(module, FixupBlock):
                for i in range(1, module.convolutions + 1):
                    conv = getattr(module, f"conv{i}")
                    if i == module.convolutions:
                        nn.init.zeros_(conv.weight)
                    else:
                        nn.init.kaiming_normal_(conv.weight, mode="fan_out")
                        conv.weight.data.mul_(shrink)
                if module.downsample is not None:
                    nn.init.kaiming_normal_(module.downsample.weight, mode="fan_out")
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def x_variant_(self) -> None:
        self.bias1 = self.bias2 = None

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv1(images)
        x = self.maxpool(self.relu(x if self.bias1 is None else x + self.bias1.to(x.dtype)))
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        x = torch.flatten(self.avgpool(x), 1)
        return self.fc(x if self.bias2 is None else x + self.bias2.to(x.dtype))
