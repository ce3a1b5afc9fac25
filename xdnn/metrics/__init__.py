"""What is measured of attributions and predictions: pure functions of tensors, and of a model where they ask one.

Each metric's docstring says its unit, its range and which direction is better; METRICS says it for tables and figures.
A metric is added by a function and a line in the METRICS of its file.
"""

from xdnn.metrics.metric import Metric
from xdnn.registry import discover

__all__ = ["METRICS", "Metric"]

METRICS: dict[str, Metric] = discover(__name__, "METRICS")
