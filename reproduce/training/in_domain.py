"""Fine-tuning on images with a missing patch, so that a net is at home where single deletion asks it (IDSDS)."""

from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from reproduce.datasets import DATASETS
from reproduce.datasets.images import Images
from reproduce.experiment import Experiment
from reproduce.nets import Net, TrainedNet, load_net, net_key, training_task
from reproduce.tasks import Task
from reproduce.training import supervised
from reproduce.training.recipe import DEFAULT_RECIPE, Recipe
from xdnn.memory_format import match_format
from xdnn.metrics.single_deletion import GRID, patches

if TYPE_CHECKING:
    from reproduce.context import Context

SHARE = 0.5  # of the images lack a patch; IDSDS's train.py
RATE = 0.25  # of the learning rate that the net was trained with


@dataclass(frozen=True)
class WithHoles(Images):
    """Images of which about half, drawn anew at each look, lack a random patch: 0 of the normalised input is there instead."""

    draws: torch.Generator = field(default_factory=torch.Generator)

    def normalised(self, pixels: Tensor) -> Tensor:
        whole = super().normalised(pixels)
        hole = torch.randint(GRID**2, (len(whole), 1, 1), generator=self.draws)
        lacks = torch.rand(len(whole), 1, 1, generator=self.draws) < SHARE
        hidden = (patches(whole.shape, GRID) == hole) & lacks
        return match_format(whole.masked_fill(hidden[:, None], 0.0), whole)


def with_holes(images: Images, draws: torch.Generator) -> WithHoles:
    return WithHoles(**{part.name: getattr(images, part.name) for part in fields(images)}, draws=draws)


def fine_tuning_task(context: "Context", net: Net, epochs: int) -> Task[Net, TrainedNet]:
    """The task that trains a net a while longer, at a lower rate, on images with holes."""
    entry = DATASETS[net.dataset]
    own = entry.recipes.get(net.model, DEFAULT_RECIPE)
    recipe = replace(own, epochs=epochs, learning_rate=RATE * own.learning_rate)
    data: dict[str, Any] = {"images": context.data_key(net.dataset), "model": net_key(net)}
    needs = (training_task(context, net),)
    seconds = entry.train_seconds * epochs / own.epochs
    return Task(f"fine-tune {net.label} in domain", TrainedNet, fine_tune, net, recipe, data, needs, seconds)


def fine_tune(experiment: Experiment[Net, Recipe], trained: TrainedNet) -> TrainedNet:
    """Train the net that the experiment is about on from its weights."""
    net, context = experiment.about, experiment.context
    train = context.images(net.dataset, "train")
    model, log = supervised.train(
        partial(load_net, experiment, [trained]),
        with_holes(train, torch.Generator().manual_seed(net.seed)),
        experiment.protocol,
        seed=net.seed,
        device=experiment.device,
        progress=experiment.progress,
    )
    return TrainedNet({name: tensor.cpu() for name, tensor in model.state_dict().items()}, log)
