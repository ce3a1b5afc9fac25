"""Checkpoints laid out as the released ones: DataParallel names under ``state_dict``, for all six nets."""

import os
import pickle

import pytest
import torch

from reproduce.datasets.manifest import manifest
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


class Evil:
    """Unpickled, it makes a file."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.system, (f"touch {self.folder}/executed",)


HOSTILE = {  # name -> (how the file is made, what the sentence says)
    "truncated": (lambda path: truncate(checkpoint(path, net())), "is not a checkpoint, or a damaged one"),
    "empty": (lambda path: path.write_bytes(b""), "is not a checkpoint, or a damaged one"),
    "text": (lambda path: path.write_text("hello this is text\n" * 10), "is not a checkpoint, or a damaged one"),
    "json": (lambda path: path.write_text('{"a": 1}'), "is not a checkpoint, or a damaged one"),
    "noise": (lambda path: path.write_bytes(b"\x80\x02" + bytes(range(50))), "is not a checkpoint, or a damaged one"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps(Evil(path.parent))), "is not a checkpoint, or a damaged one"),
    "code": (
        lambda path: torch.save({"state_dict": {}, "x": Evil(path.parent)}, path),
        r"besides weights it holds (posix|nt).system, which could run code; save the net's state_dict alone",
    ),
    "whole net": (
        lambda path: torch.save(torch.nn.Linear(2, 2), path),
        "besides weights it holds torch.nn.modules.linear.Linear, which could run code",
    ),
}


def truncate(path):
    path.write_bytes(path.read_bytes()[:2000])


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_checkpoint_gets_a_sentence_is_not_executed_and_not_advised_to_load(tmp_path, name):
    make, sentence = HOSTILE[name]
    make(tmp_path / "c.pth.tar")
    with pytest.raises(UserError, match=rf"c\.pth\.tar .*{sentence}") as refused:
        load_weights(net(), tmp_path / "c.pth.tar")
    said = str(refused.value)
    assert not any(word in said.lower() for word in ("weights_only", "trust", "arbitrary", "\n", "file an issue"))
    assert not (tmp_path / "executed").exists()


def test_a_file_that_is_not_there_says_so(tmp_path):
    with pytest.raises(UserError, match=r"none.pth cannot be read: No such file"):
        load_weights(net(), tmp_path / "none.pth")


# --- BatchNorm's counter of batches: files from before torch 0.4.1 have none ---


def test_a_checkpoint_without_batch_norm_s_counters_gives_the_same_net(tmp_path):
    def built(seed):
        torch.manual_seed(seed)
        return build("torchvision_resnet50", "regular", classes=3).eval()

    saved, fresh = built(0), built(1)
    for module in saved.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    old = {name: tensor for name, tensor in saved.state_dict().items() if not name.endswith("num_batches_tracked")}
    assert len(saved.state_dict()) - len(old) == 53
    torch.save(old, tmp_path / "old.pth")
    load_weights(fresh, tmp_path / "old.pth")
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(fresh(x), saved(x))
    torch.save({name: t for name, t in old.items() if not name.endswith("running_mean")}, tmp_path / "no-means.pth")
    with pytest.raises(UserError, match=r"53 differences, such as bn1.running_mean is missing"):
        load_weights(fresh, tmp_path / "no-means.pth")


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
