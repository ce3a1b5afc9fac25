"""Which layers and operations are homogeneous of degree 1, and in which of their operands.

A value in a net's graph is of one of two kinds. A *signal* is multiplied by a where the input is multiplied by a > 0. A
*constant* does not change: a number, a size, a parameter, a comparison that does not see the scale. The tables say which
operands must be signals, so that the result is one, and which must be constants.
"""

from collections.abc import Mapping
from enum import Enum

from torch import nn

from xdnn.homogeneity.batch_norm import BiasFreeBatchNorm
from xdnn.homogeneity.wrapper import HomogeneousWrapper

# --- layers ---

OWN_LAYERS = (BiasFreeBatchNorm, HomogeneousWrapper)  # by construction, whatever is inside
LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
HOMOGENEOUS = (
    *OWN_LAYERS,
    *(nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.Identity, nn.Flatten, nn.Unflatten),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    *(nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.PixelShuffle, nn.ChannelShuffle),
)
ADVICE = {
    "ReLU6": "it clips at 6: replace it by ReLU and retrain",
    "Hardtanh": "it clips: replace it by ReLU and retrain",
    "LayerNorm": "it divides by a statistic of its input",
    "GroupNorm": "it divides by a statistic of its input",
}

# --- operations ---


class Operand(Enum):
    """What an operand must be, and the complaint where it is not."""

    SIGNAL = "is {}, which does not scale with the input"
    SIGNAL_OR_ZERO = "is {}, which is not 0 and does not scale with the input"
    CONSTANT = "depends on the input ({}), so the result is not of degree 1"
    ABSENT = "is {}, where there must be none"
    FALSE = "is {}, where it must be False"


SIGNAL, SIGNAL_OR_ZERO, CONSTANT, ABSENT, FALSE = Operand
# Name of an operand -> what it must be, in the order of positions. What is not named must be a constant.
Rule = Mapping[str, Operand]

OF_ONE: Rule = {"input": SIGNAL}
_OF_TWO: Rule = {"input": SIGNAL, "other": SIGNAL}
_SUM: Rule = {"input": SIGNAL_OR_ZERO, "other": SIGNAL_OR_ZERO}
_SCALED: Rule = {"input": SIGNAL, "other": CONSTANT}
_SCALES: Rule = {"input": CONSTANT, "other": SIGNAL}
_JOINED: Rule = {"tensors": SIGNAL}  # each of them
_LAYER: Rule = {"input": SIGNAL, "weight": CONSTANT, "bias": ABSENT}
_DROPOUT: Rule = {"input": SIGNAL, "p": CONSTANT, "training": FALSE}  # torch's default drops units in eval mode too
_MAX_POOL: Rule = {
    "input": SIGNAL,
    **dict.fromkeys(("kernel_size", "stride", "padding", "dilation", "ceil_mode"), CONSTANT),
    "return_indices": ABSENT,
}

# Operations whose result is a signal if the operands keep one of the rules.
SIGNAL_RESULTS: dict[str, tuple[Rule, ...]] = {
    **dict.fromkeys(("add", "sub"), (_SUM,)),
    **dict.fromkeys(("mul", "matmul"), (_SCALED, _SCALES)),
    "truediv": (_SCALED,),
    "div": ({**_SCALED, "rounding_mode": ABSENT},),
    **dict.fromkeys(("linear", "conv1d", "conv2d"), (_LAYER,)),
    **dict.fromkeys(("cat", "concat", "stack"), (_JOINED,)),
    **dict.fromkeys(("maximum", "minimum"), (_OF_TWO,)),
    "where": ({"condition": CONSTANT, "input": SIGNAL_OR_ZERO, "other": SIGNAL_OR_ZERO},),
    **dict.fromkeys(("relu", "leaky_relu", "neg", "abs"), (OF_ONE,)),
    "prelu": ({"input": SIGNAL, "weight": CONSTANT},),
    **dict.fromkeys(("dropout", "dropout2d"), (_DROPOUT,)),
    **dict.fromkeys(("max_pool1d", "max_pool2d", "max_pool3d"), (_MAX_POOL,)),
    "adaptive_max_pool2d": ({"input": SIGNAL, "output_size": CONSTANT, "return_indices": ABSENT},),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d", "avg_pool3d"), (OF_ONE,)),
    **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"), (OF_ONE,)),
    **dict.fromkeys(("mean", "sum", "amax", "amin"), (OF_ONE,)),
    "pad": ({"input": SIGNAL, "pad": CONSTANT, "mode": CONSTANT, "value": ABSENT},),
    "interpolate": (OF_ONE,),
    **dict.fromkeys(("flatten", "unflatten", "reshape", "view", "permute", "transpose"), (OF_ONE,)),
    **dict.fromkeys(("squeeze", "unsqueeze", "contiguous", "chunk", "split", "getitem", "expand", "repeat"), (OF_ONE,)),
    **dict.fromkeys(("to", "float", "double", "clone", "detach"), (OF_ONE,)),
}
# Operations whose result is a constant: a comparison of signals with each other or with 0 does not see the scale.
CONSTANT_RESULTS: dict[str, tuple[Rule, ...]] = {
    **dict.fromkeys(("size", "dim", "numel"), (OF_ONE,)),
    **dict.fromkeys(("gt", "ge", "lt", "le", "eq", "ne"), (_SUM,)),
}
RULES = SIGNAL_RESULTS | CONSTANT_RESULTS
# What they change must be a signal before as well: as a constant it would be taken for one afterwards.
IN_PLACE = {
    **{f"{name}_": name for name in ("add", "sub", "mul", "div", "relu", "leaky_relu", "dropout")},
    **{"iadd": "add", "isub": "sub", "imul": "mul", "itruediv": "truediv"},
}
CONSTANT_ATTRIBUTES = ("shape", "ndim", "dtype", "device")  # of a tensor that is a signal
