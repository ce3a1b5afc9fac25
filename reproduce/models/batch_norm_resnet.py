"""ResNet-18 with BatchNorm, as narrow as the Fixup net of the same name: what normalisation does to the cost of removing biases."""

import torch
from torch import Tensor, nn

from reproduce.models.fixup_resnet import STAGES
from reproduce.models.layout import scaled


class BatchNormBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm and a shortcut (He et al. 2016)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            shortcut = nn.Conv2d(channels_in, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)) + self.downsample(x))


class BatchNormResNet(nn.Module):
    """The layout of FixupResNet, with BatchNorm in place of its scalars.

    In its X-variant BatchNorm only scales (``BiasFreeBatchNorm``).

    Args:
        depth:    18 or 34.
        classes:  number of logits.
        width:    channel multiplier.
        image_px: accepted for a common signature; any size of at least 32 px fits.
    """

    def __init__(self, depth: int = 18, classes: int = 1000, width: float = 1.0, image_px: int = 224) -> None:
        super().__init__()
        bottleneck, blocks = STAGES[depth]
        if bottleneck:
            raise ValueError(f"depth must be 18 or 34, got {depth}")
        channels = scaled(64, width)
        self.conv1 = nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(channels), nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        narrowest, stages = channels, nn.Sequential()
        for stage, count in enumerate(blocks):
            for i in range(count):
                stages.append(BatchNormBlock(channels, narrowest * 2**stage, 2 if i == 0 and stage else 1))
                channels = narrowest * 2**stage
        self.stages = stages
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, images: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        return self.fc(torch.flatten(self.avgpool(self.stages(x)), 1))
