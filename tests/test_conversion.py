"""A trained net without its biases: layer by layer, and taught by the net that it was."""

from dataclasses import replace

import pytest
import torch
from conftest import generator
from torch import nn

from reproduce.cache import ResultCache
from reproduce.claims import Outcome, judge
from reproduce.context import Context
from reproduce.datasets.images import Images
from reproduce.errors import UserError
from reproduce.experiment import Experiment
from reproduce.nets import Net, conversion_task, load_net
from reproduce.scales import SCALES
from reproduce.studies import STUDIES, conversion
from reproduce.studies.conversion import Measurement, Stage
from reproduce.tasks import Result, in_order, no_progress
from reproduce.training.distill import distill, divergence
from reproduce.training.recipe import Distillation
from xdnn import is_homogeneous, to_x_variant

close = torch.testing.assert_close
NET = Net("squeezenet", "regular", "open-photographs", 1.0, "package", 0)


@pytest.fixture
def images():
    pixels = torch.randint(256, (12, 3, 16, 16), generator=generator(), dtype=torch.uint8)
    return Images(pixels, torch.arange(12) % 5, (0.5,) * 3, (0.3,) * 3, classes=5)


# --- distillation ---


def test_the_divergence_is_its_definition():
    teacher, student = torch.randn(2, 4, 5, generator=generator(), dtype=torch.float64)
    p, q = teacher.softmax(1), student.softmax(1)
    close(divergence(teacher, student), (p * (p.log() - q.log())).sum(1))
    close(divergence(teacher, teacher + 3), torch.zeros(4, dtype=torch.float64), atol=1e-12, rtol=0)


def test_a_student_comes_nearer_to_its_teacher_and_stays_homogeneous(net, images):
    net = net.float()
    student = to_x_variant(net)
    before = divergence(net(images.inputs()), student(images.inputs())).mean().item()
    recipe = Distillation(taught=12, steps=60, batch=8, learning_rate=5e-3, jitter=2)
    first = distill(student, net, images, recipe, generator())
    after = divergence(net(images.inputs()), first(images.inputs())).mean().item()
    assert first is student and not first.training and after < 0.7 * before
    assert is_homogeneous(first, images.inputs())
    again = distill(to_x_variant(net), net, images, recipe, generator())
    assert torch.equal(again[0].weight, first[0].weight)


# --- stripping ---


def test_the_first_layers_lose_their_biases_and_nothing_else(net):
    layers = conversion.layers_with_bias(net)
    assert len(layers) == 4
    two = conversion.stripped(net, 2)
    biased = [layer.bias is not None for layer in two.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert biased == [False, False, True, True]
    assert all(layer.bias is not None for layer in layers)  # the original is as it was
    own, weights = two.state_dict(), net.state_dict()
    assert all(torch.equal(own[name], weights[name]) for name in own)
    bare = conversion.stripped(net, 4).state_dict()
    assert bare.keys() == to_x_variant(net).state_dict().keys()


def test_a_stage_says_what_the_net_predicts_and_how_far_it_is_from_the_original(net, images):
    net = net.float()
    protocol = conversion.Protocol(12, compared=3, ig_steps=4)
    bare = conversion.stripped(net, 4)
    found = conversion.stage(net, images, protocol, torch.device("cpu"), "stripped", 4, bare)
    logits = bare(images.inputs())
    assert torch.equal(found.best[:, 0], logits.argmax(1)) and found.best.shape == (12, 5)
    close(torch.tensor(found.divergence), divergence(net(images.inputs()), logits).detach(), rtol=1e-4, atol=1e-6)
    assert len(found.distance) == 3 and max(found.distance) < 1e-4
    part = conversion.stage(net, images, protocol, torch.device("cpu"), "stripped", 2, conversion.stripped(net, 2))
    assert part.distance == []  # only where the answer is known, or the original's


# --- the converted nets of all studies ---


def test_a_converted_net_is_fine_tuned_and_not_measured_on_what_it_has_learnt_from(tmp_path):
    context = Context(SCALES["smoke"], ResultCache(tmp_path, {}), tmp_path)
    photographs = replace(NET, dataset="smoke-digits-1000")
    task = conversion_task(context, photographs)
    there, recipe = len(context.images(photographs.dataset)), task.protocol
    everything = {"smoke-squeezenet": conversion.Protocol(images=10_000)}
    counts = {net.variant: protocol.images for net, protocol in context.nets(everything)}
    assert counts == {"regular": there, "wrapped": there, "converted": there - recipe.taught}

    found = context.result(task).value.weights
    bare = to_x_variant(context.untrained(photographs)).state_dict()
    assert found.keys() == bare.keys() and not any(torch.equal(found[name], bare[name]) for name in bare)
    for study in ("table2", "idsds", "conversion"):
        needs = [t for t in in_order(STUDIES[study].at(context)) if t.about == task.about and t.name == task.name]
        assert [t.digest for t in needs] == [task.digest]


def test_a_converted_net_has_the_weights_that_were_made(tmp_path):
    context = Context(SCALES["smoke"], ResultCache(tmp_path, {}), tmp_path)
    trained = context.result(conversion_task(context, replace(NET, dataset="smoke-digits-1000")))
    experiment = Experiment(context, trained.about, None, no_progress)
    loaded = load_net(experiment, [trained.value]).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in trained.value.weights.items())


def test_a_data_set_without_a_recipe_converts_nothing(tmp_path):
    context = Context(SCALES["smoke"], ResultCache(tmp_path, {}), tmp_path)
    with pytest.raises(UserError, match="nets of imagenet-val are not converted"):
        conversion_task(context, replace(NET, dataset="imagenet-val"))


# --- rows and claims ---

COUNT, UNSEEN = 60, 30


def result(net: Net = NET, *, kept: int = COUNT, wrong: int = 0, tuned: float = 0.05, distance: float = 0.0) -> Result:
    """The stripped net keeps the class of ``kept`` images among the five likeliest, and is wrong where the original is right for
    ``wrong``; the fine-tuned one is ``tuned`` away."""
    targets = torch.arange(COUNT) % 5
    original = torch.stack([targets, *((targets + k) % 10 for k in range(1, 5))], 1)
    stripped = original.clone()
    stripped[kept:] = 90 + torch.arange(5)
    stripped[:wrong] = 90 + torch.arange(5)
    noise = 0.01 * torch.rand(COUNT, generator=generator())
    stages = [
        Stage("original", 0, original, [0.0] * COUNT, [0.4] * 6),
        Stage("stripped", 3, original, (0.05 + noise).tolist(), []),
        Stage("stripped", 6, stripped, (0.1 + noise).tolist(), [distance] * 6),
        Stage("fine_tuned", 6, original, (tuned + noise).tolist(), [0.0] * 6),
    ]
    return Result(net, Measurement(stages, targets.tolist(), UNSEEN), 1.0, {})


def outcomes(*results: Result) -> dict[str, Outcome]:
    return {f.claim.id: f.outcome for f in judge(conversion.STUDY.claims, conversion.rows(results))}


def value(rows, **where):
    for column, wanted in where.items():
        rows = rows[rows[column] == wanted]
    assert len(rows) == 1
    return rows.iloc[0]


def test_a_net_that_loses_nothing_confirms_every_claim():
    assert set(outcomes(result()).values()) == {Outcome.REPRODUCED}


@pytest.mark.parametrize(
    "claim, changes",
    [
        ("converted-exact", {"distance": 0.01}),
        ("predictions-stay", {"kept": 40}),
        ("stripping-cost", {"wrong": 25}),
        ("few-images-help", {"tuned": 0.2}),
    ],
)
def test_one_that_loses_refutes_it(claim, changes):
    assert outcomes(result(**changes))[claim] is Outcome.NOT_REPRODUCED


def test_the_fine_tuned_net_is_measured_on_what_it_did_not_see():
    rows = conversion.rows([result(kept=45)])
    assert set(rows[rows["stage"] == "fine_tuned"].query("metric == 'top1'")["seen"]) == {"unseen"}
    assert value(rows, stage="stripped", layers=6, metric="same5", seen="all")["value"] == 75
    assert value(rows, stage="stripped", layers=6, metric="same5", seen="unseen")["value"] == 100
    assert value(rows, stage="fine_tuned", metric="same1", seen="unseen")["n"] == UNSEEN
    change = value(rows, stage="fine_tuned", against="stripped", metric="divergence_change")
    assert change["value"] == pytest.approx(-0.05)
    assert rows[(rows["layers"] == 3) & (rows["seen"] == "unseen")].empty


def test_nets_trained_here_are_tested_on_all_images():
    trained = result(replace(NET, model="alexnet", dataset="digits-on-photos", weights="trained"))
    trained = replace(trained, value=replace(trained.value, unseen=COUNT))
    rows = conversion.rows([trained])
    tuned = rows[(rows["stage"] == "fine_tuned") & (rows["metric"] == "top1")]
    assert tuned["n"].tolist() == [COUNT, COUNT]
    assert outcomes(trained)["predictions-stay"] is Outcome.NOT_RUN


def test_table_and_figure_are_drawn():
    results = [result()]
    rows = conversion.rows(results)
    assert len(conversion.table(rows)) == 3 + 3 and len(conversion.figure(rows, results).axes) == 2
