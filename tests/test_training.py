import pytest
import torch
from test_studies import blobs

from reproduce.models import build
from reproduce.training.supervised import Diverged, Recipe, _groups, train


def tiny(variant="regular"):
    return build("alexnet", variant, classes=2, width=0.0625, image_px=64)


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_generator_alone():
    images, recipe = blobs("train"), Recipe(1, 1e-3)
    state = torch.get_rng_state()
    first, log = train(tiny, images, recipe, seed=3)
    assert torch.equal(state, torch.get_rng_state())
    again, _ = train(tiny, images, recipe, seed=3)
    other, _ = train(tiny, images, recipe, seed=4)
    for a, b, c in zip(first.parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b) and not torch.equal(a, c)
    assert not first.training and next(first.parameters()).dtype == torch.float32
    assert [set(entry) for entry in log] == [{"epoch", "loss", "train_top1"}]


def test_it_learns_and_reports_progress():
    shares = []
    _, log = train(lambda: tiny("x"), blobs("train"), Recipe(10, 3e-3), seed=0, tick=shares.append)
    assert log[-1]["train_top1"] > 0.95 and log[-1]["loss"] < log[0]["loss"]
    assert shares == sorted(shares)


def test_a_loss_that_is_not_finite_stops_with_the_epoch():
    def broken():
        model = tiny()
        torch.nn.init.constant_(model.classifier[-1].bias, float("nan"))
        return model

    with pytest.raises(Diverged, match="the loss was nan in epoch 1"):
        train(broken, blobs("train"), Recipe(1, 1e-3), seed=0)


def test_fixup_scalars_learn_at_a_tenth_of_the_rate_without_decay():
    model = build("resnet18", "regular", classes=2, width=0.125, image_px=64)
    weights, scalars = _groups(model, Recipe(1, 1.0))
    assert scalars["lr"] == 0.1 and scalars["weight_decay"] == 0.0
    assert all(p.numel() == 1 for p in scalars["params"]) and len(scalars["params"]) == 2 + 8 * 5
    assert len(_groups(build("resnet18", "x", classes=2, width=0.125, image_px=64), Recipe(1, 1.0))) == 1
