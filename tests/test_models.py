import pytest
import torch
import torchvision

from reproduce.datasets.open_photographs import open_photographs
from reproduce.errors import UserError
from reproduce.models import PREPROCESSING, build
from reproduce.models.fixup_resnet import FixupResNet
from reproduce.models.layout import scaled


def layout(model):
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("name", ["alexnet", "vgg16"])
def test_names_and_shapes_are_those_of_the_released_checkpoints(name):
    """The authors' AlexNet and VGG16 are torchvision's, layer for layer; their X-variants lack the biases."""
    with torch.device("meta"):
        theirs = layout(getattr(torchvision.models, name)())
    assert layout(build(name, "regular")) == theirs
    assert layout(build(name, "x")) == {key: shape for key, shape in theirs.items() if not key.endswith("bias")}


# Written from imagenet/models/fixup_resnet.py of the released code.
FIXUP_BLOCK = {
    "bias1a",
    "bias1b",
    "conv1.weight",
    "bias2a",
    "bias2b",
    "conv2.weight",
    "bias3a",
    "bias3b",
    "conv3.weight",
    "scale",
}


def test_fixup_resnet50_has_the_released_names():
    regular, x_net = layout(FixupResNet(50)), layout(build("resnet50", "x"))
    block = {key.removeprefix("layer3.4.") for key in regular if key.startswith("layer3.4.")}
    assert block == FIXUP_BLOCK
    assert regular["layer1.0.downsample.weight"] == (256, 64, 1, 1)
    assert regular["layer4.2.conv3.weight"] == (2048, 512, 1, 1)
    assert {"conv1.weight", "bias1", "bias2", "fc.weight", "fc.bias"} <= set(regular)
    assert set(x_net) == {key for key in regular if "bias" not in key and not key.endswith("scale")}
    assert sum(p.numel() for p in FixupResNet(50).parameters()) == 25_504_026


def test_a_fixup_basic_block_has_the_released_names():
    block = {key.removeprefix("layer2.1.") for key in layout(FixupResNet(18)) if key.startswith("layer2.1.")}
    assert block == {"bias1a", "bias1b", "conv1.weight", "bias2a", "bias2b", "conv2.weight", "scale"}


def test_a_fixup_block_follows_the_released_forward():
    """The released order of operations, written out with its names."""
    torch.manual_seed(0)
    block = FixupResNet(50, width=0.125).layer2[0].double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(2, 32, 8, 8, dtype=torch.float64)
    out = block.relu(block.conv1(x + block.bias1a) + block.bias1b)
    out = block.relu(block.conv2(out + block.bias2a) + block.bias2b)
    out = block.conv3(out + block.bias3a) * block.scale + block.bias3b
    torch.testing.assert_close(block(x), block.relu(out + block.downsample(x + block.bias1a)))


@pytest.mark.parametrize("name", ["alexnet", "vgg13", "resnet34"])
@pytest.mark.parametrize("image_px", [64, 224])
def test_any_width_classes_and_both_sizes(name, image_px):
    model = build(name, "regular", classes=3, width=0.0625, image_px=image_px).eval()
    assert model(torch.zeros(2, 3, image_px, image_px)).shape == (2, 3)


def test_width_rounds_to_multiples_of_eight():
    assert [scaled(64, w) for w in (1.0, 0.5, 0.01, 0.2)] == [64, 32, 8, 16]
    with pytest.raises(ValueError, match="width must be positive, got 0"):
        scaled(64, 0)


def test_unknown_names_are_named():
    with pytest.raises(UserError, match="unknown model 'lenet'; there are: alexnet"):
        build("lenet", "regular")
    with pytest.raises(UserError, match="unknown variant 'y'"):
        build("alexnet", "y")
    with pytest.raises(UserError, match="no radius is known for alexnet"):
        build("alexnet", "wrapped")


def test_efficientnet_lite0_knows_imagenet():
    """Eight of the first ten open photographs."""
    images = open_photographs().first(10).preprocessed(**PREPROCESSING["efficientnet_lite0"])
    with torch.no_grad():
        logits = build("efficientnet_lite0", "regular").eval()(images.inputs())
    assert (logits.argmax(1) == images.targets).sum() >= 8
    with pytest.raises(UserError, match="1000 classes at width 1, not 10"):
        build("efficientnet_lite0", "regular", classes=10)
