"""Checkpoints laid out as the released ones: DataParallel names under ``state_dict``, for all six nets."""

import os

import pytest
import torch

from reproduce.datasets.fetch import manifest
from reproduce.errors import UserError
from reproduce.models import build
from reproduce.models.weights import FILES, load_weights

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


RELEASED = [net for net, file in FILES.items() if file.startswith("released/")]


@pytest.mark.parametrize(("model", "variant"), RELEASED)
def test_all_six_layouts_load(tmp_path, model, variant):
    saved, fresh = net(model, variant), net(model, variant)
    for parameter in saved.parameters():
        torch.nn.init.normal_(parameter)
    load_weights(fresh, checkpoint(tmp_path / "c.pth.tar", saved))
    for a, b in zip(saved.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(a, b)


def test_names_and_shapes_that_do_not_fit_are_listed(tmp_path):
    path = tmp_path / "c.pth.tar"
    key = "module.features.0.bias"
    with pytest.raises(UserError, match=r"does not fit AlexNet: 1 differences, such as features.0.bias is missing"):
        load_weights(net(), checkpoint(path, net(), **{key: None}))
    with pytest.raises(UserError, match=r"extra.weight is not part of the net"):
        load_weights(net(), checkpoint(path, net(), **{"module.extra.weight": torch.zeros(1)}))
    with pytest.raises(UserError, match=r"15 differences, such as classifier.1.bias is \(1024,\), not \(256,\)"):
        load_weights(net(), checkpoint(path, net(width=0.25)))
    with pytest.raises(UserError, match=r"features.0.bias is not part of the net"):
        load_weights(net(variant="x"), checkpoint(path, net()))


def test_a_truncated_file_says_so(tmp_path):
    path = checkpoint(tmp_path / "c.pth.tar", net())
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(
        UserError, match=r"cannot be read as a checkpoint .*run `make data` again|holds more than weights"
    ):
        load_weights(net(), path)


def test_a_pickle_that_executes_code_is_refused_and_not_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/executed",)

    path = tmp_path / "c.pth.tar"
    torch.save({"state_dict": {}, "x": Evil()}, path)
    with pytest.raises(UserError, match="holds more than weights and was not loaded"):
        load_weights(net(), path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("model", ["torchvision_resnet50", "torchvision_inception_v3"])
def test_torchvision_s_own_files_are_plain_state_dicts(tmp_path, model):
    saved, fresh = (build(model, "regular", classes=3).eval() for _ in range(2))
    torch.save(saved.state_dict(), tmp_path / "weights.pth")
    load_weights(fresh, tmp_path / "weights.pth")
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(fresh(x), saved(x)) and fresh(x).shape == (1, 3)


def test_every_file_of_weights_is_in_the_manifest():
    files = manifest()[0]
    assert all({"subset", "paper"} <= set(files[name].scales) for name in FILES.values())
