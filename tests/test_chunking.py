"""How many points a pass takes: bounds, equal parts, one look at the net, and sums that keep their memory layout."""

import gc

import pytest
import torch
from torch import nn

from xdnn import integrated_gradients
from xdnn.chunking import ACTIVATION_NUMBERS, LARGEST_OUTPUT, _outputs, chunk_size, equal_parts
from xdnn.memory_format import index_images, match_format, sum_first_axis
from xdnn.passes import count_passes


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
