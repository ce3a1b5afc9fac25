"""The papers' recipes on tiny folders of PNG files: written out, resumed, diverged, converted, in several processes."""

import copy
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from command_line import NET, invoke
from PIL import Image
from torch import nn
from torch.nn import functional as F
from typer.testing import CliRunner

from reproduce.cli import app
from reproduce.errors import UserError
from reproduce.models import build
from reproduce.models.weights import load_weights
from reproduce.process_group import Rank, find_rank
from reproduce.randomness import seed_for
from reproduce.training import checkpoints, imagenet
from reproduce.training.convert import convert, fine_tuning
from reproduce.training.folders import Folders, normalised
from reproduce.training.imagenet import Diverged, Recipe, mix, parameter_groups, recipe_for, train, validate

ROOT = Path(__file__).resolve().parent.parent


def make_folder(root, train=7, val=5, classes=("bright", "dark")):
    """PNG files of 80 x 72 px; the class is the brightness."""
    generator = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for i in range(count):
            label = i % len(classes)
            folder = root / split / classes[label]
            folder.mkdir(parents=True, exist_ok=True)
            pixels = generator.integers(0, 100, (72, 80, 3)) + 150 * (1 - label)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return Folders(root, 64)


@pytest.fixture
def data(tmp_path):
    return make_folder(tmp_path / "data")


@pytest.fixture(autouse=True)
def no_pictures(request, monkeypatch):
    """Drawing takes longer than training here; one test looks at the picture."""
    if "curves" not in request.node.name:
        monkeypatch.setattr(imagenet.figures, "save", lambda figure, path: None)


class Linear64(nn.Module):
    """A float64 net without dropout, so that summing in another order hides nothing."""

    def __init__(self):
        super().__init__()
        self.pool, self.fc = nn.AdaptiveAvgPool2d(4), nn.Linear(48, 2).double()
        with torch.no_grad():
            for p in self.fc.parameters():
                p.copy_(torch.linspace(-0.1, 0.1, p.numel()).view_as(p))

    def forward(self, images):
        return self.fc(self.pool(images.double()).flatten(1))


def test_the_recipes_are_the_authors():
    for model in ("alexnet", "vgg16"):
        recipe = recipe_for(model)
        assert (recipe.learning_rate, recipe.batch, recipe.epochs, recipe.mixup, recipe.fixup) == (
            0.01,
            256,
            100,
            0,
            False,
        )
    recipe = recipe_for("resnet50")
    assert (recipe.learning_rate, recipe.batch, recipe.epochs, recipe.mixup, recipe.fixup) == (0.1, 256, 100, 0.7, True)
    assert [recipe.rate(epoch) for epoch in (0, 29, 30, 59, 60, 90, 99)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 1e-3, 1e-3]
    )
    assert (imagenet.MOMENTUM, imagenet.WEIGHT_DECAY) == (0.9, 1e-4)


def test_fixups_groups_are_told_apart_by_name():
    net = build("resnet50", "regular", classes=2, width=0.125, image_px=64)
    weights, small = parameter_groups(net, Recipe(0.1, batch=512, fixup=True))
    assert weights["initial_lr"] == pytest.approx(0.2)  # in proportion to the batch
    assert small["initial_lr"] == pytest.approx(0.01)  # a tenth, and not in proportion: as released
    assert len(small["params"]) == 16 * 7 + 2 + 1  # 6 biases and a scale per block, two of the net, and fc.bias
    assert len(weights["params"]) + len(small["params"]) == len(list(net.parameters()))
    x_net = build("resnet50", "x", classes=2, width=0.125, image_px=64)
    assert len(parameter_groups(x_net, imagenet.FIXUP)) == 1


def test_vgg_starts_as_the_authors_vgg():
    net = imagenet.initialise_(build("vgg11", "regular", classes=10, width=0.25, image_px=64))
    assert net.classifier[0].weight.std().item() == pytest.approx(0.01, rel=0.02)


def test_mixup_is_a_convex_combination_with_a_beta_weight():
    inputs, targets = torch.randn(6, 3, 2, 2), torch.arange(6)
    assert mix(inputs, targets, 0.0)[2] == 1.0
    mixed, partners, lam = mix(inputs, targets, 0.7)
    assert 0 <= lam <= 1 and sorted(partners.tolist()) == list(range(6))
    torch.testing.assert_close(mixed, lam * inputs + (1 - lam) * inputs[partners])
    drawn = torch.tensor([mix(inputs[:1], targets[:1], 0.7)[2] for _ in range(2_000)])
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.03)
    assert drawn.var().item() == pytest.approx(1 / (4 * (2 * 0.7 + 1)), abs=0.01)  # of Beta(a, a)


def test_training_is_sgd_written_out(data, tmp_path):
    """Each step's gradient by hand, momentum, decay of weights, step schedule, and the smaller last batch kept."""
    recipe = Recipe(0.5, epochs=3, batch=4, decay_epochs=2)
    log = train(model := Linear64(), data, tmp_path / "run", recipe, {}, seed=3)
    by_hand, velocity = Linear64(), None
    for epoch in range(3):
        order = torch.randperm(7, generator=torch.Generator().manual_seed(seed_for(3, "order", epoch))).tolist()
        losses = []
        for batch in (order[:4], order[4:]):
            items = [data.augmented(3)[epoch, i] for i in batch]
            inputs, targets = normalised(torch.stack([x for x, _ in items])), torch.tensor([y for _, y in items])
            loss = F.cross_entropy(by_hand(inputs).float(), targets)
            losses += [loss.item()] * len(batch)
            steps = [
                g + 1e-4 * p
                for g, p in zip(
                    torch.autograd.grad(loss, by_hand.fc.parameters()), by_hand.fc.parameters(), strict=True
                )
            ]
            velocity = steps if velocity is None else [0.9 * v + g for v, g in zip(velocity, steps, strict=True)]
            with torch.no_grad():
                for p, v in zip(by_hand.fc.parameters(), velocity, strict=True):
                    p -= (0.5 if epoch < 2 else 0.05) * v
        assert log[epoch]["train_loss"] == pytest.approx(np.mean(losses), rel=1e-6)
        assert log[epoch]["learning_rate"] == pytest.approx(0.5 if epoch < 2 else 0.05)
    for a, b in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("arch", "recipe"), [("alexnet", Recipe(0.01, 3, 4, 2)), ("resnet18", Recipe(0.1, 3, 4, 2, 0.7, True))]
)
def test_an_interrupted_run_goes_on_bit_by_bit(arch, recipe, data, tmp_path):
    """With dropout (AlexNet) and mixup (Fixup), which draw at random, and momentum."""

    def net():
        torch.manual_seed(0)
        return build(arch, "regular", classes=2, width=0.0625, image_px=64)

    def interrupt(line):
        if line.startswith("[2/3]"):
            raise KeyboardInterrupt

    log = train(whole := net(), data, tmp_path / "whole", recipe, {"arch": arch}, seed=1)
    with pytest.raises(KeyboardInterrupt):
        train(net(), data, tmp_path / "cut", recipe, {"arch": arch}, seed=1, say=interrupt)
    torch.manual_seed(99)  # what else was drawn meanwhile does not matter
    said = []
    log_cut = train(goes_on := net(), data, tmp_path / "cut", recipe, {"arch": arch}, seed=1, say=said.append)
    assert said[0].startswith("going on after epoch 2 of 3") and len(said) == 2
    for (name, a), b in zip(whole.state_dict().items(), goes_on.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    speed = "images_per_second"
    assert [{k: v for k, v in r.items() if k != speed} for r in log] == [
        {k: v for k, v in r.items() if k != speed} for r in log_cut
    ]
    with pytest.raises(UserError, match="holds another run .seed 1, now 2.; name another --out"):
        train(net(), data, tmp_path / "cut", recipe, {"arch": arch}, seed=2)


def test_workers_do_not_change_an_augmentation(data):
    items = data.augmented(0)
    state = torch.get_rng_state()
    first, again, later = items[0, 2][0], items[0, 2][0], items[1, 2][0]
    assert torch.equal(first, again) and not torch.equal(first, later)
    assert torch.equal(state, torch.get_rng_state())
    loader = torch.utils.data.DataLoader(items, batch_sampler=[[(0, 2), (0, 3)]], num_workers=1)
    assert torch.equal(next(iter(loader))[0][0], first)


class TurnsBad(Linear64):
    """Its loss is NaN from the third training pass on."""

    passes = 0

    def forward(self, images):
        self.passes += self.training
        return super().forward(images) * (float("nan") if self.passes > 2 and self.training else 1)


def test_a_loss_that_is_not_finite_stops_and_the_last_good_checkpoint_is_kept(data, tmp_path):
    with pytest.raises(
        Diverged, match=r"the loss was nan at step 2 of epoch 2 .learning rate 0.1.; last.pth.tar keeps epoch 1"
    ):
        train(TurnsBad(), data, tmp_path / "run", Recipe(0.1, epochs=3, batch=4), {})
    kept = torch.load(tmp_path / "run" / "last.pth.tar", weights_only=True)
    assert kept["epoch"] == 1 and all(torch.isfinite(w).all() for w in kept["state_dict"].values())
    assert not list((tmp_path / "run").glob("*.tmp"))


def test_a_run_leaves_curves_and_the_best_net_in_the_released_layout(data, tmp_path):
    log = train(Linear64(), data, out := tmp_path / "run", Recipe(0.5, epochs=4, batch=4), {"arch": "linear"})
    rows = pd.read_csv(out / "curves.csv")
    assert {"epoch", "learning_rate", "train_loss", "train_top1", "val_loss", "val_top1", "val_top5"} <= set(
        rows
    ) and len(rows) == 4
    assert (out / "curves.png").stat().st_size > 0 and (out / "curves.pdf").stat().st_size > 0
    best = load_weights(Linear64(), out / "best.pth.tar")
    assert validate(best, data, torch.device("cpu"))["val_top1"] == max(row["val_top1"] for row in log)
    assert set(torch.load(out / "best.pth.tar", weights_only=True)["state_dict"]) == {
        "module.fc.weight",
        "module.fc.bias",
    }


def test_validation_is_the_mean_over_all_images_for_any_number_of_shares(data):
    net = Linear64().eval()
    images = data.validation()
    logits = net(images.inputs())
    whole = validate(net, data, torch.device("cpu"))
    assert whole["val_loss"] == pytest.approx(F.cross_entropy(logits, images.targets).item(), rel=1e-6)
    assert whole["val_top1"] == pytest.approx(100 * (logits.argmax(1) == images.targets).double().mean().item())
    shares = [validate(net, data, torch.device("cpu"), Rank(r, 3)) for r in range(3)]  # no group: each sums its own
    assert sum(share["val_loss"] for share in shares) == pytest.approx(whole["val_loss"], rel=1e-12)


def test_folders_that_cannot_be_trained_on_are_named(tmp_path):
    with pytest.raises(UserError, match=r"train is not a folder of classes .*expected .*\{train,val\}/<class>/<image>"):
        _ = Folders(tmp_path).classes
    data = make_folder(tmp_path)
    (tmp_path / "val" / "dark").rename(tmp_path / "val" / "dusk")
    with pytest.raises(UserError, match="train and val differ in 2 classes, such as dark, dusk"):
        _ = data.val


def test_a_trained_net_becomes_an_x_net_in_one_command(data, tmp_path):
    torch.manual_seed(0)
    trained = build("alexnet", "regular", classes=2, width=0.0625, image_px=64)
    for parameter in trained.parameters():
        nn.init.normal_(parameter, std=0.1)
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "net.pth")
    before = copy.deepcopy(trained.state_dict())
    size = ["--image-px", "64", "--width", "0.0625", "--epochs", "2", "--batch", "4"]
    how = ["--workers", "0", "--threads", "1"]
    where = ["--data", str(data.root), "--out", str(tmp_path / "x")]
    result = CliRunner().invoke(app, ["convert", str(tmp_path / "net.pth"), "--arch", "alexnet", *where, *size, *how])
    assert result.exit_code == 0, result.output
    rows = pd.read_csv(tmp_path / "x" / "convert.csv").set_index("net")
    assert list(rows.index) == ["regular", "biases removed", "fine-tuned"]
    assert (
        rows.loc["regular", "mard_percent"]
        > 1
        > 0.01
        > rows.loc[["biases removed", "fine-tuned"], "mard_percent"].max()
    )
    assert (
        rows.loc["regular", "deviation"] > 1e-2 > 1e-4 > rows.loc[["biases removed", "fine-tuned"], "deviation"].max()
    )
    assert rows.loc["fine-tuned", "val_loss"] != rows.loc["biases removed", "val_loss"]
    x_net = load_weights(build("alexnet", "x", classes=2, width=0.0625, image_px=64), tmp_path / "x" / "best.pth.tar")
    assert not any("bias" in name for name in x_net.state_dict())
    assert all(torch.equal(before[name], tensor) for name, tensor in trained.state_dict().items())


def test_fine_tuning_is_a_tenth_of_the_recipe_with_two_steps():
    recipe = fine_tuning(recipe_for("resnet50"), 9)
    assert recipe.learning_rate == pytest.approx(0.01) and recipe.mixup == 0.7
    assert [recipe.rate(e) for e in range(9)] == pytest.approx([1] * 3 + [0.1] * 3 + [0.01] * 3)


def test_a_net_that_has_no_x_variant_is_refused_before_training(data, tmp_path):
    with pytest.raises(TypeError, match="GELU"):
        convert(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 2), nn.GELU()), data, tmp_path, Recipe(0.1), {})


# --- several processes ---

PROGRAM = """
import os, sys, torch
from pathlib import Path
sys.path.insert(0, "tests")
torch.set_num_threads(1)
import test_imagenet_training as t
t.imagenet.figures.save = lambda figure, path: None
from reproduce.process_group import find_rank, group

def work(number, count, port, root, die):
    os.environ |= {"RANK": str(number), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    net = t.Linear64()
    def say(line):
        if die and number == count - 1:
            os._exit(9)
    rank = find_rank()
    with group(rank, torch.device("cpu")):
        log = t.train(net, t.Folders(Path(root) / "data", 64), Path(root) / f"run{count}", t.Recipe(0.5, 3, 5, 2), {},
                      seed=3, rank=rank, say=say)
    torch.save({"net": net.state_dict(), "log": log}, Path(root) / f"{count}-{number}.pt")

root, die, *ports = sys.argv[1:]
for count, port in zip((2, 3), ports):
    children = []
    for number in range(count):
        child = os.fork()  # before anything is computed, so that torch is imported once
        if child == 0:
            try:
                work(number, count, port, root, die == "die")
                os._exit(0)
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", flush=True)
                os._exit(1)
        children.append(child)
    print(count, [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children], flush=True)
"""


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(s.getsockname()[1]) for s in sockets]
    for s in sockets:
        s.close()
    return ports


def launch(root, *words):
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(root), *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)


def test_two_and_three_processes_train_the_same_net_as_one(tmp_path):
    """Seven images in batches of five: shares of 3 + 2, then the last batch leaves the third process without an image."""
    data = make_folder(tmp_path / "data")
    log = train(alone := Linear64(), data, tmp_path / "run1", Recipe(0.5, 3, 5, 2), {}, seed=3)
    done = launch(tmp_path, "live", *free_ports(2))
    assert "2 [0, 0]" in done.stdout and "3 [0, 0, 0]" in done.stdout, done.stdout + done.stderr
    for count in (2, 3):
        for number in range(count):
            found = torch.load(tmp_path / f"{count}-{number}.pt", weights_only=True)
            for a, b in zip(found["net"].values(), alone.state_dict().values(), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)
            for row, expected in zip(found["log"], log, strict=True):
                assert row["train_top1"] == expected["train_top1"] and row["val_top1"] == expected["val_top1"]
                assert row["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-6)
    kept = torch.load(tmp_path / "run3" / "last.pth.tar", weights_only=True)["epoch"]
    assert kept == 3


def test_when_a_process_dies_the_others_stop_with_a_sentence_and_the_checkpoint_stays(tmp_path):
    make_folder(tmp_path / "data")
    done = launch(tmp_path, "die", *free_ports(1))
    assert "UserError: another process of this run has ended; the last checkpoint is kept" in done.stdout, (
        done.stdout + done.stderr
    )
    assert "2 [1, 9]" in done.stdout
    assert torch.load(tmp_path / "run2" / "last.pth.tar", weights_only=True)["epoch"] == 1


def test_the_process_is_found_under_torchrun_and_alone():
    torchrun = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
    assert find_rank(torchrun) == Rank(5, 8, 1, 4) and find_rank(torchrun).device("cuda") == "cuda:1"
    assert not find_rank(torchrun).first and find_rank(torchrun).device("cpu") == "cpu"
    array = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "8"}  # jobs that do not know of each other
    assert find_rank(array) == Rank() and find_rank({}) == Rank() and find_rank({}).device("cuda") == "cuda"


# --- nets of the user's ---


def command(name, folder, *words):
    """`train` or `convert` on the made folder, one epoch."""
    (folder / "net.py").write_text(NET)
    settings = ("--data", folder / "data", "--out", folder / "out", "--image-px", 64, "--epochs", 1, "--workers", 0)
    return invoke(name, *words, *settings, "--threads", 1)


def test_train_takes_a_net_of_a_file_and_gives_it_the_classes_of_the_folder(data, tmp_path):
    command("train", tmp_path, f"{tmp_path / 'net.py'}:tiny", "--variant", "x")
    saved = torch.load(tmp_path / "out" / checkpoints.BEST, weights_only=True)
    assert saved["state_dict"]["module.4.weight"].shape == (2, 16) and "module.4.bias" not in saved["state_dict"]
    assert saved["about"]["recipe"]["fixup"] is False


def test_convert_takes_a_net_of_a_file_with_what_it_loads_or_with_weights_in_any_wrapper(data, tmp_path):
    arch = ("--arch", f"{tmp_path / 'net.py'}:tiny")
    output = command("convert", tmp_path, *arch).output
    assert "`biases removed` is the trained net just after it lost its biases" in output and "fine-tuned" in output
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 2))
    torch.save({"model": {f"module.{name}": t for name, t in net.state_dict().items()}}, tmp_path / "w.pt")
    shutil.rmtree(tmp_path / "out")
    assert "took 'module.' off the names of w.pt" in command("convert", tmp_path, tmp_path / "w.pt", *arch).output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "net.py:tiny", "--width", "0.5"), "--width is of the nets of `list`"),
        (("train", "torchvision:resnet19"), "unknown torchvision model 'resnet19'"),
        (("convert", "--arch", "torchvision:squeezenet1_1"), "torchvision:squeezenet1_1 has random weights: name a checkpoint"),
        (("convert", "--arch", "alexnet"), "alexnet has random weights"),
        (("convert", "--arch", "FILE:gelu"), "has no X-variant: "),
    ],
)  # fmt: skip
def test_train_and_convert_say_what_does_not_fit(data, tmp_path, words, message):
    (tmp_path / "gelu.py").write_text(
        "from torch import nn\ngelu = lambda: nn.Sequential(nn.Flatten(), nn.GELU(), nn.Linear(12288, 2))"
    )
    words = [word.replace("FILE", str(tmp_path / "gelu.py")) for word in words]
    with pytest.raises(UserError, match=message):
        command(words[0], tmp_path, *words[1:])
