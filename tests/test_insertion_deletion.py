"""Insertion and deletion against an implementation written pixel by pixel, and numbers written by hand."""

import pytest
import torch
from conftest import generator
from torch import nn

from xdnn.metrics.insertion_deletion import area, insertion_deletion, ranks
from xdnn.passes import count_passes

close = torch.testing.assert_close
pytestmark = pytest.mark.usefixtures("one_thread")  # tiny nets: a second thread would only wait


@torch.no_grad()
def slow_curves(net, image, attribution, step, ranking, substrate):
    """One image, one pixel at a time, from the description of each protocol."""
    channels, height, width = image.shape
    number = height * width
    values = attribution.flatten(1)
    if ranking == "pixels":
        values = values.sum(0, keepdim=True).expand(channels, -1)
    orders = [sorted(range(number), key=lambda i, c=c: -float(values[c, i])) for c in range(channels)]
    predicted = int(net(image[None]).argmax())
    start, stop = torch.full_like(image, substrate), image.clone()
    curves = []
    for here, there in ((start, stop), (stop, start)):  # insertion, deletion
        current, scores = here.clone(), []
        for done in range(0, number + step, step):
            scores.append(float(net(current[None]).softmax(1)[0, predicted]))
            for c in range(channels):
                for i in orders[c][done : done + step]:
                    changed = (
                        slice(None) if ranking == "released" else c
                    )  # the released step changes every channel there
                    current[changed, i // width, i % width] = there[changed, i // width, i % width]
            if done >= number:
                break
        curves.append(torch.tensor(scores, dtype=torch.float64))
    return curves


@pytest.mark.parametrize("ranking", ["released", "channels", "pixels"])
@pytest.mark.parametrize(("step", "chunk"), [(16, None), (100, 3), (100, 40), (256, 1), (1000, None), (37, 5)])
def test_the_curves_equal_a_loop_over_pixels(net, batch, ranking, step, chunk):
    inputs = batch[0]
    attributions = torch.randn(inputs.shape, generator=generator(4), dtype=torch.float64)
    fast = insertion_deletion(net, inputs, attributions, step=step, ranking=ranking, substrate=-0.3, chunk=chunk)
    for i in range(len(inputs)):
        insertion, deletion = slow_curves(net, inputs[i], attributions[i], step, ranking, -0.3)
        close(fast.insertion[i], insertion)
        close(fast.deletion[i], deletion)


def test_by_hand():
    """Logits (sum of the image, 0); the attribution ranks the pixels 3, 1, 0, 2."""

    class Sum(nn.Module):
        def forward(self, x):
            total = x.flatten(1).sum(1)
            return torch.stack([total, 0 * total], 1)

    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]], dtype=torch.float64)
    attribution = torch.tensor([[[[0.0, 1.0], [-1.0, 2.0]]]], dtype=torch.float64)
    curves = insertion_deletion(Sum(), image, attribution, step=1)
    close(curves.insertion[0], torch.sigmoid(torch.tensor([0.0, 4, 6, 7, 10], dtype=torch.float64)))
    close(curves.deletion[0], torch.sigmoid(torch.tensor([10.0, 6, 4, 3, 0], dtype=torch.float64)))


def test_the_area_is_a_normalised_trapezoid():
    close(area(torch.tensor([[0.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])), torch.tensor([0.75, 1.0, 0.25]))
    with pytest.raises(ValueError, match="two points"):
        area(torch.zeros(3, 1))


def test_channels_are_ranked_apart_or_together():
    attributions = torch.tensor([[[[1.0, 5.0]], [[9.0, 3.0]]]])
    assert ranks(attributions, "channels").tolist() == [[[1, 0], [0, 1]]]
    assert ranks(attributions, "pixels").tolist() == [[[0, 1]]]
    assert ranks(attributions, "released").tolist() == [
        [[0, 0]]
    ]  # of the first channel the second, of the other the first
    for ranking in ("channels", "pixels"):
        assert ranks(torch.zeros(1, 1, 1, 3), ranking).tolist() == [[[0, 1, 2]]]  # ties keep their order
    assert ranks(torch.zeros(1, 1, 1, 3), "released").tolist() == [[[2, 1, 0]]]  # a flipped argsort


@pytest.mark.parametrize("step", [16, 100])
def test_the_passes_are_two_per_step(net, batch, step):
    with count_passes(net) as passes:
        insertion_deletion(net, batch[0], batch[0], step=step)
    assert passes.forward == len(batch[0]) * 2 * -(-256 // step) and passes.backward == 0


def test_no_more_than_chunk_images_are_alive(net, batch):
    sizes = []
    with net[0].register_forward_pre_hook(lambda module, args: sizes.append(len(args[0]))):
        insertion_deletion(net, batch[0], batch[0], step=8, chunk=12)
    assert max(sizes) <= 12


def test_a_substrate_per_channel_is_black_after_normalisation(net, batch):
    """Normalised inputs with substrate -mean/std are the released protocol: zeros for pixels in [0, 1]."""
    from xdnn.attributions.pixels import PixelNet

    pixels, (mean, std) = torch.rand(2, 3, 16, 16, generator=generator(), dtype=torch.float64), (0.4, 0.2)
    module = PixelNet(net, (mean,) * 3, (std,) * 3)
    attributions = torch.randn(pixels.shape, generator=generator(1), dtype=torch.float64)
    released = insertion_deletion(module, pixels, attributions, step=50)
    black = torch.full((3, 1, 1), -mean / std, dtype=torch.float64)
    ours = insertion_deletion(net, (pixels - mean) / std, attributions, step=50, substrate=black)
    close(ours.insertion, released.insertion)


def test_bad_arguments_are_named(net, batch):
    inputs = batch[0]
    with pytest.raises(ValueError, match="step must be >= 1, got 0"):
        insertion_deletion(net, inputs, inputs, step=0)
    with pytest.raises(ValueError, match="unknown ranking 'rows'; there are: released, channels, pixels"):
        insertion_deletion(net, inputs, inputs, ranking="rows")
    with pytest.raises(ValueError, match=r"attributions \(4, 16, 16\) must have the inputs' shape"):
        insertion_deletion(net, inputs, inputs[:, 0])


def test_a_map_with_nan_is_refused(net, batch):
    inputs = batch[0]
    attributions = torch.zeros_like(inputs)
    attributions[2, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="the attribution of image 2 of the batch has NaN or infinity"):
        insertion_deletion(net, inputs, attributions)
