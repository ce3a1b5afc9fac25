"""The attribution maps that the studies ``table1``, ``table2``, ``ground-truth`` and ``one-pass`` measure, computed once."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from reproduce import plugins
from reproduce.datasets.images import Images
from reproduce.experiment import Experiment
from reproduce.nets import Net, last_inputs, net_task
from reproduce.tasks import Task
from xdnn import METHODS
from xdnn.chunking import chunk_size
from xdnn.metrics.agreement import mean_differences, relative_l1

if TYPE_CHECKING:
    from reproduce.context import Context

IG = "integrated_gradients_128"
# The methods of X-DNN Sec. 4.2. Add a key of METHODS and both studies measure it on every net on which it is defined: its
# cost is its passes, and 96 forward passes an image for the mask metrics. Methods of plugins are added.
PAPER_METHODS = ("random", "gradient", "expected_gradients_1", "input_x_gradient", "x_gradient", IG)
# Later path methods, on the paper's pair of nets and a few images: each costs as many passes as IG.
LATER_METHODS = ("full_grad", "integrated_gradients_noise_128", "idgi_128", "guided_ig_128", "blur_ig_128")
LATER_MODEL = "alexnet"
MOST_TOGETHER = 128  # images in a batch, so that progress is seen


@dataclass(frozen=True)
class Protocol:
    """What decides the maps.

    Attributes:
        images: test images that are explained.
        methods: keys of METHODS.
        pool: references of EG: the last test images, as the released code draws them from the validation set.
        confirm_share: random maps, a control, and IG on homogeneous nets, where its 128 passes an image confirm that it is
            X-Gradient, are made of every so many images only.
        later_share: the same for LATER_METHODS.
    """

    images: int
    methods: tuple[str, ...]
    pool: int = 256
    confirm_share: int = 5
    later_share: int = 50

    def count(self, method: str, variant: str) -> int:
        """Of how many of the first ``images`` a method's maps are made."""
        if method in LATER_METHODS:
            return -(-self.images // self.later_share)
        if method == "random" or (method == IG and homogeneous(variant)):
            return -(-self.images // self.confirm_share)
        return self.images


@dataclass(frozen=True)
class Maps:
    """Of one net.

    Attributes:
        maps: method -> attributions, their mean over channels, (n, H, W); n is ``Protocol.count``.
        distance: relative L1 of Input x Gradient to IG, for each image that IG was made of.
        difference, size: mean |IG - Input x Gradient| and mean |IG| of each of these images, for MARD.
    """

    maps: dict[str, Tensor]
    distance: list[float]
    difference: list[float]
    size: list[float]


def homogeneous(variant: str) -> bool:
    """Is Input x Gradient on nets of this variant X-Gradient?"""
    return variant != "regular"


def one_pass(variant: str) -> str:
    """Input x Gradient by the name that it has on nets of a variant."""
    return "x_gradient" if homogeneous(variant) else "input_x_gradient"


def methods_for(variant: str, model: str = "") -> tuple[str, ...]:
    """The methods that are defined on nets of a variant; X-Gradient takes the place of Input x Gradient, which it equals.

    Wrapped and converted nets answer one question, what X-Gradient is worth there.
    """
    if variant in ("wrapped", "converted"):
        return ("random", *plugins.added("METHODS"), "x_gradient", IG)
    other = one_pass("regular" if homogeneous(variant) else "x")
    names = [*PAPER_METHODS, *plugins.added("METHODS"), *(LATER_METHODS if model == LATER_MODEL else ())]
    return tuple(name for name in names if name != other and (homogeneous(variant) or not METHODS[name].needs_x))


def maps_task(context: "Context", net: Net, images: int) -> Task[Net, Maps]:
    """The task that makes a net's maps of the first ``images`` test images."""
    protocol = Protocol(images, methods_for(net.variant, net.model))
    return net_task(context, "maps", net, protocol, measure, Maps, seconds=40)


def measure(model: nn.Module, images: Images, protocol: Protocol, experiment: Experiment[Net, Protocol]) -> Maps:
    """Every method's maps, in batches of all methods: a method that needs few images sees the first batches only."""
    net = experiment.about
    pool = last_inputs(experiment, protocol.pool)
    generators = {name: experiment.generator("maps", net.label, name) for name in protocol.methods}
    found: dict[str, list[Tensor]] = {name: [] for name in protocol.methods}
    distance: list[float] = []
    difference: list[float] = []
    size: list[float] = []
    first = 0
    for inputs, targets in images.batches(batch_size(model, images, experiment.device), experiment.device):
        full = {}
        for name, generator in generators.items():
            part = slice(0, max(0, protocol.count(name, net.variant) - first))
            full[name] = METHODS[name](model, inputs[part], targets[part], references=pool, generator=generator)
            found[name].append(full[name].mean(1).cpu())
        pair = full[IG], full[one_pass(net.variant)][: len(full[IG])]
        distance += relative_l1(*pair).tolist()
        for found_here, kept in zip(mean_differences(*pair), (difference, size), strict=True):
            kept += found_here.tolist()
        first += len(inputs)
        experiment.progress(first / len(images))
    return Maps({name: torch.cat(parts) for name, parts in found.items()}, distance, difference, size)


def batch_size(model: nn.Module, images: Images, device: torch.device) -> int:
    """Images per batch: as many as a pass of integrated_gradients takes, and few enough that progress is seen."""
    return min(MOST_TOGETHER, chunk_size(model, images.inputs(slice(0, 1)).to(device), None))
