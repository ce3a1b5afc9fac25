"""X-variants of many nets, BatchNorm that only scales, the measurement of homogeneity, and the wrapper."""

import copy

import pytest
import torch
import torchvision
from conftest import small_cnn
from torch import nn
from torch.nn import functional as F

from reproduce.models import MODELS, build
from xdnn import (
    BiasFreeBatchNorm,
    HomogeneousWrapper,
    NotHomogeneousError,
    input_x_gradient,
    integrated_gradients,
    is_homogeneous,
    to_x_variant,
)
from xdnn.homogeneity.measure import FACTORS

close = torch.testing.assert_close


def shake(model: nn.Module) -> nn.Module:
    """Random values wherever an initialisation is zero or one, so that no bias hides."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for name, parameter in model.named_parameters():
            if parameter.ndim < 2 or not parameter.any():
                parameter.normal_(0.5 if name.endswith("scale") else 0.0, 0.1)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d | BiasFreeBatchNorm):
                module.running_var.uniform_(0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 1.5)
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
    return model.eval()


IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["alexnet", "vgg11", "vgg16", "resnet18", "resnet50"])
def test_our_nets_and_their_x_variants(name):
    regular = shake(build(name, "regular", classes=7, width=0.125, image_px=64))
    x_net = shake(build(name, "x", classes=7, width=0.125, image_px=64))
    assert not is_homogeneous(regular, IMAGES)
    assert is_homogeneous(x_net, IMAGES)
    assert is_homogeneous(x_net, IMAGES, dtype=torch.float64).deviation < 1e-12
    assert not any("bias" in key or key.endswith("scale") for key in x_net.state_dict())


def relu_mobilenet() -> nn.Module:
    model = torchvision.models.mobilenet_v2(num_classes=7, width_mult=0.35)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU6):
                setattr(module, name, nn.ReLU())
    return model


TORCHVISION = {
    "alexnet": lambda: torchvision.models.alexnet(num_classes=7),
    "vgg11": lambda: torchvision.models.vgg11(num_classes=7),
    "vgg11_bn": lambda: torchvision.models.vgg11_bn(num_classes=7),
    "resnet18": lambda: torchvision.models.resnet18(num_classes=7),
    "resnet50": lambda: torchvision.models.resnet50(num_classes=7),
    "mnasnet": lambda: torchvision.models.mnasnet0_5(num_classes=7),
    "shufflenet": lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=7),
    "squeezenet": lambda: torchvision.models.squeezenet1_1(num_classes=7),
    "mobilenet": relu_mobilenet,
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_nets_convert_and_the_original_stays(name):
    model = shake(TORCHVISION[name]())
    before = copy.deepcopy(model.state_dict())
    images = IMAGES if name != "alexnet" else F.interpolate(IMAGES, size=80)
    x_net = to_x_variant(model)
    assert not is_homogeneous(model, images)
    assert is_homogeneous(x_net, images)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_weights_are_carried_over():
    net = small_cnn()
    x_net = to_x_variant(net)
    assert torch.equal(net[0].weight, x_net[0].weight) and x_net[0].bias is None
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    for module in net:
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)
    close(x_net(images), net(images))


# --- BatchNorm ---


def test_bias_free_batch_norm_scales_by_the_running_deviation_in_eval():
    norm = nn.BatchNorm2d(3)
    norm.running_var.copy_(torch.tensor([1.0, 4.0, 9.0]))
    norm.weight.data.copy_(torch.tensor([1.0, 2.0, 3.0]))
    x = torch.ones(1, 3, 2, 2)
    expected = torch.ones(1, 3, 2, 2)  # gamma / sigma is 1 in each channel
    close(BiasFreeBatchNorm(norm).eval()(x), expected, rtol=1e-4, atol=0)


def test_bias_free_batch_norm_trains_on_the_batchs_variance_and_keeps_torchs_running_one():
    x = torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(3)) * 2 + 1
    norm = nn.BatchNorm2d(3)
    free = BiasFreeBatchNorm(copy.deepcopy(norm)).train()
    y = free(x)
    norm.train()(x)
    close(free.running_var, norm.running_var)
    assert free.num_batches_tracked == 1
    close(y, x / (x.var((0, 2, 3), unbiased=False, keepdim=True) + norm.eps).sqrt())
    assert y.mean() > 0.1  # the mean is not subtracted


def test_batch_norm_without_running_statistics_is_refused():
    with pytest.raises(NotHomogeneousError, match="without running statistics"):
        to_x_variant(nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)))


@pytest.mark.parametrize("momentum", [0.1, None])
def test_bias_free_batch_norm_trains_under_bf16_autocast(momentum):
    """Its input comes in bf16 there, its running variance stays in float32."""
    torch.manual_seed(0)
    x, targets = torch.randn(16, 3, 8, 8), torch.arange(16) % 4
    regular = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, momentum=momentum), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)
    )
    net = to_x_variant(regular).train()
    before, losses = net[1].running_var.clone(), []
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    for _ in range(20):
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(net(x).float(), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert net[1].running_var.dtype == torch.float32 and not torch.equal(net[1].running_var, before)
    coarse = net[0](x).detach().bfloat16()
    expected = coarse.float().var((0, 2, 3), unbiased=False)  # not rounded to bf16's eight digits
    assert torch.equal(net[1]._batch_variance(coarse), expected)


# --- measurement ---


def test_no_factor_scales_without_rounding():
    """A power of two moves the exponent only: every ReLU net with exact sums would be homogeneous to the last digit."""
    assert not [a for a in FACTORS if a > 0 and torch.frexp(torch.tensor(a, dtype=torch.float64))[0] == 0.5]


def test_a_tiny_bias_is_found_at_the_small_extreme():
    layer = nn.Linear(3, 2).double()
    nn.init.constant_(layer.bias, 1e-5)
    found = is_homogeneous(layer, torch.randn(4, 3, dtype=torch.float64))
    assert not found and found.factor < 0.01
    assert is_homogeneous(
        layer, torch.randn(4, 3, dtype=torch.float64), factors=(10.0, 1000.0), tolerance=1e-4
    )  # where it hides


def test_measuring_leaves_the_net_as_it_is():
    net = small_cnn().float().train()
    is_homogeneous(net, torch.randn(2, 3, 16, 16), dtype=torch.float64)
    assert net.training and next(net.parameters()).dtype == torch.float32


def test_measuring_refuses_bad_factors_and_nan():
    net = small_cnn()
    with pytest.raises(ValueError, match="factors must be >= 0"):
        is_homogeneous(net, torch.zeros(1, 3, 16, 16).double(), factors=(-1.0, 2.0))
    with pytest.raises(ValueError, match="NaN"):
        is_homogeneous(net, torch.full((1, 3, 16, 16), float("nan")).double())


# --- the wrapper ---


def test_any_net_wrapped_is_homogeneous_and_ig_is_input_x_gradient(net, batch):
    images, targets = batch
    wrapped = HomogeneousWrapper(net, radius=20.0)
    assert is_homogeneous(wrapped, images)
    close(integrated_gradients(wrapped, images, targets, steps=3), input_x_gradient(wrapped, images, targets))


def test_the_wrapper_changes_nothing_on_its_sphere_and_is_zero_at_zero(net, batch):
    images, _ = batch
    on_sphere = 20 * images / images.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    wrapped = HomogeneousWrapper(net, radius=20.0)
    close(wrapped(on_sphere), net(on_sphere))
    assert not wrapped(0 * images).any()
    gradient = torch.autograd.grad(wrapped(zero := torch.zeros_like(images).requires_grad_()).sum(), zero)[0]
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("radius", [0.0, -1.0, float("inf")])
def test_the_wrapper_needs_a_positive_radius(net, radius):
    with pytest.raises(ValueError, match="radius must be a positive number"):
        HomogeneousWrapper(net, radius)


def test_every_registered_net_builds_at_224_px_and_full_width():
    for name in ("alexnet", "resnet18"):
        assert MODELS[name]()(torch.zeros(1, 3, 224, 224)).shape == (1, 1000)
