"""DeepLIFT with the rescale rule: captum's, refused where captum's is silently wrong."""

import warnings
from collections import Counter

import torch
from torch import Tensor, fx, nn

from reproduce.attributions.gradients import check_batch

# What captum 0.9.0 has a rule for, and what needs none because it is affine in eval mode.
WITH_RULE = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
AFFINE = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.AvgPool2d,
    nn.AdaptiveAvgPool2d, nn.Flatten, nn.Unflatten, nn.Dropout, nn.Dropout2d, nn.Identity,
)  # fmt: skip
AFFINE_CALLS = {
    "flatten", "view", "reshape", "add", "iadd", "sub", "mul", "truediv", "cat", "mean", "size", "getattr", "getitem", "to",
    "permute", "batch_norm", "squeeze",
}  # fmt: skip


class NotSupportedError(TypeError):
    """DeepLIFT is not defined for this net by captum's rules; the message says where and why."""


def deeplift(model: nn.Module, inputs: Tensor, targets: Tensor, *, baseline: float = 0.0) -> Tensor:
    """DeepLIFT (Shrikumar et al. 2017), rescale rule, captum's implementation; two forward and two backward passes.

    captum replaces the gradient of each nonlinear module. Where a module runs twice, or a nonlinearity is no module of
    a kind it knows, its numbers are wrong, partly without a word (its issue 1082), so the traced net is checked first.

    Args:
        baseline: one value in input units.

    Returns:
        (B, *F). Unit: logits; sums to F(x) - F(baseline), but for captum's max pooling, which misses by up to about
        half a percent of sum|A| where input and baseline have their maxima in different places.

    Raises:
        NotSupportedError: an in-place module, a module that runs more than once, a nonlinearity without a rule, or a net
            that cannot be traced; with the path.
    """
    from captum.attr import DeepLift  # slow to import, and only this method needs it

    check_batch(inputs, targets)
    check_supported(model)
    if not len(inputs):
        return torch.zeros_like(inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum announces its hooks
        result = DeepLift(model).attribute(inputs.detach(), torch.full_like(inputs, baseline), target=targets)
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
    for node in graph.nodes:
        if node.op == "call_module":
            path = str(node.target)
            name, rule = type(modules[path]).__name__, isinstance(modules[path], WITH_RULE)
            if getattr(modules[path], "inplace", False) and rule:
                raise NotSupportedError(f"{path}: {name} works in place, which captum's DeepLIFT refuses")
            if not rule and not isinstance(modules[path], AFFINE):
                raise NotSupportedError(f"{path}: captum's DeepLIFT has no rule for {name}")
            if rule and runs[path] > 1:
                raise NotSupportedError(
                    f"{path}: {name} runs {runs[path]} times in a pass; DeepLIFT needs a module for each"
                )
        elif node.op in ("call_function", "call_method"):
            name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
            if name.rstrip("_") not in AFFINE_CALLS:
                raise NotSupportedError(f"forward calls {name}: captum's DeepLIFT sees modules only")
