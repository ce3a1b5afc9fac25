"""Nets that studies explain: which they are, how they get their weights, and the tasks that measure something on them."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from reproduce import plugins
from reproduce.datasets import DATASETS, Images
from reproduce.errors import UserError
from reproduce.experiment import Experiment
from reproduce.fingerprint import fingerprint
from reproduce.models import MODELS, PREPROCESSING, RADII
from reproduce.models.weights import FILES, load_weights
from reproduce.tasks import Result, Task, join_shards
from reproduce.training import supervised
from reproduce.training.distill import distill
from reproduce.training.recipe import DEFAULT_RECIPE, Distillation, Recipe
from xdnn import HomogeneousWrapper, is_homogeneous, to_x_variant

if TYPE_CHECKING:
    from reproduce.context import Context

FETCHED = ("released", "torchvision")  # weights that come as a file of the manifest
# What a study says of the images of converted nets.
ON_OTHER_IMAGES = (
    "A net that came with its weights and lost its biases is measured on the images that it was not fine-tuned on, here the "
    "first half; differences from the regular net are taken on the same images."
)

Value = TypeVar("Value")
Measure = Callable[..., Value]  # (model, images, protocol, experiment, *values of needs) -> value
AnyTask = Task[Any, Any]


@dataclass(frozen=True)
class Net:
    """One net of a group; with the data set's key it decides the weights. Its fields are the ids of rows."""

    model: str
    variant: str
    dataset: str
    width: float
    weights: str
    seed: int

    @property
    def label(self) -> str:
        return f"{self.model} {self.variant}"

    def ids(self) -> dict[str, object]:
        """The columns that name it in rows: all but the seed, over which rows are taken (``by_training``)."""
        return {name: value for name, value in asdict(self).items() if name != "seed"}


def by_training(results: Sequence[Result[Net, Value]]) -> list[tuple[dict[str, object], list[Result[Net, Value]]]]:
    """The results of each net, one for each seed that it was trained with, under the ids that name it in rows."""
    groups: dict[Net, list[Result[Net, Value]]] = {}
    for result in results:
        groups.setdefault(replace(result.about, seed=0), []).append(result)
    return [(net.ids(), group) for net, group in groups.items()]


@dataclass(frozen=True)
class TrainedNet:
    """Weights by name, and per epoch the mean loss and accuracy over the training batches."""

    weights: dict[str, Tensor]
    log: list[dict[str, float]]


def training_task(context: "Context", net: Net) -> Task[Net, TrainedNet]:
    """The task that trains a net by the recipe of its architecture."""
    entry = DATASETS[net.dataset]
    recipe = entry.recipes.get(net.model, DEFAULT_RECIPE)
    data = {"images": context.data_key(net.dataset), "model": net_key(net)}
    name = f"train {net.label}, width {net.width:g}, {net.dataset}"
    return Task(name, TrainedNet, train, net, recipe, data, seconds=entry.train_seconds)


def train(experiment: Experiment[Net, Recipe]) -> TrainedNet:
    """Train the net that the experiment is about."""
    net, context = experiment.about, experiment.context
    model, log = supervised.train(
        partial(context.untrained, net),
        context.images(net.dataset, "train"),
        experiment.protocol,
        seed=net.seed,
        device=experiment.device,
        progress=experiment.progress,
    )
    return TrainedNet({name: tensor.cpu() for name, tensor in model.state_dict().items()}, log)


def conversion_task(context: "Context", net: Net) -> Task[Net, TrainedNet]:
    """The task that takes the biases of a regular net away and fine-tunes the rest by its data set's recipe.

    Raises:
        UserError: a data set that has no such recipe.
    """
    recipe = DATASETS[net.dataset].conversion
    if recipe is None:
        raise UserError(f"nets of {net.dataset} are not converted: its entry in DATASETS says no way to fine-tune them")
    converted, regular = replace(net, variant="converted"), replace(net, variant="regular")
    data = {"images": context.data_key(net.dataset), "model": net_key(converted)}
    name = f"convert {regular.label}, {net.dataset}"
    return Task(name, TrainedNet, convert, converted, recipe, data, weights_tasks(context, regular), seconds=20)


def convert(experiment: Experiment[Net, Distillation], *trained: TrainedNet) -> TrainedNet:
    """A net without biases that has learnt, from a few images without their labels, what the regular net says."""
    net, recipe = experiment.about, experiment.protocol
    teacher = load_net(replace(experiment, about=replace(net, variant="regular")), trained)
    if net.weights == "trained":
        pupils = experiment.context.images(net.dataset, "train").first(recipe.taught)
    else:
        test = test_images(experiment)
        pupils = test.part(untaught(len(test), recipe), len(test))
    model = distill(
        to_x_variant(teacher),
        teacher,
        pupils,
        recipe,
        experiment.generator("conversion", net.model),
        device=experiment.device,
        progress=experiment.progress,
    )
    return TrainedNet({name: tensor.cpu() for name, tensor in model.state_dict().items()}, [])


def untaught(images: int, recipe: Distillation) -> int:
    """How many of the images of a data set with one split, the first ones, a converted net has not learnt from."""
    return max(0, images - recipe.taught)


def weights_tasks(context: "Context", net: Net) -> "tuple[Task[Net, TrainedNet], ...]":
    """The task that makes a net's weights, or none where they come from elsewhere."""
    if net.variant == "converted":
        return (conversion_task(context, net),)
    return (training_task(context, net),) if net.weights == "trained" else ()


def load_net(experiment: Experiment[Net, Any], trained: Sequence[TrainedNet]) -> nn.Module:
    """The net that the experiment is about with its weights, in eval mode, channels last.

    Args:
        trained: the value of its ``weights_tasks``.
    """
    net, context = experiment.about, experiment.context
    with torch.random.fork_rng():
        torch.manual_seed(net.seed)  # decides the weights of a net that is explained untrained
        model = context.untrained(net)
    for weights in trained:
        model.load_state_dict(weights.weights)
    if net.weights in FETCHED and not trained:
        load_weights(model, context.weights_file(net))
        if net.variant == "x":  # a released X-net is measured before it is believed
            found = is_homogeneous(model, context.images(net.dataset).first(1).inputs())
            if not found:
                raise UserError(f"{FILES[net.model, net.variant]} is {found}")
    return model.to(context.device).to(memory_format=torch.channels_last).eval()


def test_images(experiment: Experiment[Net, Any], count: int | None = None) -> Images:
    """The first ``count`` test images of the net's data set (all by default), as the net wants them preprocessed."""
    net = experiment.about
    images = experiment.context.images(net.dataset)
    images = images if count is None else images.first(count)
    return images.preprocessed(**PREPROCESSING[net.model]) if net.model in PREPROCESSING else images


def last_inputs(experiment: Experiment[Net, Any], count: int) -> Tensor:
    """Inputs of the last ``count`` test images (all, if there are fewer), on the device: references that are not explained."""
    test = test_images(experiment)
    return test.inputs(slice(max(0, len(test) - count), len(test))).to(experiment.device)


def on_net(
    measure: Measure[Value], start: int, stop: int, own: int, experiment: Experiment[Net, Any], *needed: Any
) -> Value:
    """Load the net, from the first ``own`` of the values, and test images ``start`` to ``stop``, and measure."""
    model = load_net(experiment, needed[:own])
    images = test_images(experiment, stop).part(start, stop)
    return measure(model, images, experiment.protocol, experiment, *needed[own:])


def net_task(
    context: "Context",
    study: str,
    net: Net,
    protocol: Any,
    measure: Measure[Value],
    type: type[Value],
    *,
    seconds: float,
    needs: tuple[AnyTask, ...] = (),
    sharded: bool = False,
    costly: int | None = None,
    alone: bool = False,
) -> Task[Net, Value]:
    """The task that measures a net on the first ``protocol.images`` test images.

    Args:
        study:    its name, for the progress line.
        measure:  ``measure(model, images, protocol, experiment, *values of needs) -> value`` of ``type``.
        needs:    further tasks whose values ``measure`` takes.
        sharded:  split into the scale's shards. They are those of the scale, not of the machine: however many processes
                  share them, each number is computed from the same images in the same batches and joined in the same
                  order. ``measure`` then sees ``images.start`` and a protocol with the shard's number of images.
        costly:   how many of the images take the time, where not all do.
        alone:    it times: nothing else may run on the machine meanwhile.
    """

    def task(start: int, stop: int) -> Task[Net, Value]:
        where = f" {start}-{stop}" if start or (sharded and context.scale.shard) else ""
        return Task(
            f"{study} {net.label}{where}",
            type,
            partial(on_net, measure, start, stop, len(weights)),
            net,
            replace(protocol, images=stop - start),
            {"images": context.data_key(net.dataset), "start": start, "seed": context.seed, "model": net_key(net)},
            weights + needs,
            seconds,
            stop - start if costly is None else max(0, min(stop, costly) - start),
            alone,
        )

    weights = weights_tasks(context, net)
    count, shard = protocol.images, context.scale.shard
    if not sharded or shard is None or count <= shard:
        return task(0, count)
    shards = tuple(task(start, min(start + shard, count)) for start in range(0, count, shard))
    return Task(f"{study} {net.label}", type, join_shards, net, protocol, needs=shards, seconds=0.1)


def net_key(net: Net) -> dict[str, Any]:
    """What decides a net besides its ids and its training: architecture, conversion, preprocessing, files."""
    conversion: dict[str, tuple[Callable[..., nn.Module], ...]] = {
        "x": (to_x_variant,),
        "converted": (to_x_variant,),
        "wrapped": (HomogeneousWrapper,),
    }
    key: dict[str, Any] = {"code": fingerprint(MODELS[net.model], *conversion.get(net.variant, ()))}
    if net.variant == "wrapped":
        key["radius"] = RADII[net.model]
    if net.model in PREPROCESSING:
        key["preprocessing"] = PREPROCESSING[net.model]
    if net.weights in FETCHED:
        key["file"] = FILES[net.model, net.variant]
    return key | (plugins.key() if net.model in plugins.added("MODELS") else {})
