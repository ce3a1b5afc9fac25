"""Checkpoints laid out as the released ones: DataParallel names under ``state_dict``, for all six nets."""

import os

import pytest
import torch

from reproduce.errors import UserError
from reproduce.models import build
from reproduce.models.released import RELEASED, load_released

SIZE = {"classes": 5, "width": 0.0625, "image_px": 64}


def net(model="alexnet", variant="regular", **options):
    return build(model, variant, **(SIZE | options))


def checkpoint(path, model, **changes):
    weights = {f"module.{name}": tensor for name, tensor in model.state_dict().items()} | changes
    weights = {name: tensor for name, tensor in weights.items() if tensor is not None}
    torch.save(
        {"epoch": 90, "arch": "alexnet", "state_dict": weights, "best_acc1": torch.tensor(56.0), "optimizer": {}}, path
    )
    return path


@pytest.mark.parametrize(("model", "variant"), RELEASED)
def test_all_six_layouts_load(tmp_path, model, variant):
    saved, fresh = net(model, variant), net(model, variant)
    for parameter in saved.parameters():
        torch.nn.init.normal_(parameter)
    load_released(fresh, checkpoint(tmp_path / "c.pth.tar", saved))
    for a, b in zip(saved.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(a, b)


def test_names_and_shapes_that_do_not_fit_are_listed(tmp_path):
    path = tmp_path / "c.pth.tar"
    key = "module.features.0.bias"
    with pytest.raises(UserError, match=r"does not fit AlexNet: 1 differences, such as features.0.bias is missing"):
        load_released(net(), checkpoint(path, net(), **{key: None}))
    with pytest.raises(UserError, match=r"extra.weight is not part of the net"):
        load_released(net(), checkpoint(path, net(), **{"module.extra.weight": torch.zeros(1)}))
    with pytest.raises(UserError, match=r"15 differences, such as classifier.1.bias is \(1024,\), not \(256,\)"):
        load_released(net(), checkpoint(path, net(width=0.25)))
    with pytest.raises(UserError, match=r"features.0.bias is not part of the net"):
        load_released(net(variant="x"), checkpoint(path, net()))


def test_a_truncated_file_says_so(tmp_path):
    path = checkpoint(tmp_path / "c.pth.tar", net())
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(
        UserError, match=r"cannot be read as a checkpoint .*run `make data` again|holds more than weights"
    ):
        load_released(net(), path)


def test_a_pickle_that_executes_code_is_refused_and_not_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/executed",)

    path = tmp_path / "c.pth.tar"
    torch.save({"state_dict": {}, "x": Evil()}, path)
    with pytest.raises(UserError, match="holds more than weights and was not loaded"):
        load_released(net(), path)
    assert not (tmp_path / "executed").exists()
