"""How passes are made cheap: the same gradients from faster stems, chunks that suit the net, and nothing left behind."""

import gc

import pytest
import torch
from torch import nn

from reproduce.attributions import expected_gradients, gradient, integrated_gradients
from reproduce.attributions.engine import (
    ACTIVATION_NUMBERS,
    LARGEST_OUTPUT,
    _outputs,
    chunk_size,
    evenly,
    fast_stems,
    lean,
    summed,
)
from reproduce.metrics.agreement import relative_l1
from reproduce.metrics.timing import counted


def images(count=2, px=33, channels=3, dtype=torch.float64):
    return torch.randn(count, channels, px, px + 4, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(11, 4, 2), (7, 2, 3), (3, 2, 1), (5, 3, 0), ((3, 6), 2, (0, 2)), (2, 5, 0)]
)
def test_a_fast_stem_has_the_same_output_and_gradient(kernel, stride, padding, channels):
    torch.manual_seed(0)
    stem = nn.Conv2d(channels, 6, kernel, stride, padding).double()
    results = []
    for fast in (False, True):
        x = images(channels=channels).requires_grad_()
        with fast_stems(stem if fast else nn.Identity(), x):
            out = stem(x)
            results.append((out, torch.autograd.grad((out * out.detach().cos()).sum(), x)[0]))
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-12)


def test_only_strided_image_convolutions_are_replaced_and_only_within_the_block():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 8, 3, 2), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3, 2, padding_mode="reflect")
    )
    with pytest.raises(ZeroDivisionError), fast_stems(net, torch.zeros(1)):
        assert ["forward" in vars(layer) for layer in net] == [True, False, False, False]
        raise ZeroDivisionError
    assert not any("forward" in vars(layer) for layer in net)


def test_parameters_are_frozen_within_the_block_and_trainable_after_it():
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.Flatten(), nn.Linear(4 * 16 * 18, 3))
    net[0].bias.requires_grad_(False)
    with lean(net, torch.zeros(1)):
        assert not any(p.requires_grad for p in net.parameters())
    assert [p.requires_grad for p in net.parameters()] == [True, False, True, True]


def test_chunks_are_bounded_by_the_largest_output_by_all_outputs_and_outweigh_the_weights(monkeypatch):
    x = torch.zeros(3, 3, 224, 224)
    pixels = 224 * 224
    plain = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)).eval()
    deep = nn.Sequential(*[nn.Conv2d(3, 3, 1) for _ in range(20)]).eval()
    assert chunk_size(plain, x, None) == LARGEST_OUTPUT["cpu"] // (8 * pixels) == 20
    assert chunk_size(deep, x, None) == ACTIVATION_NUMBERS["cpu"] // (21 * 3 * pixels) == 42
    assert chunk_size(plain.double(), x.double(), None) == 2, "in float64 convolutions unfold their inputs"
    assert chunk_size(plain, x, 5) == 5 and chunk_size(plain, x[:0], None) == 1
    with pytest.raises(ValueError, match="chunk must be >= 1"):
        chunk_size(plain, x, 0)
    monkeypatch.setitem(LARGEST_OUTPUT, "cpu", 2000)
    # 21,010 weights, 1,020 outputs with the input
    classifier = nn.Sequential(nn.Linear(10, 1000), nn.Linear(1000, 10)).eval()
    assert chunk_size(classifier, torch.zeros(1, 10), None) == 20


@pytest.mark.parametrize(("count", "most", "part"), [(128, 38, 32), (16, 100, 16), (100, 64, 50), (0, 7, 1), (5, 1, 1)])
def test_parts_are_few_and_as_equal_as_can_be(count, most, part):
    assert evenly(count, most) == part


def test_a_sum_over_points_keeps_their_memory_layout():
    values = torch.randn(5, 2, 4, 6, 3).permute(0, 1, 4, 2, 3)  # channels last within each of the five
    total = summed(values)
    assert total.is_contiguous(memory_format=torch.channels_last) and torch.allclose(total, values.sum(0))


def test_the_look_at_a_net_is_taken_once_is_no_pass_and_moves_no_statistics():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(4 * 7 * 11, 2))
    x = images(2, 9, dtype=torch.float32)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state = torch.get_rng_state()
    chunk_size(net.train(), x, None)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state) and net not in _outputs
    with counted(net.eval()) as passes:
        integrated_gradients(net, x, torch.zeros(2, dtype=torch.long), steps=3)
    assert (passes.forward, passes.backward) == (6, 6) and list(_outputs[net]) == [(3, 9, 13)]
    count = len(_outputs)
    del net
    gc.collect()
    assert len(_outputs) < count, "a net that is gone is forgotten"


def test_an_image_of_another_dtype_or_layout_is_fine():
    net = nn.Sequential(nn.Conv2d(3, 4, 7, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    x, target = images(dtype=torch.float32), torch.zeros(2, dtype=torch.long)
    plain = gradient(net, x, target)
    again = gradient(net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last), target)
    torch.testing.assert_close(plain, again, rtol=1e-4, atol=1e-6)


def test_bf16_is_close_and_not_equal_and_another_precision_is_named():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 5, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4)
    ).eval()
    x, targets = images(3, dtype=torch.float32), torch.tensor([0, 1, 2])
    exact, rounded = (integrated_gradients(net, x, targets, steps=4, precision=p) for p in ("float32", "bf16"))
    assert rounded.dtype == torch.float32 and not torch.equal(exact, rounded)
    assert relative_l1(exact, rounded).max() < 0.1
    draws = [
        expected_gradients(
            net, x, targets, references=x.flip(0), generator=torch.Generator().manual_seed(1), precision=p
        )
        for p in ("float32", "bf16")
    ]
    assert 0 < relative_l1(*draws).max() < 0.1
    with pytest.raises(ValueError, match="unknown precision 'fp8'; there are: float32, bf16"):
        integrated_gradients(net, x, targets, precision="fp8")
