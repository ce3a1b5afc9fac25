"""The judges of table2 and ground-truth on made-up scores: each claim can come out either way."""

import pytest
import torch
from conftest import generator

from reproduce.attributions import METHODS
from reproduce.metrics import localisation
from reproduce.studies import ground_truth, table2
from reproduce.studies.maps import IG, count_for, judged
from reproduce.studies.study import NotRun

NET = {"model": "alexnet", "dataset": "blobs", "width": 1.0, "weights": "trained", "seed": 0}
BEST = torch.tensor([9.0, 1.0, 30.0, 1.0, 9.0, 5.0])  # KPM, KNM, KAM, RPM, RNM, RAM
POOR = torch.tensor([5.0, 5.0, 20.0, 5.0, 5.0, 10.0])


def scored(variant: str, model: str = "alexnet", **better: torch.Tensor) -> dict:
    """A cell's value: every method POOR unless said otherwise, with a little noise over 40 images."""
    noise = 0.1 * torch.randn(40, 6, generator=generator())
    scores = {
        name: (better.get(name, POOR) + noise + 0.01 * torch.randn(40, 6, generator=generator(i)))[
            : count_for(name, variant, 40)
        ]
        for i, name in enumerate(judged(variant))
    }
    hits = {"top1": [True, False], "top1_contrast": [False, False]}
    return {"net": NET | {"variant": variant, "model": model}, "scores": scores, "distance": [0.0, 1e-5], "hits": hits}


def verdicts(*values: dict) -> list[bool | None]:
    rows, found = table2.rows(list(values)), []
    for claim in table2.STUDY.claims:
        try:
            found.append(claim.judge(rows)[0])
        except NotRun:
            found.append(None)
    return found


def test_every_method_that_is_judged_is_defined_on_its_net():
    assert judged("regular") == ["random", "gradient", "expected_gradients_1", "input_x_gradient", IG]
    assert judged("x") == judged("wrapped") == ["random", "gradient", "expected_gradients_1", "x_gradient", IG]
    assert all(name in METHODS for name in judged("x"))
    counts = [
        count_for(name, v, 41)
        for name, v in ((IG, "x"), (IG, "regular"), ("gradient", "x"), ("random", "x"), ("idgi_128", "x"))
    ]
    assert counts == [9, 41, 41, 9, 1]


def test_the_papers_table_would_confirm_its_claims():
    gradient = POOR.clone()
    gradient[5] = 4.0  # the best RAM
    found = verdicts(
        scored("regular", **{IG: BEST}),
        scored("x", **{IG: BEST, "x_gradient": BEST, "gradient": gradient}),
        scored("wrapped", **{IG: BEST, "x_gradient": BEST}),
    )
    assert found == [True, True, None, True, None, True, True, True]


def test_other_scores_refute_them():
    found = verdicts(scored("regular"), scored("x", **{IG: BEST}), scored("wrapped"))
    assert found[0] is False  # X-Gradient and IG differ
    assert found[1] is False and found[3] is False  # nothing beats the rivals
    assert found[5] is False
    better = verdicts(scored("regular", **{IG: BEST}), scored("wrapped"))
    assert better[7] is False  # the wrapped net's attribution is worse


def test_a_difference_is_paired_and_has_the_right_sign():
    rows = table2.rows([scored("x", x_gradient=BEST)])
    row = rows[(rows["method"] == "x_gradient") & (rows["against"] == "gradient") & (rows["metric"] == "kpm")].iloc[0]
    assert row["value"] == pytest.approx(4, abs=0.01) and row["high"] - row["low"] < 0.02 and row["n"] == 40
    ig = rows[(rows["method"] == IG) & (rows["against"] == "") & (rows["metric"] == "kpm")].iloc[0]
    assert ig["n"] == 8


def against_truth(variant: str, best: str, level: float) -> dict:
    """Every metric at ``level`` for ``best`` and at 0.2 for the rest; the mask metrics prefer Gradient."""
    truth, noise = {}, 0.01 * torch.randn(40, generator=generator())
    for name in judged(variant):
        for metric in localisation.METRICS:
            for view in ground_truth.VIEWS:
                truth[f"{view} {name} {metric}"] = (level if name == best else 0.2) + noise
    flat = {name: torch.ones(3) for name in judged(variant)}
    means = {name: BEST if name == "gradient" else POOR for name in judged(variant)}
    return {"net": NET | {"variant": variant}, "truth": truth, "gaps": flat, "infidelity": flat, "sensitivity": flat,
            "mask_means": means}  # fmt: skip


@pytest.mark.parametrize("level, holds", [(0.5, True), (0.3, False)])
def test_an_x_net_that_finds_less_is_said_to(level, holds):
    rows = ground_truth.rows([against_truth("regular", IG, 0.4), against_truth("x", "x_gradient", level)])
    assert ground_truth.STUDY.claims[0].judge(rows)[0] is holds
    assert ground_truth.STUDY.claims[1].judge(rows)[0] is True  # Input x Gradient of the regular net is at 0.2


def test_the_two_judges_are_compared_net_by_net():
    rows = ground_truth.rows([against_truth("regular", "gradient", 0.4), against_truth("x", "x_gradient", 0.4)])
    holds, words = ground_truth.STUDY.claims[2].judge(rows)
    assert not holds and words == "the same on 1 of 2 nets; AlexNet X-variant: Gradient and X-Gradient"
    ranks = rows[(rows["metric"] == "mask_rank") & (rows["variant"] == "x")].set_index("method")["value"]
    assert ranks["gradient"] == 1 and IG not in ranks
