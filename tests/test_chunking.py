"""How many points a pass takes: bounds, equal parts, one look at the net, and sums that keep their memory layout."""

import gc

import pytest
import torch
from torch import nn

from xdnn import allocator, integrated_gradients
from xdnn.chunking import ACTIVATION_NUMBERS, FEWEST_RECYCLED, LARGEST_OUTPUT, _outputs, chunk_size, equal_parts
from xdnn.memory_format import index_images, is_channels_last, match_format, suited_format, sum_first_axis
from xdnn.metrics.faithfulness import infidelity
from xdnn.metrics.insertion_deletion import insertion_deletion
from xdnn.metrics.masks import mask_curves
from xdnn.metrics.single_deletion import logit_drops
from xdnn.passes import count_passes


def test_chunks_are_bounded_by_the_largest_output_by_all_outputs_and_outweigh_the_weights(monkeypatch):
    monkeypatch.setattr(allocator, "_kept", False)
    x = torch.zeros(3, 3, 224, 224)
    pixels = 224 * 224
    plain = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)).eval()
    deep = nn.Sequential(*[nn.Conv2d(3, 3, 1) for _ in range(41)]).eval()
    assert chunk_size(plain, x, None) == LARGEST_OUTPUT["cpu"] // (8 * pixels) == 20
    assert chunk_size(deep, x, None) == ACTIVATION_NUMBERS["cpu"] // (42 * 3 * pixels) == 42
    assert chunk_size(plain.double(), x.double(), None) == 2, "in float64 convolutions unfold their inputs"
    monkeypatch.setattr(allocator, "_kept", True)
    assert chunk_size(plain.double(), x.double(), None) == FEWEST_RECYCLED, "blocks of any size are recycled"
    monkeypatch.setattr(allocator, "_kept", False)
    plain = plain.float()
    assert chunk_size(plain, x, 5) == 5 and chunk_size(plain, x[:0], None) == 1
    with pytest.raises(ValueError, match="chunk must be >= 1"):
        chunk_size(plain, x, 0)
    monkeypatch.setitem(LARGEST_OUTPUT, "cpu", 2000)
    # 21,010 weights, 1,020 outputs with the input
    classifier = nn.Sequential(nn.Linear(10, 1000), nn.Linear(1000, 10)).eval()
    assert chunk_size(classifier, torch.zeros(1, 10), None) == 20


@pytest.mark.parametrize(("count", "most", "part"), [(128, 38, 32), (16, 100, 16), (100, 64, 50), (0, 7, 1), (5, 1, 1)])
def test_parts_are_few_and_as_equal_as_can_be(count, most, part):
    assert equal_parts(count, most) == part


def test_a_sum_over_points_keeps_their_memory_layout():
    values = torch.randn(5, 2, 4, 6, 3).permute(0, 1, 4, 2, 3)  # channels last within each of the five
    total = sum_first_axis(values)
    assert total.is_contiguous(memory_format=torch.channels_last) and torch.allclose(total, values.sum(0))


def test_indexed_and_matched_images_keep_channels_last():
    images = torch.randn(4, 3, 5, 6).contiguous(memory_format=torch.channels_last)
    index = torch.tensor([2, 0, 2])
    for found in (index_images(images, index), match_format(images[index].contiguous(), images)):
        assert torch.equal(found, images[index]) and found.is_contiguous(memory_format=torch.channels_last)
    chosen = index_images(images, torch.tensor([[0, 1], [3, 3]]))
    assert torch.equal(chosen, images[torch.tensor([[0, 1], [3, 3]])])


def test_the_look_at_a_net_is_taken_once_is_no_pass_and_moves_no_statistics():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(4 * 7 * 11, 2))
    x = torch.randn(2, 3, 9, 13)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state = torch.get_rng_state()
    chunk_size(net.train(), x, None)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state) and net not in _outputs
    with count_passes(net.eval()) as passes:
        integrated_gradients(net, x, torch.zeros(2, dtype=torch.long), steps=3)
    assert (passes.forward, passes.backward) == (6, 6) and list(_outputs[net]) == [(3, 9, 13)]
    count = len(_outputs)
    del net
    gc.collect()
    assert len(_outputs) < count, "a net that is gone is forgotten"


# --- the memory layout of what is passed ---


class Views(nn.Module):
    """A net as older tutorials write it: ``view`` refuses what lies channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.linear = nn.Linear(4 * 6 * 6, 5)
        self.layouts: set[bool] = set()

    def forward(self, x):
        self.layouts.add(is_channels_last(x))
        return self.linear(self.convolution(x).view(x.shape[0], -1))


class Flattens(Views):
    def forward(self, x):
        self.layouts.add(is_channels_last(x))
        return self.linear(self.convolution(x).flatten(1))


CALLS = {
    "integrated_gradients": lambda net, x: integrated_gradients(net, x, 1, steps=4),
    "mask_curves": lambda net, x: mask_curves(net, x, 1, x),
    "insertion_deletion": lambda net, x: insertion_deletion(net, x, x, step=9).insertion,
    "logit_drops": lambda net, x: logit_drops(net, x, 1, grid=2),
    "infidelity": lambda net, x: infidelity(net, x, 1, x, generator=torch.Generator().manual_seed(0)),
}


@pytest.mark.parametrize("name", CALLS)
def test_images_are_passed_channels_last_where_the_net_takes_them_so(name):
    torch.manual_seed(0)
    x, views, flattens = torch.randn(3, 3, 8, 8), Views().eval(), Flattens().eval()
    flattens.load_state_dict(views.state_dict())
    found = {net: CALLS[name](net, x) for net in (views, flattens)}
    assert torch.allclose(found[views], found[flattens], rtol=1e-4, atol=1e-6)
    assert views.layouts == {True, False}, "one trial, and then as they came"
    assert flattens.layouts == {True}
    assert found[flattens].is_contiguous(), "what comes back lies as the user's inputs do"


def test_the_trial_is_no_pass_and_training_nets_are_not_tried():
    x, net = torch.randn(2, 3, 8, 8), Flattens().eval()
    with count_passes(net) as passes:
        assert is_channels_last(suited_format(net, x)) and is_channels_last(suited_format(net, x[:1]))
    assert passes.forward == 0
    assert suited_format(net.train(), x) is x
    assert suited_format(net.eval(), x.double()).is_contiguous()
    assert suited_format(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)).eval(), x) is x
