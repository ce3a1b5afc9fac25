"""AlexNet as torchvision and the released X-DNN checkpoints lay it out: ``features``, ``avgpool``, ``classifier``."""

import torch
from torch import Tensor, nn

from reproduce.models.layout import scaled, scaled_dropout


class AlexNet(nn.Module):
    """AlexNet (Krizhevsky's "one weird trick" variant), parameter names of the released ``alexnet_model_best.pth.tar``.

    Args:
        classes:  number of logits.
        width:    channel multiplier; 1 is the papers' network.
        image_px: 224, or less: then the first convolution's stride is 2 (64 px) or 1 (32 px) instead of 4 and the
                  pooled grid 2 x 2 instead of 6 x 6, which keeps the share of the image that one pooled place sees.
                  Names and order stay.
    """

    def __init__(self, classes: int = 1000, width: float = 1.0, image_px: int = 224) -> None:
        super().__init__()
        c64, c192, c256, c384, hidden = (scaled(c, width) for c in (64, 192, 256, 384, 4096))
        stride, grid = (4, 6) if image_px >= 224 else (2, 2) if image_px >= 64 else (1, 2)
        dropout = scaled_dropout(width)
        self.features = nn.Sequential(
            nn.Conv2d(3, c64, 11, stride, 2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(c64, c192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(c192, c384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(c384, c256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(c256, c256, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(grid)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(c256 * grid * grid, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(images)), 1))
