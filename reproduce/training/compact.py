"""Training of the compact nets: the same weights for the same seed, machine and threads."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from reproduce.tasks import Progress, no_progress

BATCH, EPOCHS, LEARNING_RATE, WEIGHT_DECAY = 64, 12, 3e-3, 0.01  # AdamW, one cycle


def train(
    build: Callable[[], nn.Module],
    inputs: Tensor,
    targets: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    seed: int,
    epochs: int = EPOCHS,
    progress: Progress = no_progress,
) -> nn.Module:
    """Train a net on tensors that fit into memory.

    Args:
        build: makes the net; its initialisation draws from torch's global generator, seeded here and restored.
        loss:  (outputs, targets) -> scalar.

    Returns:
        The net in eval mode, on the inputs' device.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build().to(inputs.device).train()
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(net.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    steps = epochs * -(-len(inputs) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for epoch in range(epochs):
        for index in torch.randperm(len(inputs), generator=order).to(inputs.device).split(BATCH):
            optimizer.zero_grad()
            loss(net(inputs[index]), targets[index]).backward()
            optimizer.step()
            schedule.step()
        progress((epoch + 1) / epochs)
    return net.eval()
