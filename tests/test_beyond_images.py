"""Words and molecules: what is in the data, that the nets' X-variants are homogeneous, and the study's numbers by hand."""

import numpy as np
import pytest
import torch

from reproduce.claims import Outcome, judge
from reproduce.datasets.beyond_images import AREA_UNIT, ATOM_FEATURES, SOUNDS, molecules, spelled_sounds
from reproduce.models.compact import AtomNet, LetterNet
from reproduce.problems import PROBLEMS, correlation
from reproduce.studies import beyond_images as study
from reproduce.tasks import Result
from reproduce.training import compact
from xdnn import integrated_gradients, is_homogeneous, to_x_variant, x_gradient


def net(name, features, variant="regular"):
    torch.manual_seed(0)
    built = PROBLEMS[name].net(features)
    return (to_x_variant(built) if variant == "x" else built).double().eval()


def test_words_are_spelled_letter_by_letter_and_their_sound_is_marked():
    test, train = spelled_sounds("test"), spelled_sounds("train")
    assert test.targets.bincount().tolist() == [200] * len(SOUNDS) and not set(test.names) & set(train.names)
    for word, letters, truth, target in zip(test.names, test.inputs, test.truth, test.targets.tolist(), strict=True):
        assert "".join("abcdefghijklmnopqrstuvwxyz"[i] for i in letters[: len(word)].argmax(1)) == word
        assert letters.sum() == len(word) and truth.sum() <= 3 and not truth[len(word) :].any()
        if list(SOUNDS)[target] == "TH" and truth.any():
            assert word[truth.int().argmax() :].startswith("th")
    assert test.truth.any(1).float().mean() > 0.8


def test_an_atom_s_parts_sum_to_the_area_that_the_package_s_own_table_has():
    from reproduce.datasets.packages import package_folder

    listed = (package_folder("rdkit") / "Data" / "NCI" / "first_5k.tpsa.csv").read_text().splitlines()[1:]
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        parsed = [(Chem.MolFromSmiles(line.split(",")[0]), float(line.split(",")[1])) for line in listed[:400]]
    areas = {Chem.MolToSmiles(mol): area for mol, area in parsed if mol}
    found = {
        name: AREA_UNIT * float(target)
        for split in ("train", "test")
        for name, target in zip(molecules(split).names, molecules(split).targets, strict=True)
    }
    both = areas.keys() & found.keys()
    close = [abs(areas[name] - found[name]) < 0.1 for name in both]
    assert len(both) > 200 and sum(close) / len(close) > 0.95  # two programs, which differ on a few odd groups


def test_molecules_are_atoms_and_bonds():
    examples = molecules("test")
    atoms, bonds = examples.inputs[..., :ATOM_FEATURES], examples.inputs[..., ATOM_FEATURES:]
    there = atoms.any(-1)
    assert torch.equal(bonds, bonds.transpose(1, 2)) and torch.equal(bonds.diagonal(dim1=1, dim2=2) > 0, there)
    assert not bonds[~there].any() and not examples.truth[~there].any()
    assert not set(examples.names) & set(molecules("train").names)
    blank = examples.baseline()
    assert not blank[..., :ATOM_FEATURES].any() and torch.equal(blank[..., ATOM_FEATURES:], bonds)


@pytest.mark.parametrize("name", PROBLEMS)
def test_x_variants_are_homogeneous_and_their_x_gradient_is_ig(name):
    examples = PROBLEMS[name].load("test")[torch.arange(6)]
    inputs, targets = examples.inputs.double(), PROBLEMS[name].target(examples.targets)
    regular, x = net(name, examples.features), net(name, examples.features, "x")
    assert is_homogeneous(x, inputs) and not is_homogeneous(regular, inputs)
    options = {"baseline": examples.baseline().double(), "steps": 3}
    torch.testing.assert_close(integrated_gradients(x, inputs, targets, **options), x_gradient(x, inputs, targets))
    tokens = examples.tokens(integrated_gradients(regular, inputs, targets, **options | {"steps": 300}))
    change = (regular(inputs) - regular(examples.baseline().double())).gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(tokens.sum(1), change, rtol=0.02, atol=1e-3)


def test_padding_does_not_reach_the_output():
    features = 5
    atom_net = net("nci-molecules", features)
    small = torch.zeros(1, 2, features + 2, dtype=torch.float64)
    small[0, :, 0], small[0, :, features:] = 1, 1
    large = torch.zeros(1, 4, features + 4, dtype=torch.float64)
    large[0, :2, 0], large[0, :2, features : features + 2] = 1, 1
    torch.testing.assert_close(atom_net(small), atom_net(large))
    assert isinstance(atom_net, AtomNet) and isinstance(net("spelled-sounds", 26), LetterNet)


def test_correlation_by_hand():
    truth = torch.tensor([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0], [0.0, 1.0, 2.0]])
    maps = torch.tensor([[5.0, 6.0, 7.0], [2.0, 1.0, 0.0], [3.0, 3.0, 3.0]])
    assert correlation(maps, truth).tolist() == pytest.approx([1.0, -1.0, 0.0])


def test_training_repeats_itself_and_learns():
    examples = spelled_sounds("test")
    problem = PROBLEMS["spelled-sounds"]
    nets = [
        compact.train(lambda: problem.net(26), examples.inputs, examples.targets, problem.loss, seed=s)
        for s in (0, 0, 1)
    ]
    outputs = [n(examples.inputs) for n in nets]
    assert torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[0], outputs[2])
    assert problem.quality(outputs[0], examples.targets).mean() > 60


def test_a_correlation_with_nan_is_nan_and_not_zero():
    assert correlation(torch.tensor([[torch.nan, 1.0, 2.0]]), torch.tensor([[0.0, 1.0, 2.0]])).isnan().all()


# --- the study on made-up trainings ---

TRAININGS, TESTED, EXPLAINED = 3, 200, 40


def results(gap=None, quality=0.0, truth=0.0, deviation=1e-15):
    """Three trainings, tested on the same examples: each example is easy or hard in all of them."""
    rng = np.random.default_rng(0)
    hard, known = rng.normal(size=TESTED), rng.normal(size=EXPLAINED)
    out = []
    for name in PROBLEMS:
        for seed in range(TRAININGS):
            for variant in study.VARIANTS:
                is_x = variant == "x"
                scores = 20 + hard + 0.05 * rng.normal(size=TESTED) + (quality if is_x else 0)
                agreement = 1 + 0.1 * known + 0.001 * rng.normal(size=EXPLAINED) + (truth if is_x else 0)
                gaps = (gap or {"x": 1e-8, "regular": 0.5})[variant] * (1 + 0.01 * rng.normal(size=10))
                value = study.Measurement(
                    scores.tolist(),
                    gaps.tolist(),
                    deviation if is_x else 100.0,
                    {method: agreement.tolist() for method in study.METHODS},
                    {method: torch.zeros(2, 16) for method in study.METHODS},
                    torch.zeros(2, 16),
                    ["word", "other"] if name == "spelled-sounds" else ["CO", "CN"],
                    {},
                )
                out.append(Result(study.Subject(name, variant, seed), value, 1.0, {}))
    return out


def outcomes(**options):
    return {f.claim.id: f.outcome for f in judge(study.STUDY.claims, study.rows(results(**options)))}


def test_the_same_examples_in_three_trainings_are_not_three_times_as_many():
    rows = study.rows(results())
    row = rows[(rows["metric"] == "quality") & (rows["variant"] == "x")].iloc[0]
    assert (row["n"], row["trainings"]) == (TESTED, TRAININGS)
    assert row["high"] - row["low"] > 1.5 * 1.96 / np.sqrt(TESTED)  # pooled it would be 1.15 times that
    paired = rows[rows["metric"] == "quality_difference"].iloc[0]
    assert paired["high"] - paired["low"] < 0.3 * (row["high"] - row["low"])  # what an example is worth cancels
    change = rows[(rows["metric"] == "quality_change")].iloc[0]
    assert change["unit"] == "%" and abs(change["value"] - 100 * paired["value"] / 20) < 0.05


def test_each_claim_can_come_out_either_way():
    assert set(outcomes().values()) == {Outcome.REPRODUCED}
    assert outcomes(gap={"x": 0.01, "regular": 0.5})["x-mard"] == Outcome.NOT_REPRODUCED
    assert outcomes(gap={"x": 1e-8, "regular": 0.1})["regular-mard"] == Outcome.NOT_REPRODUCED
    assert outcomes(deviation=1e-3)["x-homogeneous"] == Outcome.NOT_REPRODUCED
    assert outcomes(quality=-3.0)["accuracy-cost"] == Outcome.NOT_REPRODUCED
    assert outcomes(quality=3.0)["error-cost"] == Outcome.NOT_REPRODUCED
    found = outcomes(truth=-4.0)
    assert found["spelled-sounds-truth"] == found["nci-molecules-truth"] == Outcome.NOT_REPRODUCED


def test_a_table_and_a_figure_are_made():
    rows = study.rows(results())
    shown = study.table(rows)
    assert len(shown) == 4 and not next(c for c in shown.columns if c.heading == "quality").better
    assert study.figure(rows, results())
