"""How far a method is from each axiom on a given net: 0 where it holds, unit-free, one number for each draw."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xdnn.equivalent_networks import Combination, DeadFeatures, Mirrored
from xdnn.logits import check_finite, target_logits
from xdnn.metrics.metric import Metric

Attribute = Callable[[nn.Module, Tensor, Tensor], Tensor]

AXIOMS = {  # name -> what its violation measures
    "sensitivity_a": "share of draws in which the only feature that changed, and with it the output, gets nothing",
    "dummy": "share of |attribution| on features that the net does not depend on",
    "implementation": "distance between the attributions of a net and of an equivalent network",
    "completeness": "|sum - (F(x) - F(x'))| over the draws' mean |F(x) - F(x')|",
    "linearity": "distance between the attribution of aF + bG and a, b times those of F, G",
    "symmetry": "distance between the attribution and its mirror image, net and input being symmetric",
    "homogeneity": "distance between the attribution of a x and a times that of x",
}


@dataclass(frozen=True, eq=False)
class Subject:
    """A net and what the axioms are tried with.

    Attributes:
        net, equivalent: one function, two graphs.
        inputs: (B, *F); ``targets`` (B,).
        alive: (*F) of 0 and 1: the features that the net under test depends on.
        single: (B, *F): inputs that differ from zero in one feature.
        factor: a of a x.
        weights: a and b of aF + bG; F and G are logits of neighbouring classes.
    """

    net: nn.Module
    equivalent: nn.Module
    inputs: Tensor
    targets: Tensor
    alive: Tensor
    single: Tensor
    factor: float
    weights: tuple[float, float]


def violations(
    attribute: Attribute,
    subject: Subject,
    output_at_baseline: Callable[[nn.Module], Tensor] | None,
    *,
    symmetric: Attribute | None = None,
    single: bool = True,
) -> dict[str, Tensor]:
    """Each axiom's violation, (B,) in the inputs' dtype; 7 calls of the method.

    Each input keeps its place in batches of one size: a stochastic method then draws the same for it, and convolutions
    round alike. In float32 a batch of another size can break a tie of a max-pooling the other way, and with it move a map
    by several percent, which no axiom speaks of.

    Beside the axioms, ``accounted``: its mean over the draws is the share of |F(x) - F(x')| that the attributions sum
    to, 1 where they are complete. Errors of either sign average out of it, a rule whose weights are short does not.
    ``change`` is what it is a share of: |F(x) - F(x')| over its mean.

    Args:
        attribute:          the method; a stochastic one draws the same numbers at each call.
        output_at_baseline: net -> F_target(x') (B,), the mean over a random x'; None: completeness is not measured.
        symmetric:          the method with a symmetric baseline, for the symmetry axiom; default ``attribute``.
        single:             whether x' = 0 stands for the method, so that sensitivity (a) can be tried.

    Raises:
        ValueError: an attribution or a change of the output that is not finite.
    """
    attribute, symmetric = _finite(attribute), _finite(symmetric or attribute)
    x, t = subject.inputs, subject.targets
    net, (a, b) = DeadFeatures(subject.net, subject.alive), subject.weights
    own = attribute(net, x, t)
    scaled = attribute(net, subject.factor * x, t)
    following = attribute(net, x, (t + 1) % _classes(net, x))
    combined = attribute(Combination(net, a, b), x, t)
    equivalent = attribute(DeadFeatures(subject.equivalent, subject.alive), x, t)
    seen = symmetric(Mirrored(subject.net), (x + x.flip(-1)) / 2, t)
    found = {
        "dummy": _share(own, 1 - subject.alive),
        "implementation": _distance(own, equivalent),
        "linearity": _distance(a * own + b * following, combined),
        "symmetry": _distance(seen, seen.flip(-1)),
        "homogeneity": _distance(subject.factor * own, scaled),
    }
    if output_at_baseline is not None:
        with torch.no_grad():
            change = target_logits(net, x, t) - output_at_baseline(net)
        check_finite(change, "the change of the output of draw {} is NaN or infinity")
        total = own.flatten(1).sum(1)
        found["completeness"] = (total - change).abs() / change.abs().mean()
        found["accounted"] = total * change.sign() / change.abs().mean()
        found["change"] = change.abs() / change.abs().mean()
    if single:
        found["sensitivity_a"] = unnoticed(net, subject.single, t, attribute(net, subject.single, t))
    return found


def _finite(attribute: Attribute) -> Attribute:
    """The method, refused where it returns NaN or infinity: compared with anything, these would read as no difference."""

    def checked(net: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        attributions = attribute(net, inputs, targets)
        check_finite(attributions, "the attribution of input {} has NaN or infinity")
        return attributions

    return checked


def unnoticed(net: nn.Module, single: Tensor, targets: Tensor, attributions: Tensor) -> Tensor:
    """1 where F(x) differs from F(0), x from 0 in one feature, and that feature's attribution is 0; else 0. (B,).

    IG paper Sec. 2.1, Sensitivity (a). Draws in which F does not change count as 0: the axiom says nothing of them.
    """
    with torch.no_grad():
        change = target_logits(net, single, targets) - target_logits(net, torch.zeros_like(single), targets)
    earned = (attributions * (single != 0)).flatten(1).abs().sum(1)
    return ((change.abs() > 0) & (earned <= 1e-9 * change.abs())).to(single)


def _distance(first: Tensor, second: Tensor) -> Tensor:
    """2 sum|A - B| / (sum|A| + sum|B|) for each draw: relative L1 for small differences, at most 2. (B,)."""
    size = first.abs().flatten(1).sum(1) + second.abs().flatten(1).sum(1)
    return (2 * (first - second).flatten(1).abs().sum(1) / size).where(size != 0, 0.0)


def _share(attributions: Tensor, where: Tensor) -> Tensor:
    size = attributions.abs().flatten(1).sum(1)
    return ((attributions.abs() * where).flatten(1).sum(1) / size).where(size != 0, 0.0)


@torch.no_grad()
def _classes(net: nn.Module, inputs: Tensor) -> int:
    return int(net(inputs[:1]).shape[1])


LABELS = {"sensitivity_a": "sensitivity (a)"}  # of the axioms whose name is not their label
METRICS = {axiom: Metric(LABELS.get(axiom, axiom), "", "lower", "axiom") for axiom in AXIOMS}
