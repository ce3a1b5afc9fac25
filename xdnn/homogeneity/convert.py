"""X-variants: what breaks homogeneity removed, and what is left checked."""

import copy

from torch import nn

from xdnn.homogeneity.batch_norm import BiasFreeBatchNorm
from xdnn.homogeneity.proof import check_homogeneous, refuse_what_hides_layers
from xdnn.homogeneity.rules import LINEAR


def to_x_variant(model: nn.Module) -> nn.Module:
    """X-variant of ``model``: a copy in which every bias is gone and BatchNorm only scales (X-DNN Sec. 3).

    The copy is then traced, and homogeneity of degree 1 is proved operation by operation (``check_homogeneous``): linear
    layers, ReLU-like units, pooling, dropout, reshaping and sums of such signals pass; anything else is refused. A module
    with parameters of its own (not in a child layer) converts itself through a method ``x_variant_()`` that changes it in
    place. The result has to be *trained* (or given released X-weights): the paper does not strip trained nets.

    Raises:
        NotHomogeneousError: an operation that is not homogeneous, named with its path; or a net that cannot be traced.
    """
    refuse_what_hides_layers(model)
    model = copy.deepcopy(model)
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            model = _replace(model, path, BiasFreeBatchNorm(module).train(module.training))
        elif isinstance(module, LINEAR):
            module.register_parameter("bias", None)
        elif hasattr(module, "x_variant_"):
            module.x_variant_()
    check_homogeneous(model)
    return model


def _replace(model: nn.Module, path: str, module: nn.Module) -> nn.Module:
    if not path:
        return module
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)
    return model
