"""The attribution maps that ``table2`` and ``ground-truth`` judge, computed once for both. Not a study of its own."""

from functools import partial

import torch
from torch import Tensor, nn

from reproduce import plugins
from reproduce.attributions import METHODS
from reproduce.attributions.engine import chunk_size
from reproduce.cells import Cell, Tick, Value
from reproduce.datasets import Images
from reproduce.metrics.agreement import relative_l1
from reproduce.run import Net, Run

VERSION = 3
# The methods of X-DNN Sec. 4.2, keys of attributions.METHODS. Add a key and both studies judge it too, on every net on which it
# is defined: its cost is its passes, and 96 forward passes an image for the mask metrics. Methods of plugins are added.
JUDGED = ("random", "gradient", "expected_gradients_1", "input_x_gradient", "x_gradient", "integrated_gradients_128")
IG = "integrated_gradients_128"
# Later path methods, on the paper's pair of nets and every fiftieth image: they cost as many passes as IG, each.
EXTENDED = ("full_grad", "integrated_gradients_noise_128", "idgi_128", "guided_ig_128", "blur_ig_128")
EXTENDED_MODEL, EXTENDED_SHARE = "alexnet", 50
POOL = 256  # references of EG: the last test images, as the released code draws them from the validation set
# On a homogeneous net IG is X-Gradient, and its 128 passes an image only confirm that; random maps are a control whose 96
# forward passes an image tell nothing about the image. Every fifth is enough for both.
CONFIRM_SHARE = 5
MOST_TOGETHER = 128  # images


def homogeneous(variant: str) -> bool:
    """Is Input x Gradient on nets of this variant X-Gradient?"""
    return variant != "regular"


def judged(variant: str, model: str = "") -> list[str]:
    """The methods that are defined on nets of a variant; X-Gradient takes the place of Input x Gradient, which it equals."""
    other = "input_x_gradient" if homogeneous(variant) else "x_gradient"
    names = [*JUDGED, *plugins.added("METHODS"), *(EXTENDED if model == EXTENDED_MODEL else ())]
    return [name for name in names if name != other and (homogeneous(variant) or not METHODS[name].needs_x)]


def one_pass(variant: str) -> str:
    """Input x Gradient by the name that it has on nets of a variant."""
    return "x_gradient" if homogeneous(variant) else "input_x_gradient"


def count_for(name: str, variant: str, images: int) -> int:
    """On how many of the first ``images`` a method is run."""
    if name in EXTENDED:
        return -(-images // EXTENDED_SHARE)
    return -(-images // CONFIRM_SHARE) if name == "random" or (name == IG and homogeneous(variant)) else images


def maps(run: Run, net: Net, images: int) -> Cell:
    """The cell of a net's maps: {"maps": {method: (n, H, W)}, "distance": relative L1 of Input x Gradient to IG, (n,)}."""
    return run.cell(
        "maps", VERSION, net, partial(_measure, run, net), images=images, seconds=40,
        methods=judged(net.variant, net.model), pool=POOL, confirm=CONFIRM_SHARE, extended=EXTENDED_SHARE, seed=run.seed,
    )  # fmt: skip


def references(run: Run, net: Net) -> Tensor:
    """The images that EG draws from, as the net wants them."""
    test = run.images_for(net, len(run.images(net.dataset)))
    return test.inputs(slice(max(0, len(test) - POOL), len(test))).to(run.device)


def batch_size(run: Run, model: nn.Module, images: Images) -> int:
    """Images per batch: as many as a pass of integrated_gradients takes, and few enough that progress is seen."""
    return min(MOST_TOGETHER, chunk_size(model, images.inputs(slice(0, 1)).to(run.device), None))


def _measure(run: Run, net: Net, tick: Tick, model: nn.Module, images: Images) -> Value:
    found: dict[str, list[Tensor]] = {name: [] for name in judged(net.variant, net.model)}
    pool = references(run, net)
    generators = {name: run.generator("maps", net.label, name) for name in found}
    distance: list[float] = []
    first = 0
    for inputs, targets in images.batches(batch_size(run, model, images), run.device):
        full = {}
        for name in found:
            part = slice(0, max(0, count_for(name, net.variant, len(images)) - first))
            full[name] = METHODS[name](model, inputs[part], targets[part], references=pool, generator=generators[name])
            found[name].append(full[name].mean(1).cpu())
        reference = full[IG]
        distance += relative_l1(reference, full[one_pass(net.variant)][: len(reference)]).tolist()
        first += len(inputs)
        tick(first / len(images))
    return {"maps": {name: torch.cat(parts) for name, parts in found.items()}, "distance": distance}
