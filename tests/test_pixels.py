"""Methods in pixel space: the released normalisation inside the net, and the net left as it was."""

import pytest
import torch
from boundary_nets import slope
from torch import nn

from xdnn import agi, big, deeplift, gradient, in_pixels, mfaba
from xdnn.attributions.pixels import PixelNet

close = torch.testing.assert_close
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def net(level_net) -> nn.Module:
    return level_net


@pytest.mark.parametrize("method", [mfaba, big, agi, deeplift, gradient])
def test_the_net_stays_in_its_mode(net, pixels, method):  # a net turned to training would drop units from then on
    net.insert(7, nn.Dropout(0.5).eval())
    in_pixels(method, (0.0,) * 3, (1.0,) * 3)(net, *pixels)
    assert not any(module.training for module in net.modules())


def test_in_pixels_is_the_released_space(net, pixels):
    images, targets = pixels
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    module = PixelNet(net, mean, std)
    targets = module(images).argmax(1)
    inputs = (images - module.mean) / module.std
    close(in_pixels(mfaba, mean, std)(net, inputs, targets), mfaba(module, images, targets))
    explained = in_pixels(gradient, mean, std, softmax=True)(net, inputs, targets)
    close(explained[0], slope(module, images[0], targets[0], 1))
    with pytest.raises(ValueError, match="outside"):
        in_pixels(mfaba, mean, std)(net, 9 * inputs, targets)


def test_mean_and_std_keep_the_digits_of_the_nets_dtype():
    module = PixelNet(nn.Linear(1, 1).double(), (0.1,) * 3, (0.3,) * 3)
    assert module.mean.dtype == torch.float64 and module.mean[0].item() == 0.1 and module.std[2].item() == 0.3
    assert PixelNet(nn.Linear(1, 1), (0.1,) * 3, (0.3,) * 3).mean.dtype == torch.float32
