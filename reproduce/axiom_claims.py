"""What the papers claim of the axioms, as data: theorems that the code must keep, counterexamples, and MFABA's sentence."""

from collections.abc import Sequence
from functools import partial

import pandas as pd

from reproduce.axiom_rows import COMPLETE, FUNCTIONS_MODEL, IG, MFABA, TOLERANCE
from reproduce.axiom_trials import DECOMPOSITION
from reproduce.claims import Claim, Kind, at_least, at_most, between, select


def of_drawn(rows: pd.DataFrame, methods: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Rows of these methods and metrics on drawn nets, where the metric applies."""
    found = select(rows, dataset="drawn")
    return found[found["method"].isin(methods) & found["metric"].isin(metrics) & (found["n"] > 0)]


def regular_nets(rows: pd.DataFrame) -> pd.DataFrame:
    """The bias parts on regular nets; some of the papers' functions have no constant."""
    found = select(rows, method=DECOMPOSITION, metric="bias_share", variant="regular")
    return found[found["model"] != FUNCTIONS_MODEL]


N_CHOSEN = "enough draws to show rounding, or a violation of a tenth"
_theorem = partial(Claim, kind=Kind.THEOREM, reported="", n_chosen=N_CHOSEN)


def up_to_rounding(id: str, text: str, source: str, metric: str, **where: object) -> tuple[Claim, Claim]:
    """A theorem on drawn nets in float64, and on the scale's nets in float32."""
    drawn, own = (
        _theorem(
            id=f"{id}-{dtype}",
            text=f"{text}, up to {tolerance:g} in {dtype}",
            source=source,
            metric=metric,
            criterion=at_most(tolerance),
            evidence=partial(select, metric=metric, dtype=dtype, **where),
        )
        for dtype, tolerance in TOLERANCE.items()
    )
    return drawn, own


def accounted(id: str, text: str, method: str, share: float, metric: str = "accounted", **where: object) -> Claim:
    """A theorem: the method's attributions sum to this share of F(x) - F(x'), within 1e-6."""
    return _theorem(
        id=id,
        text=text,
        source="torch's ReLU has slope 0 at 0; captum 0.9.0",
        metric=metric,
        criterion=between(share - 1e-6, share + 1e-6),
        evidence=partial(select, method=method, metric=metric, dtype="float64", **where),
    )


def broken_somewhere(id: str, method: str, axiom: str, text: str, source: str) -> Claim:
    """A counterexample that a paper gives: its function is among those that are drawn."""
    return _theorem(
        id=id,
        text=text,
        source=source,
        metric=f"{axiom}_largest",
        criterion=at_least(TOLERANCE["float64"]),
        evidence=partial(select, method=method, metric=f"{axiom}_largest", model=FUNCTIONS_MODEL),
    )


CLAIMS = (
    *up_to_rounding(
        "ig-axioms",
        "Integrated Gradients keeps sensitivity (a), dummy, implementation invariance, linearity and symmetry",
        "IG paper Sec. 2 to 4",
        "largest_violation",
        method=IG,
    ),
    Claim(
        id="ig-completeness",
        text=f"Integrated Gradients is complete: with 128 points its mean gap is at most {100 * COMPLETE:g} %",
        kind=Kind.EMPIRICAL,
        source="IG paper Sec. 5",
        reported="20 to 300 points give 5 %",
        metric="completeness",
        criterion=at_most(COMPLETE),
        evidence=partial(of_drawn, methods=(IG,), metrics=("completeness",)),
        n_chosen=N_CHOSEN,
    ),
    *up_to_rounding(
        "x-gradient-axioms",
        "X-Gradient keeps all six axioms of Integrated Gradients on X-DNNs",
        "X-DNN Cor. 3.4",
        "largest_violation",
        method="x_gradient",
    ),
    *up_to_rounding(
        "x-gradient-homogeneous",
        "On an X-DNN the attributions of X-Gradient scale with the input",
        "follows from X-DNN Def. 3.3",
        "homogeneity",
        method="x_gradient",
        variant="x",
    ),
    *up_to_rounding(
        "ig-homogeneous",
        "On an X-DNN the attributions of Integrated Gradients scale with the input",
        "follows from X-DNN Def. 3.3",
        "homogeneity",
        method=IG,
        variant="x",
    ),
    _theorem(
        id="degree-k",
        text="On a net that is homogeneous of degree k Integrated Gradients is Input x Gradient / k, up to 1e-9",
        source="X-DNN Prop. 3.2",
        metric="distance_from_ig",
        criterion=at_most(1e-9),
        evidence=partial(select, metric="distance_from_ig", variant="x"),
    ),
    broken_somewhere(
        "gradient-breaks-sensitivity",
        "gradient",
        "sensitivity_a",
        "The gradient breaks sensitivity (a): on a saturated function it is 0",
        "IG paper Sec. 2.1",
    ),
    broken_somewhere(
        "deep-lift-breaks-invariance",
        "deep_lift_captum",
        "implementation",
        "DeepLIFT breaks implementation invariance: it tells the IG paper's two equal functions apart",
        "IG paper Sec. 2.2, Fig. 7",
    ),
    Claim(
        id="mfaba-adheres",
        text="MFABA adheres to the axioms: there is no draw in which it breaks sensitivity (a) or implementation invariance",
        kind=Kind.EMPIRICAL,
        source="MFABA, abstract",
        reported="",
        metric="sensitivity_a_broken",
        criterion=at_most(0.0),
        evidence=partial(of_drawn, methods=MFABA, metrics=("sensitivity_a_broken", "implementation_broken")),
        n_chosen="one draw refutes it, and no number of draws confirms it",
    ),
    *up_to_rounding(
        "full-gradient-complete",
        "FullGrad's decomposition sums to the logit",
        "Srinivas & Fleuret 2019",
        "largest_violation",
        method=DECOMPOSITION,
    ),
    _theorem(
        id="x-has-no-bias-part",
        text="FullGrad's bias part is zero on an X-net",
        source="follows from X-DNN Def. 3.5",
        metric="bias_share",
        criterion=at_most(0.0),
        evidence=partial(select, method=DECOMPOSITION, metric="bias_share", variant="x"),
    ),
    _theorem(
        id="regular-has-a-bias-part",
        text="FullGrad's bias part is not zero on a regular net",
        source="follows from X-DNN Def. 3.5",
        metric="bias_share",
        criterion=at_least(TOLERANCE["float32"]),
        evidence=regular_nets,
    ),
    accounted(
        "captum-is-short",
        "captum's trapezoid, whose weights sum to 1 - 1/n, is 2 % short at 50 points of what ours accounts for",
        "ig_captum_trapezoid_50",
        1 - 1 / 50,
        "accounted_ratio",
    ),
    accounted(
        "first-node-trapezoid",
        "At the zero baseline of an X-net the first node has no gradient: the trapezoid of 50 points loses 1/98 of F",
        "ig_trapezoid_50",
        1 - 1 / 98,
        variant="x",
    ),
    accounted(
        "first-node-idgi",
        "At the zero baseline of an X-net the first node has no gradient: IDGI with 128 points loses 1/127 of F",
        "idgi_128",
        1 - 1 / 127,
        variant="x",
    ),
    accounted(
        "no-node-at-zero",
        "Gauss-Legendre has no node at the zero baseline of an X-net and loses nothing of F",
        IG,
        1.0,
        variant="x",
    ),
)
