"""What a metric is beside its function: its label, its unit, which direction is better and what it is a function of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Better = Literal["higher", "lower"]
Kind = Literal["mask", "masking", "curve", "model", "method", "axiom", "pair", "sum", "spread", "prediction"]


@dataclass(frozen=True)
class Metric:
    """One line of the registry.

    Attributes:
        label:    as tables print it.
        unit:     of the function's values; "" is unit-free.
        better:   "higher" or "lower".
        kind:     what the metric is a function of:

            mask        (maps, masks) -> (B,), against a true mask
            masking     a column of ``masks.mask_metrics``: the model sees parts of an image
            curve       (curves) -> (B,), a field of ``insertion_deletion.Curves``
            model       (model, inputs, targets, attributions) -> (B,), with a generator where it draws: is the model
                        predicted?
            method      (explain, inputs, targets, *, generator) -> (B,): how steady is the method?
            axiom       an entry of ``axioms.violations``
            pair        (reference, other) -> (B,) or a scalar: two attributions of the same images
            sum         (attributions, output_change) -> (B,)
            spread      (sizes) -> (...), over the last axis
            prediction  (logits or scores, targets or labels): no attribution at all

        function: None where one function gives several metrics at once: masking, axiom.
    """

    label: str
    unit: str
    better: Better
    kind: Kind
    function: Callable[..., Tensor] | None = None
