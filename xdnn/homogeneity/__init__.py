"""Nonnegative homogeneity, F(a x) = a F(x) for a >= 0, the one idea of X-DNN: made, proved, measured.

``to_x_variant`` removes what breaks it and ``check_homogeneous`` proves on the traced graph that nothing else does
(X-DNN Def. 3.5); ``is_homogeneous`` measures it (Def. 3.3). On such a net Integrated Gradients with a zero baseline is
Input x Gradient (Prop. 3.2), one backward pass. ``HomogeneousWrapper`` gives any net the property without touching its
weights.
"""

from xdnn.homogeneity.batch_norm import BiasFreeBatchNorm
from xdnn.homogeneity.convert import to_x_variant
from xdnn.homogeneity.errors import NotHomogeneousError
from xdnn.homogeneity.measure import Homogeneity, gradient_change, is_homogeneous
from xdnn.homogeneity.proof import check_homogeneous
from xdnn.homogeneity.wrapper import HomogeneousWrapper, fit_radius

__all__ = [
    "BiasFreeBatchNorm",
    "Homogeneity",
    "HomogeneousWrapper",
    "NotHomogeneousError",
    "check_homogeneous",
    "fit_radius",
    "gradient_change",
    "is_homogeneous",
    "to_x_variant",
]
