"""VGG without BatchNorm (configurations A, B, D, E), as torchvision and the released checkpoints lay it out."""

import torch
from torch import Tensor, nn

from reproduce.models.layout import scaled, scaled_dropout

# Output channels per convolution; "M" is a 2 x 2 max pooling. Simonyan & Zisserman 2015, Table 1.
CONFIGURATIONS: dict[int, tuple[int | str, ...]] = {
    11: (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"),
    13: (64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"),
    16: (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"),
    19: (64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4, "M"),
}


class VGG(nn.Module):
    """VGG-``depth``, parameter names of the released ``vgg16_model_best.pth.tar``.

    Args:
        depth:    11, 13, 16 or 19.
        classes:  number of logits.
        width:    channel multiplier; 1 is the papers' network.
        image_px: 224, or less: the pooled grid is the size of the last feature map, a 32nd: 7 x 7, 2 x 2 at 64 px.
    """

    def __init__(self, depth: int = 16, classes: int = 1000, width: float = 1.0, image_px: int = 224) -> None:
        super().__init__()
        grid = min(7, max(1, image_px // 32))
        layers: list[nn.Module] = []
        channels = 3
        for step in CONFIGURATIONS[depth]:
            if isinstance(step, str):
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(channels, channels := scaled(step, width), 3, padding=1), nn.ReLU()]
        hidden = scaled(4096, width)
        dropout = scaled_dropout(width)
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(grid)
        self.classifier = nn.Sequential(
            nn.Linear(channels * grid * grid, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )
        for module in self.modules():  # 16 layers without normalisation train only from a variance-preserving start
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, mode="fan_out" if isinstance(module, nn.Conv2d) else "fan_in")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.classifier[-1].weight, std=0.01)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(images)), 1))
