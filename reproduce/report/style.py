"""How every method, model, variant, data set and path rule is called and drawn, in every table, figure and page.

A name that is not here is printed as it is, in grey: what a plug-in adds needs no line.
"""

import math
import re
from dataclasses import dataclass, replace

from xdnn import METHODS
from xdnn.metrics import METRICS

# Okabe & Ito's palette: told apart by colour-blind readers and in grey. Related methods take shades of one of its colours.
BLUE, ORANGE, GREEN, VERMILION = "#0072b2", "#e69f00", "#009e73", "#d55e00"
SKY, PURPLE, BLACK, GREY = "#56b4e9", "#cc79a7", "#000000", "#888888"
PALE, PALE_BLUE, PALE_VERMILION = "#eeeeee", "#d3e5f3", "#f8cdb5"  # behind words and marks


@dataclass(frozen=True)
class Style:
    """How one name is drawn.

    Attributes:
        label:  what people read.
        color:  of lines, points and bars.
        line:   matplotlib's line style.
        marker: matplotlib's marker.
    """

    label: str
    color: str = GREY
    line: str = "-"
    marker: str = "o"


def method(name: str) -> Style:
    """Of a method, or of what a study sets beside the methods. "integrated_gradients_8" is IG (8), drawn as its family is."""
    found = _METHODS.get(name) or _of_family(name) or _of_version(name) or Style(name)
    return replace(found, label=METHODS[name].label) if name in METHODS else found


def model(name: str) -> Style:
    return _MODELS.get(name) or Style(name)


def variant(name: str) -> Style:
    return _VARIANTS.get(name) or Style(name)


def dataset(name: str) -> Style:
    return _DATASETS.get(name) or Style(name)


def rule(name: str) -> Style:
    """Of a quadrature rule, or of a method that stands beside the rules."""
    return _RULES.get(name) or method(name)


def metric(name: str) -> Style:
    """Of a metric of the library, or of one that a study makes: its words."""
    return Style(METRICS[name].label if name in METRICS else name.replace("_", " "))


def net(model_name: str, dataset_name: str) -> str:
    """A net in words, with its data set where a scale has the architecture on two."""
    label = model(model_name).label
    return label if dataset_name in _UNSAID else f"{label}, {dataset(dataset_name).label}"


def panel(model_name: str, dataset_name: str) -> str:
    """A net over its data set, in two lines: the heading of a panel."""
    return f"{model(model_name).label}\n{dataset(dataset_name).label}"


def text(column: str, value: object) -> str:
    """An id of rows in words: ``column`` says of what."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        return f"{value:g}"
    return _KINDS[column](str(value)).label if column in _KINDS else str(value)


_KINDS = {"method": method, "model": model, "variant": variant, "dataset": dataset, "rule": rule, "metric": metric}

_VARIANTS = {
    "regular": Style("regular", VERMILION, "--", "s"),
    "x": Style("X-variant", BLUE, "-", "o"),
    "wrapped": Style("wrapped", SKY, "-.", "^"),
    "converted": Style("biases removed, fine-tuned", GREEN, ":", "D"),
}
_MODELS = {
    "alexnet": Style("AlexNet", BLUE, "-", "o"),
    "vgg16": Style("VGG16", VERMILION, "-", "s"),
    "resnet50": Style("ResNet-50", GREEN, "-", "^"),
    "resnet18": Style("ResNet-18 (Fixup)", GREEN, "--", "v"),
    "bn_resnet18": Style("ResNet-18 (BatchNorm)", SKY, "--", "<"),
    "efficientnet_lite0": Style("EfficientNet-Lite0", PURPLE, "-", "D"),
    "squeezenet": Style("SqueezeNet 1.1", ORANGE, "-", "X"),
    "torchvision_alexnet": Style("AlexNet (torchvision)", BLUE, "--", "o"),
    "torchvision_vgg16": Style("VGG16 (torchvision)", VERMILION, "--", "s"),
    "torchvision_resnet50": Style("ResNet-50 (torchvision)", GREEN, "--", "^"),
    "torchvision_inception_v3": Style("Inception-v3 (torchvision)", ORANGE, "--", "P"),
    "mlp": Style("MLP", BLACK, "-", "o"),
}
_DATASETS = {
    "digits-on-photos": Style("digits-on-photos", BLUE, "-", "o"),
    "cifar10": Style("CIFAR-10", VERMILION, "-", "s"),
    "open-photographs": Style("open photographs", GREEN, "-", "^"),
    "open-photographs-32px": Style("open photographs of 32 px", GREEN, ":", "v"),
    "imagenet-sample": Style("ImageNet, one photograph per class", GREEN, "--", "D"),
    "imagenet-val": Style("ImageNet validation", GREEN, "-.", "P"),
    "nhanes1": Style("NHANES I", BLACK, "-", "o"),
    "nhanes1-shap-18": Style("NHANES I, 18 columns", BLACK, "--", "s"),
    "nhanes1-shap-79": Style("NHANES I, 79 columns", BLACK, ":", "^"),
    "nhanes2017": Style("NHANES 2017-2018", PURPLE, "-", "D"),
    "sparse-table": Style("made-up tables", SKY, "-", "P"),
    "decoy-mnist": Style("decoy digits", ORANGE, "-", "o"),
    "spelled-sounds": Style("spelled sounds", SKY, "-", "o"),
    "nci-molecules": Style("NCI molecules", SKY, "--", "s"),
}
# No scale has one architecture on two of these, so a net need not say which of them it saw.
_UNSAID = {"digits-on-photos", "open-photographs", "open-photographs-32px", "imagenet-sample", "imagenet-val"}

_RULES = {
    "gauss_legendre": Style("Gauss-Legendre", BLACK, "-", "o"),
    "midpoint": Style("midpoint", SKY, "-", "^"),
    "trapezoid": Style("trapezoid", GREEN, "-", "s"),
    "left_riemann": Style("left Riemann", ORANGE, "-", "<"),
    "right_riemann": Style("right Riemann", VERMILION, "-", ">"),
    "adaptive": Style("as many as needed", BLUE, "-", "D"),
}

# Labels of what xdnn.METHODS has are taken from there.
_METHODS = {
    "random": Style("Random", "#b5b5b5", ":", "x"),
    "gradient": Style("Gradient", ORANGE, "-", "o"),
    "smoothgrad": Style("SmoothGrad", "#a86f00", "-", "v"),
    "full_grad": Style("FullGrad", "#6b4400", "-", "P"),
    "full_gradient": Style("FullGrad's decomposition", "#6b4400", "--", "X"),
    "input_x_gradient": Style("Input x Gradient", SKY, "-", "^"),
    "x_gradient": Style("X-Gradient", BLUE, "-", "s"),
    "wrapped_x_gradient": Style("X-Gradient, own radius", VERMILION, "-", "*"),
    "wrapped_x_gradient_fixed": Style("X-Gradient, fitted radius", VERMILION, "--", "P"),
    "wrapped_x_gradient_mean": Style("X-Gradient, mean of radii", VERMILION, ":", "X"),
    "adaptive_ig": Style("IG, as many steps as needed", GREEN, "-", "D"),
    "deeplift": Style("DeepLIFT", "#003f66", "-", "D"),
    "deep_lift_captum": Style("DeepLIFT (captum)", "#003f66", "--", "d"),
    "ig": Style("IG (50)", BLACK, "-", "h"),
    "ig_trapezoid_50": Style("IG, trapezoid (50)", BLACK, "--", "h"),
    "ig_captum_trapezoid_50": Style("IG, captum's trapezoid (50)", BLACK, ":", "H"),
    "integrated_gradients_noise_128": Style("IG-U (128)", "#4d4d4d", "-.", "d"),
    "idgi_128": Style("IDGI (128)", "#5e3c99", "-", "o"),
    "guided_ig_128": Style("Guided IG (128)", "#8073ac", "-", "s"),
    "blur_ig_128": Style("Blur IG (128)", "#b2abd2", "-", "^"),
    "agi": Style("AGI", "#8f8f00", "-", "D"),
    "big": Style("BIG", GREEN, "-", "s"),
    "mfaba_sharp": Style("MFABA sharp", VERMILION, "-", "o"),
    "mfaba_smooth": Style("MFABA smooth", "#f4a26b", "-", "^"),
    "mfaba_norm": Style("MFABA norm", "#9c3f00", "-", "s"),
    "mfaba_cosine": Style("MFABA cosine", "#5f2600", "-", "D"),
    # how nets are trained: without a prior, with the one of another paper, on images without the shortcut
    "unregularised": Style("Unregularised", "#595959", "-", "o"),
    "unregularised_no_bias": Style("Unregularised, no bias", "#999999", "-", "s"),
    "unregularised_on_support": Style("Unregularised, on what matters", "#595959", ":", "D"),
    "rrr": Style("RRR", "#4c8c1f", "-", "P"),
    "plain": Style("no prior", "#595959", ":", "v"),
    "plain_x": Style("no prior, X-net", "#999999", ":", "<"),
    "honest": Style("no shortcut in training", "#595959", "--", "^"),
    "honest_x": Style("no shortcut, X-net", "#999999", "--", ">"),
}
# Versions of a method: the colour stays.
_VERSIONS = {"described": ":", "corrected": "--"}
_FAMILIES = {
    "integrated_gradients": Style("IG", BLACK, "-", "o"),
    "expected_gradients": Style("EG", PURPLE, "-", "o"),
}
_NUMBERED = re.compile(r"(?P<family>[a-z_]+?)(?:_(?P<count>\d+))?(?P<bf16>_bf16)?")


def _of_family(name: str) -> Style | None:
    """A family's style with its number of points, e.g. IG (8); None where the name is of no family."""
    parts = _NUMBERED.fullmatch(name)
    family = _FAMILIES.get(parts["family"]) if parts else None
    if parts is None or family is None:
        return None
    count = f" ({parts['count']})" if parts["count"] else ""
    return replace(family, label=f"{family.label}{count}{' in bf16' if parts['bf16'] else ''}")


def _of_version(name: str) -> Style | None:
    """The style of a method in another version, e.g. "agi_corrected"; None where the name is none."""
    base, _, version = name.rpartition("_")
    if base not in _METHODS or version not in _VERSIONS:
        return None
    return replace(_METHODS[base], label=f"{_METHODS[base].label}, {version}", line=_VERSIONS[version])
