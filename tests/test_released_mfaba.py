"""What calls itself released equals what the authors' code returned: maps, paths, curves and mask metrics, number for number.

The arrays in ``tests/data/released`` were made by the released code itself: LMBTough/MFABA at 363fd52 and
visinf/fast-axiomatic-attribution at 2860781. ``float64`` holds longer paths, AGI and the mask metrics.
"""

from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xdnn import agi, big, mfaba, mfaba_paths
from xdnn.attributions.pixels import PixelNet
from xdnn.metrics import masks
from xdnn.metrics.insertion_deletion import area, insertion_deletion, ranks
from xdnn.passes import count_passes

DATA = Path(__file__).parent / "data" / "released"
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}  # of each map's largest value
close = torch.testing.assert_close


class Released:
    """One file's arrays, and the net, images and labels that they were made with."""

    def __init__(self, name: str, *, head: str = "linear", strides: tuple[int, int] = (1, 2)) -> None:
        with np.load(DATA / name, allow_pickle=False) as file:
            self.arrays = {
                key: torch.from_numpy(np.atleast_1d(file[key])) for key in file if file[key].dtype.kind != "U"
            }
        self.dtype = self.arrays["conv1.weight"].dtype
        self.plain = self._net(head, strides)
        self.net = PixelNet(self.plain, self["mean"].tolist(), self["std"].tolist())

    def __getitem__(self, key: str) -> Tensor:
        return self.arrays[key]

    def _net(self, head: str, strides: tuple[int, int]) -> nn.Module:
        parts = {
            "conv1": nn.Conv2d(3, 8, 3, strides[0], padding=1),
            "conv2": nn.Conv2d(8, 8, 3, strides[1], padding=1),
            head: nn.Linear(*reversed(self[f"{head}.weight"].shape)),
        }
        with torch.no_grad():
            for name, layer in parts.items():
                layer.to(self.dtype)
                layer.weight.copy_(self[f"{name}.weight"])
                layer.bias.copy_(self[f"{name}.bias"])
        first, second, last = parts.values()
        return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), last).eval()

    @property
    def batch(self) -> tuple[Tensor, Tensor]:
        return self["inputs"], self.arrays.get("labels", self.arrays.get("targets"))


@pytest.fixture(autouse=True)
def one_thread():
    """Thousands of passes through a tiny net: a second thread would only wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def float32() -> Released:
    return Released("mfaba-released.npz")


@pytest.fixture(scope="module")
def float64() -> Released:
    return Released("float64/mfaba-released.npz")


def distance(ours: Tensor, theirs: Tensor) -> float:
    """The largest deviation over the largest value of the map, of the worst image."""
    deviation, size = ((values.flatten(1).abs().amax(1)) for values in (ours - theirs, theirs))
    return float((deviation / size).max())


def one_by_one(method, net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return torch.cat([method(net, x[None], t[None]) for x, t in zip(images, labels, strict=True)])


def whole(method, net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return method(net, images, labels)


CALLS = {"single": one_by_one, "alone": one_by_one, "batch": whole}
TIED, SINGLE = ("sharp", "smooth", "big"), ("norm", "cosine")  # were run both ways, and one image at a time
METHODS = {kind: partial(mfaba, kind=kind) for kind in ("sharp", "smooth", "norm", "cosine")} | {"big": big, "agi": agi}


# --- the net ---


@pytest.mark.parametrize(("name", "tolerance"), [("", 1e-5), ("float64/", 1e-6)])
def test_the_net_is_the_authors(name, tolerance):
    """Its logits; the float64 ones were written with mean and std rounded to float32."""
    released = Released(f"{name}mfaba-released.npz")
    logits = released.net(released["inputs"])
    close(logits, released["logits"], rtol=0, atol=tolerance)
    assert logits.dtype == released.dtype and logits.argmax(1).tolist() == released.batch[1].tolist()


# --- attributions ---


@pytest.mark.parametrize(("name", "how"), [*product(TIED, ("alone", "batch")), *product(SINGLE, ("alone",))])
def test_maps_in_float32(float32, name, how):
    key = f"{name if name == 'big' else f'mfaba_{name}'}_{how}"
    ours = CALLS[how](METHODS[name], float32.net, *float32.batch)
    assert distance(ours, float32[key]) <= TOLERANCE[torch.float32]


@pytest.mark.parametrize(
    ("name", "how"), [*product(TIED, ("single", "batch")), *product((*SINGLE, "agi"), ("single",))]
)
def test_maps_in_float64(float64, name, how):
    ours = CALLS[how](METHODS[name], float64.net, *float64.batch)
    assert distance(ours, float64[f"{name}.{how}"]) <= TOLERANCE[torch.float64]


def test_agi_of_a_thousand_classes():
    released = Released("float64/mfaba-released.npz", head="agi1000.linear")
    ours = one_by_one(agi, released.net, released["inputs"], released["agi1000.labels"])
    assert distance(ours, released["agi1000.single"]) <= TOLERANCE[torch.float64]


@pytest.mark.parametrize(("kind", "how"), [*product(TIED[:2], ("single", "batch")), *product(SINGLE, ("single",))])
def test_paths_in_float64(float64, kind, how):
    images, labels = float64.batch
    parts = [slice(i, i + 1) for i in range(len(images))] if how == "single" else [slice(None)]
    paths = [mfaba_paths(float64.net, images[part], labels[part], kind=kind) for part in parts]
    assert torch.cat([path.steps for path in paths]).tolist() == float64[f"{kind}.{how}.steps"].tolist()
    assert torch.cat([path.crossed for path in paths]).tolist() == float64[f"{kind}.{how}.crossed"].tolist()
    close(torch.cat([path.end for path in paths]), float64[f"{kind}.{how}.end"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["agi", "agi1000"])
def test_steps_of_agi(name):
    released = Released("float64/mfaba-released.npz", head="linear" if name == "agi" else "agi1000.linear")
    labels = released["labels" if name == "agi" else "agi1000.labels"]
    for i, steps in enumerate(released[f"{name}.single.steps"].tolist()):
        with count_passes(released.net) as passes:
            agi(released.net, released["inputs"][i : i + 1], labels[i : i + 1])
        assert passes.forward == (steps + 1 if steps < 20 else 20)  # the last look finds the adversary's class


# --- what the arrays do not hold: described and corrected paths, batches, ties, gradients of zero ---


@pytest.mark.parametrize("name", ["sharp", "smooth", "big"])
def test_a_fresh_gradient_at_each_step_is_another_map(float64, name):
    fresh = METHODS[name](float64.net, *float64.batch, protocol="described")
    assert distance(fresh, float64[f"{name}.batch"]) > 0.01
    assert (
        distance(one_by_one(partial(METHODS[name], protocol="described"), float64.net, *float64.batch), fresh) < 1e-12
    )


@pytest.mark.parametrize("name", ["sharp", "smooth", "norm", "cosine", "big", "agi"])
@pytest.mark.parametrize("protocol", ["released", "described", "corrected"])
def test_the_same_answer_for_every_chunk(float64, name, protocol):
    method = partial(METHODS[name], protocol=protocol, **({"repeat_equal": False} if name == "big" else {}))
    at_once = method(float64.net, *float64.batch, chunk=64)
    for chunk in (1, 4):
        assert distance(method(float64.net, *float64.batch, chunk=chunk), at_once) < 1e-12


def slow_agi(net: nn.Module, images: Tensor, targets: Tensor, goals: Tensor) -> Tensor:
    """The batch of the released code from its description: losses over all pairs, a list that shrinks under its loop."""
    waiting, x, total = list(range(len(images))), images, torch.zeros_like(images)
    for _ in range(20):
        at = x.clone().requires_grad_()
        probabilities = net(at).softmax(1)
        for image in waiting:
            if probabilities[image].argmax() == goals[image]:
                waiting.remove(image)
        if not waiting:
            break
        towards, of_targets = (
            torch.autograd.grad(probabilities[:, classes].sum(), at, retain_graph=True)[0]
            for classes in (goals, targets)
        )
        x = (images + 0.05 * towards.sign()).clamp(0, 1)
        total[waiting] += (-of_targets * (x - images))[waiting]
    return total


def test_agi_ties_the_images_of_a_batch(float64):
    images, labels = (values.repeat(4, *[1] * (values.ndim - 1)) for values in float64.batch)
    images = images * torch.linspace(1, 0.6, len(images), dtype=torch.float64)[:, None, None, None]  # no two alike
    labels = float64.net(images).argmax(1)
    goals = torch.where(labels == 0, 1, 0)  # class 0 is the draw of seed 3407 among 9, as the README of the arrays says
    assert distance(agi(float64.net, images, labels), slow_agi(float64.net, images, labels, goals)) <= 1e-12
    alone = one_by_one(agi, float64.net, images, labels)
    assert distance(agi(float64.net, images, labels), alone) > 0.01


def test_a_list_that_shrinks_under_its_loop_skips_the_next():
    from xdnn.attributions.agi import _removed_while_iterating

    for flags in ([1, 1, 1, 0, 1], [0, 1, 1, 0, 1, 1], [0, 0], [1], []):
        left = list(range(len(flags)))
        for place in left:
            if flags[place]:
                left.remove(place)
        removed = _removed_while_iterating(torch.tensor(flags, dtype=torch.bool))
        assert (~removed).nonzero().flatten().tolist() == left


class DeadCorner(nn.Module):
    """The net, but blind to images whose first pixel is black: their gradient is zero."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixels: Tensor) -> Tensor:
        seen = pixels[:, 0, 0, 0] > 0
        constant = torch.arange(10, 0, -1, dtype=pixels.dtype).expand(len(pixels), -1)
        return torch.where(seen[:, None], self.net(pixels), constant)


@pytest.mark.parametrize(("kind", "begins_anew"), [("sharp", True), ("smooth", False)])
def test_an_image_without_a_gradient_leaves_the_batch_as_its_nan_does(float64, kind, begins_anew):
    """The released sharp step is 0 / 0, so the image leaves after it and the others' sum begins anew; a sign step stays put."""
    images, labels = (values[[5, 0]].clone() for values in float64.batch)
    net = DeadCorner(float64.net)
    images[1, 0, 0, 0], labels[1] = 0, 0
    paths = mfaba_paths(net, images, labels, kind=kind)
    alone = mfaba_paths(net, images[:1], labels[:1], kind=kind)
    assert paths.steps[1] == 0 and not paths.attributions[1].any() and not paths.crossed[1]
    assert (distance(paths.attributions[:1], alone.attributions) > 1e-3) == begins_anew


def test_misclassified_images_take_one_step_unless_corrected(float64):
    images, labels = float64.batch
    wrong = (labels + 1) % 10
    for protocol, steps in (("released", 1), ("described", 1), ("corrected", 0)):
        assert mfaba_paths(float64.net, images, wrong, protocol=protocol).steps.tolist() == [steps] * len(images)
    assert not big(float64.net, images, wrong, protocol="corrected").any()


def test_unknown_protocols_are_named(float64):
    for method in METHODS.values():
        with pytest.raises(ValueError, match="unknown protocol 'published'; there are: released, described, corrected"):
            method(float64.net, *float64.batch, protocol="published")


# --- insertion and deletion ---


@pytest.mark.parametrize("step", [25, 32])
@pytest.mark.parametrize("name", ["random", "gradient"])
def test_insertion_and_deletion_in_float32(name, step):
    released = Released("insertion-deletion-released.npz")
    curves = insertion_deletion(released.net, released["inputs"], released[f"map_{name}"], step=step)
    for side in ("insertion", "deletion"):
        theirs = released[f"{side}_{name}_step{step}"]
        close(getattr(curves, side), theirs, rtol=1e-5, atol=0)
        close(area(theirs), released[f"{side}_{name}_step{step}_area"], rtol=1e-5, atol=0)


@pytest.mark.parametrize("step", [32, 100])
@pytest.mark.parametrize("name", ["random", "gradient"])
def test_insertion_and_deletion_in_float64(name, step):
    released = Released("float64/insertion-deletion-released.npz")
    curves = insertion_deletion(released.net, released["inputs"], released[f"map.{name}"], step=step)
    for side, short in (("insertion", "ins"), ("deletion", "del")):
        ours, key = getattr(curves, side), f"{short}.{name}.step{step}"
        close(ours, released[f"{key}.curves"], rtol=1e-12, atol=0)
        close(area(ours), released[f"{key}.auc"], rtol=1e-12, atol=0)
        close(area(ours).mean()[None], released[f"{key}.auc_of_mean"], rtol=1e-12, atol=0)


def test_a_pixel_goes_with_the_first_channel_that_names_it():
    attributions = torch.tensor([[[[3.0, 2.0, 1.0, 0.0]], [[0.0, 1.0, 2.0, 3.0]]]])
    assert ranks(attributions, "released").tolist() == [[[0, 1, 1, 0]]]
    assert ranks(torch.zeros(1, 1, 1, 3), "released").tolist() == [[[2, 1, 0]]]  # a flipped argsort


# --- the mask metrics of X-DNN ---

LOGITS, SHARES = ["KPM", "KNM", "RPM", "RNM"], ["KAM", "RAM"]


def masks_of(released: Released, name: str) -> tuple[Tensor, Tensor]:
    """Curves in the order of the file, shares in 0..1 as there: (n, 6, 16), and the areas under them."""
    mean, std = (released[key].float().view(3, 1, 1) for key in ("mean", "std"))
    inputs = (released["pixels"].float() / 255 - mean) / std
    attributions = released[f"map.{name}"].float().expand(-1, 3, -1, -1)
    curves = masks.mask_curves(released.plain, inputs, released["labels"], attributions)
    ours = dict(zip([metric.upper() for metric in masks.METRICS], curves.unbind(1), strict=True))
    ours |= {share: ours[share] / 100 for share in SHARES}
    with np.load(DATA / "float64" / ("masks224-released.npz" if len(inputs) == 2 else "masks-released.npz")) as file:
        order = [str(metric) for metric in file["order"]]
    stacked = torch.stack([ours[metric] for metric in order], 1).double()
    return stacked, masks.area(stacked)


@pytest.mark.parametrize(
    ("file", "name", "strides", "blur_side"),
    [
        ("masks224-released.npz", "random", (4, 4), 224),
        (
            "masks-released.npz",
            "random",
            (2, 2),
            64,
        ),  # the released window has 51 px at every size, ours scales with it
        ("masks-released.npz", "gradient", (2, 2), 64),
    ],
)
def test_mask_metrics(monkeypatch, file, name, strides, blur_side):
    monkeypatch.setattr(masks, "BLUR_SIDE", blur_side)
    released = Released(f"float64/{file}", strides=strides)
    curves, areas = masks_of(released, name)
    close(curves, released[f"{name}.curves"], rtol=0, atol=1e-5)  # logits of the order of 1
    close(areas, released[f"{name}.auc"], rtol=0, atol=1e-5)
    close(curves.mean(0), released[f"{name}.curves_of_mean"], rtol=0, atol=1e-5)
    close(areas.mean(0), released[f"{name}.auc_of_mean"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(masks.FRACTIONS, released["fractions"].numpy(), rtol=1e-12)


def test_the_blur_of_the_masks(monkeypatch):
    monkeypatch.setattr(masks, "BLUR_SIDE", 64)
    released = Released("float64/masks-released.npz", strides=(2, 2))
    mean, std = (released[key].float().view(3, 1, 1) for key in ("mean", "std"))
    close(masks.blur((released["pixels"].float() / 255 - mean) / std), released["blurred"], rtol=0, atol=1e-5)
