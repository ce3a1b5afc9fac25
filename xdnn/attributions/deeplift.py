"""DeepLIFT with the rescale rule: captum's, refused where captum's is silently wrong."""

import warnings
from collections import Counter

import torch
from torch import Tensor, fx, nn

from xdnn.arguments import checks_arguments
from xdnn.attributions.method import Method
from xdnn.logits import checked_logits

# What captum 0.9.0 has a rule for, and what needs none because it is affine in eval mode.
WITH_RULE = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
AFFINE = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
    *(nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Unflatten, nn.Dropout, nn.Dropout2d, nn.Identity),
)
AFFINE_CALLS = (
    *("flatten", "view", "reshape", "permute", "squeeze", "getitem", "to", "cat"),
    *("add", "iadd", "sub", "mean", "batch_norm"),
)
PRODUCTS = ("mul", "truediv")  # affine where the other factor, and what divides, does not depend on the input
SIZES = ("size", "getattr")  # do not depend on the input's values


class NotSupportedError(TypeError):
    """DeepLIFT is not defined for this net by captum's rules; the message says where and why."""


@checks_arguments
def deeplift(model: nn.Module, inputs: Tensor, targets: Tensor, *, baseline: float = 0.0) -> Tensor:
    """DeepLIFT (Shrikumar et al. 2017), rescale rule, captum's implementation; two forward and two backward passes.

    captum replaces the gradient of each nonlinear module. Where a module runs twice, or a nonlinearity is no module of
    a kind it knows, its numbers are wrong, partly without a word (its issue 1082), so the traced net is checked first.

    Args:
        baseline: one value in input units.

    Returns:
        (B, *F). Unit: logits; sums to F(x) - F(baseline). Not so behind max pooling: where input and baseline have their
        maxima in different places captum's rule misses the sum, by as much as the net makes of that difference.

    Raises:
        ImportError: captum, which this method alone needs, is not installed.
        NotSupportedError: an in-place module, a module that runs more than once, a nonlinearity without a rule, a product
            or quotient of two signals, or a net that cannot be traced; with the path.
    """
    try:
        check_supported(model)
    except NotSupportedError:
        checked_logits(model, inputs[:1], targets[:1])  # an output that does not fit is the first thing to say
        raise
    try:
        from captum.attr import DeepLift  # slow to import, and only this method needs it
    except ImportError as error:
        raise ImportError(
            "deeplift runs captum's implementation, which is not installed: pip install captum"
        ) from error
    if not len(inputs):
        return torch.zeros_like(inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum announces its hooks
        try:
            result = DeepLift(model).attribute(inputs.detach(), torch.full_like(inputs, baseline), target=targets)
        except (AttributeError, TypeError, IndexError, AssertionError, RuntimeError):
            checked_logits(model, inputs[:1], targets[:1])  # as above
            raise
    return result.detach()


def check_supported(model: nn.Module) -> None:
    """Raises NotSupportedError where captum's DeepLIFT would be wrong for ``model`` in eval mode; see ``deeplift``."""
    try:
        graph = fx.Tracer().trace(model)
    except Exception as error:  # tracing runs the user's forward with proxies: it may fail in any way
        raise NotSupportedError(
            f"{type(model).__name__} cannot be traced ({error}), so its functions cannot be seen"
        ) from error
    modules = dict(model.named_modules())
    runs = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    signals: set[fx.Node] = set()  # what depends on the input's values
    for node in graph.nodes:
        if node.op == "call_module":
            path = str(node.target)
            _check_module(path, modules[path], runs[path])
        elif node.op in ("call_function", "call_method"):
            name = _check_call(node, signals)
            if name in SIZES:
                continue
        if node.op == "placeholder" or not signals.isdisjoint(node.all_input_nodes):
            signals.add(node)


def _check_module(path: str, module: nn.Module, runs: int) -> None:
    name, rule = type(module).__name__, isinstance(module, WITH_RULE)
    if getattr(module, "inplace", False) and rule:
        raise NotSupportedError(f"{path}: {name} works in place, which captum's DeepLIFT refuses")
    if not rule and not isinstance(module, AFFINE):
        raise NotSupportedError(f"{path}: captum's DeepLIFT has no rule for {name}")
    if rule and runs > 1:
        raise NotSupportedError(f"{path}: {name} runs {runs} times in a pass; DeepLIFT needs a module for each")


def _check_call(node: fx.Node, signals: set[fx.Node]) -> str:
    """The name of an affine call."""
    called = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    name = called.rstrip("_")
    if name in PRODUCTS:
        first, second = (operand in signals for operand in node.args[:2])
        if second and (first or name == "truediv"):
            what = "multiplies two signals" if name == "mul" else "divides by a signal"
            raise NotSupportedError(f"forward {what} ({called}), which captum's DeepLIFT does not see")
    elif name not in (*AFFINE_CALLS, *SIZES):
        raise NotSupportedError(f"forward calls {called}: captum's DeepLIFT sees modules only")
    return name


METHODS: dict[str, Method] = {"deeplift": Method(deeplift, 2, "DeepLIFT", order=30)}
