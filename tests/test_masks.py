"""The mask metrics against their definition, followed mask by mask, and numbers written by hand."""

import math

import pytest
import torch
from conftest import generator
from torch import Tensor, nn
from torch.nn import functional as F

from xdnn.metrics.masks import FRACTIONS, METRICS, area, blur, mask_curves, mask_metrics
from xdnn.passes import count_passes

close = torch.testing.assert_close
pytestmark = pytest.mark.usefixtures("one_thread")  # tiny nets: a second thread would only wait


def slow_blur(image: Tensor) -> Tensor:
    """The released code's blur of one (C, H, W) image: a two-dimensional kernel over a padded image, scaled to its side."""
    scale = min(image.shape[1:]) / 224
    radius = max(1, round(25 * scale))
    kernel = torch.zeros(2 * radius + 1, 2 * radius + 1, dtype=image.dtype)
    for i in range(2 * radius + 1):
        for j in range(2 * radius + 1):
            kernel[i, j] = math.exp(-(((i - radius) / (2 * 41 * scale)) ** 2)) * math.exp(
                -(((j - radius) / (2 * 41 * scale)) ** 2)
            )
    padded = F.pad(image[None], (radius,) * 4, mode="reflect")
    return F.conv2d(padded.transpose(0, 1), (kernel / kernel.sum())[None, None])[:, 0]


def slow_curves(model: nn.Module, inputs: Tensor, targets: Tensor, attributions: Tensor) -> Tensor:
    """One mask at a time, from the definition: (B, 6, 16)."""
    curves = torch.zeros(len(inputs), 6, 16, dtype=torch.float64)
    for b, image in enumerate(inputs):
        pixels = attributions[b].mean(0).flatten().tolist()
        hidden = slow_blur(image).flatten(1)
        for m, name in enumerate(METRICS):
            sign = {"p": lambda v: v, "n": lambda v: -v, "a": abs}[name[1]]
            ranked = sorted((i for i, v in enumerate(pixels) if sign(v) > 0), key=lambda i: -sign(pixels[i]))
            for f in range(16):
                k = min(math.floor(0.01 * 100 ** (f / 15) * len(pixels) + 1e-9), len(ranked))
                shown = ranked[:k] if name[0] == "k" else ranked[len(ranked) - k :]
                masked = hidden.clone()
                masked[:, shown] = image.flatten(1)[:, shown]
                with torch.no_grad():
                    logits = model(masked.view(1, *image.shape))[0]
                curves[b, m, f] = 100 * (logits.argmax() == targets[b]) if name[1] == "a" else logits[targets[b]]
    return curves


def signed(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator(3), dtype=torch.float64)


MAPS = {
    "random": lambda s: signed(*s),
    "with zeros": lambda s: signed(*s) * (signed(s[0], 1, *s[2:]) > 0),
    "with ties": lambda s: signed(s[0], 1, *s[2:]).round().expand(s),
    "all positive": lambda s: signed(*s).abs(),
    "all negative": lambda s: -signed(*s).abs(),
    "one positive pixel": lambda s: (9.0 * F.one_hot(torch.tensor(7), s[2] * s[3]) - 1).double().view(s[2:]).expand(s),
    "constant": lambda s: torch.full(s, 0.5, dtype=torch.float64),
    "zero": lambda s: torch.zeros(s, dtype=torch.float64),
}


@pytest.mark.parametrize("name", MAPS)
def test_the_curves_equal_their_definition_mask_by_mask(net, batch, name):
    inputs, targets = batch[0][:2], batch[1][:2]
    attributions = MAPS[name](inputs.shape)
    expected = slow_curves(net, inputs, targets, attributions)
    close(mask_curves(net, inputs, targets, attributions), expected, rtol=1e-5, atol=1e-5)
    areas = sum((expected[..., f] + expected[..., f + 1]) / 2 * (FRACTIONS[f + 1] - FRACTIONS[f]) for f in range(15))
    close(mask_metrics(net, inputs, targets, attributions), areas, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(12, 20), (18, 12)])
def test_images_that_are_not_square(net, size):
    inputs, targets = torch.randn(2, 3, *size, generator=generator(), dtype=torch.float64), torch.tensor([1, 2])
    attributions = signed(2, 3, *size)
    close(mask_curves(net, inputs, targets, attributions), slow_curves(net, inputs, targets, attributions))


@pytest.mark.parametrize("size", [(1, 224, 224), (3, 64, 64), (3, 64, 90)])
def test_the_blur_is_the_released_one_and_separable(size):
    image = torch.randn(size, generator=generator(), dtype=torch.float64)
    close(blur(image[None])[0], slow_blur(image))


def test_the_blur_has_the_papers_deviation():
    spot = torch.zeros(1, 1, 224, 224, dtype=torch.float64)
    spot[0, 0, 112, 112] = 1
    seen = blur(spot)[0, 0]
    assert (seen[112] > 0).sum() == (seen[:, 112] > 0).sum() == 51
    assert (seen[112, 137] / seen[112, 112]).item() == pytest.approx(math.exp(-0.5 * (25 / 57.983) ** 2), rel=1e-4)
    assert seen.sum().item() == pytest.approx(1)


class Seen(nn.Module):
    """Logit 0 is the sum of the pixels, logit 1 is 2.5."""

    def forward(self, x: Tensor) -> Tensor:
        total = x.flatten(1).sum(1)
        return torch.stack([total, torch.full_like(total, 2.5)], 1)


def test_by_hand():
    """One bright pixel of a hundred, ranked lowest of five: the blur keeps the sum, showing the pixel itself adds to it."""
    image = torch.zeros(1, 1, 10, 10, dtype=torch.float64)
    attribution = torch.zeros_like(image)
    image[0, 0, 4, 4] = 1.0
    attribution[0, 0, 0, :4] = torch.tensor([4.0, 3.0, 2.0, 1.0])
    attribution[0, 0, 4, 4] = 0.5  # ranks lowest
    attribution[0, 0, 9, 9] = -1.0
    curves = dict(zip(METRICS, mask_curves(Seen(), image, torch.tensor([0]), attribution)[0], strict=True))
    hidden = blur(image)
    gain = 1 - hidden[0, 0, 4, 4].item()
    counts = [min(int(f * 100 + 1e-9), 5) for f in FRACTIONS]
    assert counts == [1, 1, 1, 2, 3, 4, 5, *[5] * 9]
    assert curves["kpm"].tolist() == pytest.approx([1 + gain * (k == 5) for k in counts])  # the lowest comes last
    assert curves["rpm"].tolist() == pytest.approx([1 + gain] * 16)  # the lowest is shown from the start
    assert curves["knm"].tolist() == curves["rnm"].tolist() == pytest.approx([1.0] * 16)
    assert curves["kam"].tolist() == curves["ram"].tolist() == [0.0] * 16  # never above logit 1
    assert area(torch.ones(16)).item() == pytest.approx(0.99)


def test_accuracy_counts_in_percent(net, batch):
    inputs, targets = batch
    with torch.no_grad():
        predicted = net(inputs).argmax(1)
    curves = mask_curves(net, inputs, predicted, signed(*inputs.shape))
    assert set(curves[:, [2, 5]].flatten().tolist()) <= {0.0, 100.0}
    assert (curves[:, [2, 5], -1] == 100).all()  # everything is shown


@pytest.mark.parametrize("chunk", [1, 5, 1000])
def test_chunks_change_nothing_and_bound_what_is_alive(net, batch, chunk):
    inputs, targets = batch
    attributions, sizes = signed(*inputs.shape), []
    with net[0].register_forward_pre_hook(lambda module, args: sizes.append(len(args[0]))):
        curves = mask_curves(net, inputs, targets, attributions, chunk=chunk)
    close(curves, mask_curves(net, inputs, targets, attributions))
    assert max(sizes) <= chunk and sum(sizes) <= 96 * len(inputs)


def test_no_mask_is_passed_twice(net, batch):
    inputs, targets = batch
    with count_passes(net) as passes, torch.no_grad():
        mask_curves(net, inputs, targets, torch.zeros_like(inputs))
    assert passes.forward == 3 * len(inputs)  # the blurred image, once for each order


def test_batch_mates_means_over_channels_and_empty_batches(net, batch):
    inputs, targets = batch
    attributions = signed(*inputs.shape)
    together = mask_metrics(net, inputs, targets, attributions)
    close(mask_metrics(net, inputs[1:2], targets[1:2], attributions[1:2]), together[1:2])
    close(mask_metrics(net, inputs, targets, attributions.mean(1)), together)
    assert mask_metrics(net, inputs[:0], targets[:0], attributions[:0]).shape == (0, 6)


def test_bad_input_is_named(net, batch):
    inputs, targets = batch
    broken = signed(*inputs.shape)
    broken[2, 1, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="attribution of image 2 of the batch has NaN"):
        mask_metrics(net, inputs, targets, broken)
    with pytest.raises(ValueError, match="do not fit inputs"):
        mask_metrics(net, inputs, targets, broken[:3])
    with pytest.raises(ValueError, match="chunk must be >= 1, got 0"):
        mask_metrics(net, inputs, targets, signed(*inputs.shape), chunk=0)
    with pytest.raises(ValueError, match="at least 2 px wide and high, got 1 x 8"):
        blur(torch.zeros(1, 3, 1, 8))
