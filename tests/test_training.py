"""Training of small nets: the same bytes for the same seed, divergence, and nets that come through a plugin."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from reproduce import plugins
from reproduce.cache import ResultCache
from reproduce.context import Context
from reproduce.datasets import DATASETS, NETS, smoke
from reproduce.errors import UserError
from reproduce.experiment import Experiment
from reproduce.files import save_atomically
from reproduce.models import MODELS, build
from reproduce.nets import load_net, training_task
from reproduce.plugins import Registry
from reproduce.scales import SCALES, NetGroup
from reproduce.training.recipe import DEFAULT_RECIPE, Recipe
from reproduce.training.supervised import Diverged, _groups, train
from xdnn import is_homogeneous


@pytest.fixture(autouse=True)
def one_thread():
    """Nets of this size gain nothing from a second one, and lose much where other work runs beside it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def context(tmp_path):
    return Context(SCALES["smoke"], ResultCache(tmp_path / "cache", {}), tmp_path / "results")


def images(count=256):
    return smoke.draw(count, torch.Generator().manual_seed(0))


def tiny(variant="regular"):
    return build("alexnet", variant, classes=10, width=0.0625, image_px=32)


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_generator_alone():
    recipe = Recipe(1, 1e-3)
    state = torch.get_rng_state()
    first, log = train(tiny, images(), recipe, seed=3)
    assert torch.equal(state, torch.get_rng_state())
    again, _ = train(tiny, images(), recipe, seed=3)
    other, _ = train(tiny, images(), recipe, seed=4)
    for a, b, c in zip(first.parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b) and not torch.equal(a, c)
    assert not first.training and next(first.parameters()).dtype == torch.float32
    assert [set(entry) for entry in log] == [{"epoch", "loss", "train_top1"}]


def test_it_learns_and_reports_progress():
    shares = []
    _, log = train(lambda: tiny("x"), images(1_024), Recipe(6, 4e-3), seed=0, progress=shares.append)
    assert log[-1]["train_top1"] > 0.5 and log[-1]["loss"] < log[0]["loss"]
    assert shares == [20 / 48, 40 / 48, 1.0]


def test_fewer_images_than_a_batch_are_one_batch():
    _, log = train(tiny, images(50), Recipe(2, 1e-3), seed=0)
    assert len(log) == 2 and log[1]["loss"] < log[0]["loss"]


def test_a_loss_that_is_not_finite_stops_with_the_epoch():
    def broken():
        model = tiny()
        torch.nn.init.constant_(model.classifier[-1].bias, float("nan"))
        return model

    with pytest.raises(Diverged, match="the loss was nan in epoch 1") as stopped:
        train(broken, images(), Recipe(1, 1e-3), seed=0)
    assert isinstance(stopped.value, UserError)


def test_fixup_scalars_learn_at_a_tenth_of_the_rate_without_decay():
    model = build("resnet18", "regular", classes=2, width=0.125, image_px=64)
    weights, scalars = _groups(model, Recipe(1, 1.0))
    assert scalars["lr"] == 0.1 and scalars["weight_decay"] == 0.0
    assert all(p.numel() == 1 for p in scalars["params"]) and len(scalars["params"]) == 2 + 8 * 5
    assert len(_groups(build("resnet18", "x", classes=2, width=0.125, image_px=64), Recipe(1, 1.0))) == 1


# --- as tasks ---


@dataclass(frozen=True)
class Protocol:
    images: int


def loaded(context, net):
    """The trained net, and its log."""
    trained = context.result(training_task(context, net)).value
    return load_net(Experiment(context, net, None, lambda share: None), [trained]), trained.log


def test_the_smoke_scale_s_nets_learn_and_their_x_variants_are_homogeneous(context):
    nets = context.nets({"trained": Protocol(8)})
    assert [(net.model, net.variant) for net, _ in nets] == [
        ("alexnet", "regular"),
        ("alexnet", "x"),
        ("resnet18", "regular"),
        ("resnet18", "x"),
    ]
    test = context.images("smoke-digits")
    for net, _ in nets:
        model, log = loaded(context, net)
        with torch.no_grad():
            right = (model(test.inputs()).argmax(1) == test.targets).float().mean()
        assert right > {"alexnet": 0.35, "resnet18": 0.18}[net.model] and log[-1]["loss"] < log[0]["loss"], net
        assert bool(is_homogeneous(model, test.inputs(slice(0, 4)))) is (net.variant == "x")


def test_the_recipe_is_the_data_set_s_and_part_of_the_key(context, monkeypatch):
    (net, _), *_ = context.nets({"smoke-digits/alexnet": Protocol(8)})
    before = training_task(context, net)
    assert before.protocol == DATASETS["smoke-digits"].recipes["alexnet"] != DEFAULT_RECIPE
    monkeypatch.setitem(DATASETS["smoke-digits"].recipes, "alexnet", Recipe(1, 1e-3))
    assert training_task(context, net).digest != before.digest


NORMED = """
from torch import nn

from reproduce.scales import NetGroup


def normed(classes, width, image_px):
    return nn.Sequential(
        nn.Conv2d(3, 16, 5, 2, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(288, classes),
    )


MODELS = {"normed": normed}
NETS = {"normed": NetGroup("smoke-digits", {"normed": 1.0}, "trained", ("smoke",))}
"""


def test_a_plugin_s_net_with_batch_norm_trains_under_bf16_in_both_variants(context, tmp_path, monkeypatch):
    (tmp_path / "normed.py").write_text(NORMED)
    monkeypatch.setattr(plugins, "LOADED", {})
    monkeypatch.setattr(plugins, "_ADDED", {})
    monkeypatch.setitem(DATASETS["smoke-digits"].recipes, "normed", Recipe(2, 3e-3))
    plugins.load(tmp_path / "normed.py", {"MODELS": Registry(MODELS, Callable), "NETS": Registry(NETS, NetGroup)})
    try:
        nets = [net for net, _ in context.nets({"normed": Protocol(8)})]
        assert [net.variant for net in nets] == ["regular", "x"]
        inputs = context.images("smoke-digits").inputs(slice(0, 4))
        for net in nets:
            model, log = loaded(context, net)
            assert log[-1]["loss"] < log[0]["loss"] and log[-1]["train_top1"] > 0.15
            assert model[1].num_batches_tracked == 2 * 8 and model[1].running_var.dtype == torch.float32
            assert bool(is_homogeneous(model, inputs)) is (net.variant == "x")
    finally:
        del MODELS["normed"], NETS["normed"]


# --- files that are whole ---


def test_a_save_that_fails_leaves_the_file_that_was_there(tmp_path):
    save_atomically({"x": 1}, tmp_path / "file.pt")
    with pytest.raises(AttributeError, match="local object"):
        save_atomically({"x": lambda: None}, tmp_path / "file.pt")
    assert torch.load(tmp_path / "file.pt", weights_only=True) == {"x": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["file.pt"]
    with pytest.raises(UserError, match=r"cannot write to .*nowhere: No such file or directory"):
        save_atomically({}, tmp_path / "nowhere" / "file.pt")
