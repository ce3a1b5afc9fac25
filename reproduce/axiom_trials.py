"""Methods tried on the axioms: the registry's, controls of the measurement beside them, and FullGrad's decomposition."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from reproduce.axiom_subjects import Setting
from reproduce.errors import UserError
from reproduce.tasks import Progress
from xdnn import Method, full_gradient, integrated_gradients
from xdnn.attributions.blur_ig import MAX_SIGMA, blurred
from xdnn.attributions.paths import NOISE_RANGE
from xdnn.logits import target_logits
from xdnn.metrics.axioms import Subject, violations

DECOMPOSITION = "full_gradient"  # input part and bias parts of FullGrad, before they become a map


@dataclass(frozen=True)
class Trial:
    """A method on a subject: axiom -> violation of each input; or the reason why there is none."""

    method: str
    values: dict[str, list[float]]
    reason: str = ""


# --- controls ---------------------------------------------------------------------------------------------------------


def captum_trapezoid(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """captum's IG with its trapezoid, whose weights sum to 1 - 1/n: the setting of MFABA's comparison."""
    from captum.attr import IntegratedGradients

    found = IntegratedGradients(model).attribute(inputs, target=targets, n_steps=50, method="riemann_trapezoid")
    return found.to(inputs.dtype).detach()


def captum_deep_lift(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """DeepLIFT (rescale rule, zero baseline) by captum, right only where each ReLU is a module of its own, used once."""
    from captum.attr import DeepLift

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum announces its hooks at each call
        return DeepLift(model).attribute(inputs, target=targets).detach()


CONTROLS: dict[str, Method] = {  # not methods of the suite: they show that the measurement finds what is known
    "ig_trapezoid_50": Method(
        partial(integrated_gradients, steps=50, quadrature="trapezoid"), 50, "IG, trapezoid (50)", baseline="zero"
    ),
    "ig_captum_trapezoid_50": Method(captum_trapezoid, 50, "IG, captum's trapezoid (50)", baseline="zero"),
    "deep_lift_captum": Method(captum_deep_lift, 1, "DeepLIFT (captum)", baseline="zero"),
}

# --- F_target(x'), the mean over a random x' --------------------------------------------------------------------------

AtBaseline = Callable[[nn.Module, Tensor, Tensor, Tensor, Setting], Tensor]


def _at_zero(net: nn.Module, inputs: Tensor, targets: Tensor, references: Tensor, setting: Setting) -> Tensor:
    return target_logits(net, torch.zeros_like(inputs), targets)


def _at_references(net: nn.Module, inputs: Tensor, targets: Tensor, references: Tensor, setting: Setting) -> Tensor:
    mean: Tensor = net(references).mean(0)
    return mean[targets]


def _at_blurred(net: nn.Module, inputs: Tensor, targets: Tensor, references: Tensor, setting: Setting) -> Tensor:
    widest = torch.tensor([MAX_SIGMA * max(inputs.shape[2:])])
    return target_logits(net, blurred(inputs, widest)[0], targets)


def _at_noise(net: nn.Module, inputs: Tensor, targets: Tensor, references: Tensor, setting: Setting) -> Tensor:
    draws = torch.rand(setting.noise, *inputs.shape[1:], generator=torch.Generator().manual_seed(0))
    noise = (NOISE_RANGE[0] + (NOISE_RANGE[1] - NOISE_RANGE[0]) * draws).to(inputs)
    return _at_references(net, inputs, targets, noise, setting)


BASELINES: dict[str, AtBaseline] = {
    "zero": _at_zero,
    "references": _at_references,
    "blurred": _at_blurred,
    "noise": _at_noise,
}

# --- trials -----------------------------------------------------------------------------------------------------------


def try_methods(
    subject: Subject, references: Tensor, methods: Mapping[str, Method], setting: Setting, progress: Progress
) -> list[Trial]:
    """FullGrad's decomposition, and each method. One that refuses the net says why instead.

    Raises:
        UserError: a method gives NaN or infinity: with it every axiom would read as kept.
    """
    found = [decomposed(subject)]
    for number, (name, method) in enumerate(methods.items(), start=1):
        try:
            measured = tried(name, method, subject, references, setting)
        except (ValueError, TypeError, RuntimeError, AssertionError) as error:  # captum's, too
            found.append(Trial(name, {}, str(error).splitlines()[0]))
        else:
            found.append(Trial(name, {axiom: values.tolist() for axiom, values in measured.items()}))
        progress(number / len(methods))
    return found


def tried(name: str, method: Method, subject: Subject, references: Tensor, setting: Setting) -> dict[str, Tensor]:
    """The violations of each axiom by a method; a stochastic one draws the same numbers at each call."""

    def attribute(net: nn.Module, inputs: Tensor, targets: Tensor, references: Tensor = references) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        attributions = method(net, inputs, targets, references=references, generator=generator)
        if not attributions.isfinite().all():
            raise UserError(f"{name} gives attributions that are NaN or infinite, so no axiom can be tried on it")
        return attributions

    @torch.no_grad()
    def output_at_baseline(net: nn.Module) -> Tensor:
        return BASELINES[str(method.baseline)](net, subject.inputs, subject.targets, references, setting)

    mirrored = partial(attribute, references=(references + references.flip(-1)) / 2)
    return violations(
        attribute,
        subject,
        output_at_baseline if method.baseline in BASELINES else None,
        symmetric=mirrored,
        single=method.baseline in (None, "zero"),
    )


def decomposed(subject: Subject) -> Trial:
    """FullGrad's parts: do they sum to the logit, and how large is the biases' part? Both over the draws' mean |logit|."""
    full = full_gradient(subject.net, subject.inputs, subject.targets)
    with torch.no_grad():
        logits = target_logits(subject.net, subject.inputs, subject.targets)
    size = logits.abs().mean()
    values = {"completeness": (full.total() - logits).abs() / size, "bias_share": full.bias_total().abs() / size}
    return Trial(DECOMPOSITION, {name: value.tolist() for name, value in values.items()})
