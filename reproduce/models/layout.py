"""What the architectures share: how a ``width`` multiplier changes channels and dropout."""

DROPOUT = 0.5  # of the papers' AlexNet and VGG16
CHANNEL_MULTIPLE = 8  # narrower nets stay on the vector units' grain


def scaled(channels: int, width: float) -> int:
    """``channels * width``, rounded to a multiple of 8 and never below 8; unchanged at width 1."""
    if width <= 0:
        raise ValueError(f"width must be positive, got {width}")
    return max(CHANNEL_MULTIPLE, round(channels * width / CHANNEL_MULTIPLE) * CHANNEL_MULTIPLE)


def scaled_dropout(width: float) -> float:
    """Dropout of the fully connected layers: 0.5 at width 1, in proportion below: a narrow layer has nothing to spare."""
    return DROPOUT * min(1.0, width)
