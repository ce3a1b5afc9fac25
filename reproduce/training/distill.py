"""A net trained to say what another one says, on few images and without their labels."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reproduce.datasets.images import Images
from reproduce.tasks import Progress, no_progress
from reproduce.training.recipe import Distillation
from reproduce.training.supervised import WARM_UP, jittered


def divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the student's probabilities from the teacher's, (B,); both (B, classes) logits. Nats."""
    return F.kl_div(student.log_softmax(1), teacher.log_softmax(1), reduction="none", log_target=True).sum(1)


def distill(
    student: nn.Module,
    teacher: nn.Module,
    images: Images,
    recipe: Distillation,
    generator: torch.Generator,
    *,
    device: torch.device | str = "cpu",
    progress: Progress = no_progress,
) -> nn.Module:
    """Change ``student`` in place so that its probabilities become the teacher's; both stay in eval mode, without dropout.

    Args:
        generator: decides order and jitter.
    """
    optimizer = torch.optim.AdamW(student.parameters(), recipe.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.steps, pct_start=WARM_UP
    )
    for step in range(recipe.steps):
        chosen = torch.randperm(len(images), generator=generator)[: recipe.batch]
        inputs = jittered(images.inputs(chosen).to(device), recipe.jitter, generator)
        with torch.no_grad():
            said = teacher(inputs)
        loss = divergence(said, student(inputs)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        progress((step + 1) / recipe.steps)
    return student
