"""The front door: whatever a model, its inputs and its targets are, a method works or says in a sentence what would."""

import inspect
from types import SimpleNamespace

import pytest
import torch
from conftest import generator, small_cnn
from torch import nn

import xdnn
from xdnn import METHODS, Logits, gradient, integrated_gradients, is_homogeneous, to_x_variant
from xdnn.adapt import Function
from xdnn.metrics.faithfulness import infidelity
from xdnn.metrics.insertion_deletion import insertion_deletion
from xdnn.metrics.masks import mask_metrics
from xdnn.metrics.single_deletion import single_deletion
from xdnn.passes import count_passes

same = torch.testing.assert_close
FUNCTIONS = [
    getattr(xdnn, name)
    for name in xdnn.__all__
    if inspect.isfunction(getattr(xdnn, name)) and "targets" in inspect.signature(getattr(xdnn, name)).parameters
]


class Wrapped(nn.Module):
    """The small net with another kind of output."""

    def __init__(self, answer):
        super().__init__()
        self.net, self.answer = small_cnn(), answer

    def forward(self, x):
        return self.answer(self.net(x))


OUTPUTS = {
    "object with .logits": lambda logits: SimpleNamespace(logits=logits, loss=None),
    "tuple": lambda logits: (logits, "state"),
    "list": lambda logits: [logits],
    "dict with logits": lambda logits: {"loss": 0, "logits": logits},
    "dict with out": lambda logits: {"out": logits, "aux": 0},
    "dict of one": lambda logits: {"scores": logits},
    "nested": lambda logits: ({"logits": logits},),
}


def run(name, model, inputs, targets=None):
    return METHODS[name](model, inputs, targets, references=inputs, generator=generator())


# --- targets ---


@pytest.mark.parametrize("name", METHODS)
def test_targets_are_an_int_a_list_a_tensor_or_what_the_model_predicts(name, x_net, batch):
    inputs, _ = batch
    predicted = x_net(inputs).argmax(1)
    expected = run(name, x_net, inputs, predicted)
    for targets in (None, predicted.tolist(), tuple(predicted.tolist()), predicted.int(), predicted.numpy()):
        same(run(name, x_net, inputs, targets), expected)
    same(run(name, x_net, inputs, 3), run(name, x_net, inputs, torch.full((4,), 3)))


def test_the_predicted_class_costs_a_forward_pass_an_image(net, batch):
    with count_passes(net) as passes:
        gradient(net, batch[0])
    assert (passes.forward, passes.backward) == (8, 4)
    assert gradient(net, batch[0][:0]).shape == (0, 3, 16, 16)


@pytest.mark.parametrize(
    ("targets", "sentence"),
    [
        ([0, 1], r"targets must be \(4,\) for inputs \(4, 3, 16, 16\), got \(2,\)"),
        (torch.eye(4), r"whole numbers, .* got torch.float32 \(4, 4\); of one-hot rows take targets.argmax\(1\)"),
        (1.5, "targets must be whole numbers"),
        (True, "targets must be whole numbers"),
        ("cat", "targets must be a class or one for each input, got 'cat'"),
        (9, r"targets must be in 0..4, got 9..9"),
        (-1, r"targets must be in 0..4, got -1..-1"),
    ],
)
def test_other_targets_get_a_sentence(net, batch, targets, sentence):
    for method in (gradient, integrated_gradients):
        with pytest.raises(ValueError, match=sentence):
            method(net, batch[0], targets)


# --- models ---


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("x_gradient", "deeplift")])
def test_a_plain_function_is_a_model(name, x_net, batch):
    same(run(name, lambda x: x_net(x), *batch), run(name, x_net, *batch))


def test_of_a_plain_function_x_gradient_measures_homogeneity(net, x_net, batch):
    same(xdnn.x_gradient(lambda x: x_net(x), *batch), xdnn.x_gradient(x_net, *batch))
    with pytest.raises(xdnn.NotHomogeneousError, match="not nonnegatively homogeneous"):
        xdnn.x_gradient(lambda x: net(x), *batch)
    assert is_homogeneous(lambda x: x_net(x), batch[0]) and not is_homogeneous(lambda x: net(x), batch[0])
    wrapped = xdnn.HomogeneousWrapper(lambda x: net(x), 3.0)
    same(wrapped(batch[0]), xdnn.HomogeneousWrapper(net, 3.0)(batch[0]))


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize(
    "make", [torch.jit.script, lambda net: torch.jit.trace(net, torch.zeros(1, 3, 16, 16).double())]
)
def test_a_script_module_works_or_is_named(x_net, batch, make):
    scripted = make(x_net)
    for name in METHODS:
        if name in ("full_grad", "deeplift"):
            continue
        same(run(name, scripted, *batch), run(name, x_net, *batch))
    with pytest.raises(TypeError, match="a ScriptModule hides them: give the net that it was made from"):
        xdnn.full_grad(scripted, *batch)
    with pytest.raises(xdnn.NotSupportedError, match="cannot be traced"):
        xdnn.deeplift(scripted, *batch)
    for ask in (to_x_variant, xdnn.check_homogeneous):
        with pytest.raises(xdnn.NotHomogeneousError, match="the net is a ScriptModule, which hides its layers"):
            ask(scripted)
    with (
        pytest.raises(TypeError, match="passes are counted by a hook, and RecursiveScriptModule takes none: .*Logits"),
        count_passes(torch.jit.script(x_net)),
    ):
        pass
    with count_passes(adapted := Logits(scripted)) as passes:
        gradient(adapted, *batch)
    assert passes.backward == 4


def test_what_is_no_model_and_what_hides_its_layers_are_named(net, batch):
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module or a function .*, got str"):
        gradient("resnet50", *batch)
    with pytest.raises(xdnn.NotHomogeneousError, match="the net is of type function, which hides its layers"):
        to_x_variant(lambda x: net(x))
    with (
        pytest.raises(TypeError, match="passes are counted by a hook, and method takes none"),
        count_passes(net.forward),
    ):
        pass


@pytest.mark.parametrize("model", [lambda net: lambda x: net(x.detach()), lambda net: lambda x: net(x).detach()])
def test_a_model_without_a_gradient_is_named(net, batch, model):
    for name in ("gradient", "integrated_gradients_128", "big", "agi"):
        with pytest.raises(ValueError, match="the model's logits have no gradient with respect to its inputs"):
            run(name, model(net), *batch)


# --- outputs ---


@pytest.mark.parametrize("kind", OUTPUTS)
def test_logits_takes_them_from_other_outputs(kind, batch):
    adapted = Logits(Wrapped(OUTPUTS[kind]))
    for name in ("gradient", "integrated_gradients_128", "full_grad", "big_corrected"):
        same(run(name, adapted, *batch), run(name, small_cnn(), *batch))


@pytest.mark.parametrize("name", [name for name in METHODS if name != "random"])
@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (
            "object with .logits",
            "an object of type SimpleNamespace, .*wrap it once, model = xdnn.adapt.Logits.model., which takes its .logits",
        ),
        ("tuple", "a tuple of 2, .*xdnn.adapt.Logits.model., which takes the first of a tuple"),
        ("dict of one", "a dict with 'scores', .*which takes its entry 'logits' or 'out', or the only one"),
    ],
)
def test_other_outputs_are_named_with_the_adapter(name, kind, sentence, batch):
    with pytest.raises(TypeError, match=f"the model returns {sentence}; or say what to take"):
        run(name, Wrapped(OUTPUTS[kind]), *batch)


def test_an_output_without_any_logits_is_named(batch):
    with pytest.raises(TypeError, match="a dict with 'a', 'b', and nothing says what of it the logits are"):
        gradient(Logits(Wrapped(lambda logits: {"a": logits, "b": logits})), *batch)
    with pytest.raises(TypeError, match="an object of type str, and nothing says"):
        gradient(Logits(Wrapped(str)), *batch)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "random"])
def test_a_regression_s_message_speaks_of_the_user_s_batch(name, batch):
    with pytest.raises(
        ValueError, match=r"gives \(B,\) for a batch of inputs \(B, 3, 16, 16\); .*as of a regression, .*adapt.Logits"
    ):
        run(name, Wrapped(lambda logits: logits[:, 0]), *batch)


def test_a_regression_has_one_class(net, batch):
    adapted = Logits(Wrapped(lambda logits: logits[:, 2]))
    assert adapted(batch[0]).shape == (4, 1)
    same(integrated_gradients(adapted, batch[0]), integrated_gradients(net, batch[0], 2))


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (
            lambda logits: logits.flatten(),
            r"gives \(5 B,\) for a batch of inputs \(B, 3, 16, 16\); .*each row of a batch",
        ),
        (lambda logits: logits[:1], r"gives \(1, 5\) .*one input needs a batch too, inputs\[None\]"),
        (lambda logits: logits.sum(), r"gives \(\) for"),
        (
            lambda logits: logits[:, :, None, None],
            r"gives \(B, 5, 1, 1\) .*forward=lambda net, x: net\(x\).flatten\(2\).mean\(2\)",
        ),
    ],
)
def test_outputs_of_another_shape_are_named(batch, answer, sentence):
    with pytest.raises(ValueError, match=sentence):
        gradient(Wrapped(answer), *batch)


def test_metrics_and_measurements_say_the_same(batch):
    inputs, targets = batch
    model, say = Wrapped(OUTPUTS["tuple"]), "a tuple of 2, .*xdnn.adapt.Logits"
    for ask in (
        lambda: mask_metrics(model, inputs, targets, inputs),
        lambda: infidelity(model, inputs, targets, inputs, generator=generator()),
        lambda: single_deletion(model, inputs, targets, inputs),
        lambda: insertion_deletion(model, inputs, inputs),
        lambda: is_homogeneous(model, inputs),
        lambda: xdnn.HomogeneousWrapper(model, 1.0)(inputs),
    ):
        with pytest.raises(TypeError, match=say):
            ask()
    same(
        mask_metrics(lambda x: small_cnn()(x), inputs, targets.tolist(), inputs),
        mask_metrics(small_cnn(), *batch, inputs),
    )


# --- inputs ---


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.layer = nn.Embedding(20, 3), nn.Linear(5, 4)

    def forward(self, ids=None, extra=None, inputs_embeds=None):
        embedded = self.embedding(ids) if inputs_embeds is None else inputs_embeds
        return SimpleNamespace(logits=self.layer(torch.cat([embedded.mean(1), extra], 1)))


def test_embeddings_and_second_inputs_go_through_the_adapter():
    net, ids, extra = TwoInputs().double(), torch.randint(20, (3, 7)), torch.randn(3, 2).double()
    embedded = net.embedding(ids).detach()
    with pytest.raises(ValueError, match=r"got torch.int64: whole numbers such as token ids .*inputs_embeds=x"):
        gradient(net, ids, 1)
    fixed = Logits(net, forward=lambda net, x: net(inputs_embeds=x, extra=extra[:1].expand(len(x), -1)))
    found = integrated_gradients(fixed, embedded, 1)
    change = fixed(embedded) - fixed(torch.zeros_like(embedded))
    same(found.flatten(1).sum(1), change[:, 1])
    joined = torch.cat([embedded.flatten(1), extra], 1)
    both = Logits(net, forward=lambda net, x: net(inputs_embeds=x[:, :21].unflatten(1, (7, 3)), extra=x[:, 21:]))
    assert integrated_gradients(both, joined, 1).shape == (3, 23)
    same(both(joined), net(ids, extra).logits)


@pytest.mark.parametrize(
    ("inputs", "error", "sentence"),
    [
        (
            (torch.zeros(1, 2), torch.zeros(1, 3)),
            TypeError,
            r"got a tuple of 2: join them, .*torch.cat.*xdnn.adapt.Logits",
        ),
        ({"input_ids": torch.zeros(1, 2)}, TypeError, "got a dict with 'input_ids': explain one .*xdnn.adapt.Logits"),
        (torch.zeros(1, 2).numpy(), TypeError, r"inputs must be a tensor \(B, \*F\), got ndarray: torch.from_numpy"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), ValueError, "must be normalised floats, got torch.uint8"),
    ],
)
def test_other_inputs_get_a_sentence(net, inputs, error, sentence):
    for method in (gradient, integrated_gradients):
        with pytest.raises(error, match=sentence):
            method(net, inputs, 0)


# --- names ---


@pytest.mark.parametrize(
    ("method", "name", "sentence"),
    [
        ("integrated_gradients", "target", "has no target=, which is captum's name: here it is targets="),
        ("integrated_gradients", "baselines", "here it is baseline="),
        ("expected_gradients", "baselines", "here it is references="),
        ("integrated_gradients", "n_steps", "here it is steps="),
        ("integrated_gradients", "internal_batch_size", "here it is chunk="),
        ("integrated_gradients", "method", "here it is quadrature="),
        ("smoothgrad", "nt_samples", "here it is samples="),
        ("mfaba", "n_steps", "here it is steps="),
        ("gradient", "n_steps", "and nothing of its kind; it has: targets, create_graph"),
        ("gradient", "additional_forward_args", r"captum's: pass them in xdnn.adapt.Logits\(model, forward="),
        ("integrated_gradients", "setps", "did you mean steps="),
        ("gradient", "quux", "has no quux=; it has: targets, create_graph"),
    ],
)
def test_names_of_captum_are_refused_with_ours(net, batch, method, name, sentence):
    with pytest.raises(TypeError, match=sentence):
        getattr(xdnn, method)(net, batch[0], **{name: 1})


def test_what_a_method_needs_is_named_with_an_example(net, batch):
    with pytest.raises(TypeError, match=r"smoothgrad needs generator=torch.Generator\(\).manual_seed\(0\)"):
        xdnn.smoothgrad(net, *batch)
    with pytest.raises(TypeError, match="generator must be a torch.Generator, got int"):
        xdnn.smoothgrad(net, *batch, generator=0)
    with pytest.raises(TypeError, match=r"expected_gradients needs references=a tensor \(R, \*F\)"):
        METHODS["expected_gradients_1"](net, *batch, generator=generator())


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_every_public_function_of_targets_is_behind_the_front_door(function, net):
    assert inspect.signature(function).parameters["targets"].default is None
    with pytest.raises(TypeError, match="inputs must be one tensor, got a tuple of 2"):
        knobs = {
            name: v
            for name, v in {"generator": generator(), "references": 0}.items()
            if name in inspect.signature(function).parameters
        }
        function(net, (0, 0), **knobs)


def test_a_function_as_a_module_is_in_eval_mode_and_an_adapter_in_its_net_s(net):
    assert not Function(net).training and not Logits(net).training and Logits(net.train()).training
