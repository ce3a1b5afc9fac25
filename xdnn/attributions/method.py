"""What a method is beside its function: how tables print it, what it costs and what it needs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from xdnn.adapt import as_module
from xdnn.arguments import Targets, as_targets, check_inputs
from xdnn.logits import Model

Baseline = Literal["zero", "references", "noise", "blurred"]


@dataclass(frozen=True)
class Method:
    """An entry of METHODS.

    Attributes:
        attribute:  called as ``attribute(model, inputs, targets)``; with ``references=`` and ``generator=`` where it
                    needs them.
        passes:     forward and backward passes per image; None where they depend on the image, to be counted as run.
        label:      as tables and figures print it.
        references: does it draw reference images?
        stochastic: does it need a generator?
        needs_x:    is it defined on nonnegatively homogeneous nets only?
        baseline:   the input x' whose output the sum of the attributions is counted from, F(x) - F(x'); None where the
                    method claims no sum:

            zero        0 in each entry
            references  each of ``references``; the sum is that of their mean output
            noise       ``paths.NOISE_RANGE`` in each entry; the mean over its draws
            blurred     ``inputs`` under the widest blur of ``blur_ig``

        ties_batch_mates: does an image's attribution depend on the other images of its batch?
        order:      its place in METHODS.
    """

    attribute: Callable[..., Tensor]
    passes: int | None
    label: str
    references: bool = False
    stochastic: bool = False
    needs_x: bool = False
    baseline: Baseline | None = None
    ties_batch_mates: bool = False
    order: int = 1000

    def __call__(
        self,
        model: Model,
        inputs: Tensor,
        targets: Targets = None,
        *,
        references: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Run with what the method takes of ``references`` (R, *F) and ``generator``; the rest is ignored.

        Model and targets may be whatever ``xdnn.arguments`` understands, whether or not the method does.
        """
        model = as_module(model)
        if not isinstance(targets, Tensor):
            check_inputs(inputs)
            targets = as_targets(model, inputs, targets)
        extra: dict[str, object] = {}
        if self.references:
            extra["references"] = references
        if self.stochastic:
            extra["generator"] = generator
        return self.attribute(model, inputs, targets, **extra)
