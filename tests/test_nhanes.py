"""The NHANES tables, on small files of the published formats; how a prior's strength is chosen, on hand-made values."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from reproduce.claims import Outcome, judge
from reproduce.datasets import nhanes, tables
from reproduce.errors import UserError
from reproduce.prior_comparison import PRIORS, Measurement, best_strength, difference_row, joined, metric_rows
from reproduce.studies import nhanes as study
from reproduce.tasks import Result
from reproduce.training import repetitions


def survey(adults=300):
    """A table with the columns that the recipe names: half ill, some answers missing, one follow-up question."""
    g = np.random.default_rng(0)
    columns = [*nhanes.LEAKS, *nhanes.LEFT_OUT, *nhanes.ODD_CODES]
    table = pd.DataFrame({name: g.integers(1, 9, adults).astype(float) for name in columns})
    table["AgeInYearsAtScreening"] = 20.0 + np.arange(adults) % 60
    table[nhanes.OUTCOME] = np.where(np.arange(adults) % 2, "1", "0")
    table["Gender"] = np.where(np.arange(adults) % 3, "Male", "Female")
    table["Diet"] = pd.Series(["Good", "Fair", "Poor", None] * (adults // 4))
    table["FollowUp"] = pd.Series([1.0] + [np.nan] * (adults - 1))
    table["Zero"] = 5.397605346934028e-79
    return table


def test_the_embedded_table_is_the_one_that_is_described():
    table = nhanes.nhanes2017()
    assert table.features.shape == (5_098, 204) and table.labels.mean() == pytest.approx(0.164, abs=5e-4)
    questions = {column.partition("=")[0] for column in table.columns}
    assert not questions & {nhanes.OUTCOME, *nhanes.LEAKS, *nhanes.LEFT_OUT}
    assert np.nanmax(table.features[:, table.columns.index("OfMealsNotHomePrepared")]) < 100
    assert len(table.fingerprint()) == 64


def test_who_and_what_is_left_out():
    people = survey()
    people.loc[0, nhanes.OUTCOME] = "Borderline"
    people.loc[1, "AgeInYearsAtScreening"] = 19.0
    people.loc[2, "MinutesSedentaryActivity"] = 9999.0
    table = nhanes.adults_with_diabetes(people)
    assert len(table) == 298 and table.labels.tolist()[:3] == [0, 1, 0]
    column = dict(zip(table.columns, table.features.T, strict=True))
    assert "FollowUp" not in column and not set(nhanes.LEAKS) & set(column)
    assert column["Gender=Male"].tolist()[:3] == [1, 0, 1] and "Gender=Female" not in column  # rows 2, 3, 4
    assert (column["Zero"] == 0).all()
    assert np.isnan(column["MinutesSedentaryActivity"][0])
    assert np.isnan(column["Diet=Good"][1]) and column["Diet=Poor"][0] == 1 and column["Diet=Good"][2] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="Glycohemoglobin"), "has no column 'Glycohemoglobin'"),
        (lambda t: t.assign(**{nhanes.OUTCOME: "1"}), r"the labels are \[1\]; ROC-AUC needs both outcomes"),
        (lambda t: t.iloc[:200], "200 rows; the split of the paper .* needs at least 201"),
    ],
)
def test_a_bad_survey_gets_a_sentence(change, message):
    with pytest.raises(UserError, match=message):
        nhanes.adults_with_diabetes(change(survey()))


def shap_files(tmp_path, years, columns=("Age", "Sex")):
    x, y = tmp_path / "X.csv", tmp_path / "y.csv"
    pd.DataFrame({c: np.arange(len(years), dtype=float) for c in columns}).to_csv(x)
    pd.DataFrame({"y": years}).to_csv(y)
    return x, y


def test_survival_becomes_alive_after_ten_years_and_the_lost_are_left_out(tmp_path):
    years = [15.3, 3.0, -12.0, -4.0, 10.0, 9.99] * 50
    table = nhanes.nhanes1_shap(*shap_files(tmp_path, years), "shap", 2)
    assert len(table) == 250 and table.labels.tolist()[:5] == [1, 0, 1, 1, 0]
    assert table.features[:4, 0].tolist() == [0, 1, 2, 4] and table.columns == ("Age", "Sex")


def test_bad_files_of_nhanes_1_get_a_sentence(tmp_path):
    x, y = shap_files(tmp_path, [15.0, 3.0] * 150)
    with pytest.raises(UserError, match="2 columns, the published table has 18"):
        nhanes.nhanes1_shap(x, y, "shap", 18)
    pd.DataFrame({"z": [1.0]}).to_csv(tmp_path / "z.csv")
    with pytest.raises(UserError, match="has no column 'y'"):
        nhanes.nhanes1_shap(x, tmp_path / "z.csv", "shap", 2)
    x.write_text("\n".join(x.read_text().split("\n")[:100]))
    with pytest.raises(UserError, match="99 rows of features and 300 labels"):
        nhanes.nhanes1_shap(x, y, "shap", 2)
    with pytest.raises(UserError, match=r"X.csv is not the published file: sha256 .* get it again"):
        tables.verified(x, "0" * 64)
    with pytest.raises(UserError, match="cannot read .*nowhere"):
        tables.verified(tmp_path / "nowhere", "0" * 64)


def test_the_papers_table_keeps_gaps_and_reads_numpy_labels(tmp_path):
    x, y = tmp_path / "X.csv", tmp_path / "y.npy"
    pd.DataFrame({"age": [30.0, np.nan] * 150, "sex_is_1": [0, 1] * 150}).to_csv(x)
    np.save(y, np.array([[1.0], [0.0]] * 150))
    table = nhanes.nhanes1(x, y)
    assert table.features.shape == (300, 2) and np.isnan(table.features[1, 0]) and table.labels.tolist()[:2] == [1, 0]
    pd.DataFrame({"age": ["thirty", "forty"] * 150}).to_csv(x)
    with pytest.raises(UserError, match="column 'age' is not numbers"):
        nhanes.nhanes1(x, y)


# --- how the study chooses and compares ---


def measured(strength, validation, tested=(0.7,)):
    found = repetitions.Tested(
        list(tested), list(validation), [0.5] * len(tested), [0.5] * len(tested), [1] * len(tested)
    )
    return Measurement(strength, found, [False] * len(tested), {"table": "hash"})


def test_the_strength_with_the_best_mean_validation_is_chosen_over_all_repetitions():
    values = [measured(0.1, [0.75, 0.5]), measured(1.0, [0.5, 0.5]), measured(0.1, [0.25]), measured(1.0, [0.5])]
    assert best_strength(values) == 0.1  # both means are 0.5: the smaller strength
    assert best_strength([*values, measured(1.0, [1.0])]) == 1.0


def test_paired_differences_are_by_repetition_and_equal_samples_differ_by_nothing():
    first, second = measured(1.0, [], [0.71, 0.74, 0.70, 0.76, 0.73]), measured(1.0, [], [0.70, 0.72, 0.69, 0.73, 0.72])
    row = difference_row({"method": "a"}, first, second)
    assert row["value"] == pytest.approx(0.016) and row["method"] == "a" and row["n"] == 5
    assert row["p_t"] == pytest.approx(0.0161, abs=1e-3) and row["p_wilcoxon"] == 0.0625
    same = difference_row({}, first, first)
    assert same["value"] == 0 and same["p_t"] == same["p_wilcoxon"] == 1


def test_parts_of_a_configuration_are_its_repetitions_in_order():
    whole = joined([measured(1.0, [0.5], [0.7]), measured(1.0, [0.6, 0.7], [0.8, 0.9])])
    assert whole.tested.test_auc == [0.7, 0.8, 0.9] and whole.tested.validation_auc == [0.5, 0.6, 0.7]
    assert whole.strength == 1.0 and len(whole.collapsed) == 3


def test_one_collapsed_repetition_moves_the_mean_and_not_the_median():
    found = measured(1.0, [0.7] * 20, [0.7] * 19 + [0.5])
    rows = metric_rows({"method": "a"}, replace(found, collapsed=[False] * 19 + [True]))
    value = {row["metric"]: row for row in rows}
    assert value["test_auc"]["value"] == pytest.approx(0.69) and value["test_auc_median"]["value"] == 0.7
    assert value["collapsed"]["value"] == pytest.approx(5) and 0 < value["collapsed"]["low"] < 5
    assert value["collapsed"]["unit"] == "%" and value["test_auc"]["sem"] == pytest.approx(0.01)


# --- the study, on made-up repetitions ---

REPETITIONS = 20
PAPERS = {"x_gradient": 0.77, "expected_gradients": 0.75, "gradient": 0.71, "rrr": 0.71}
FLAT = dict.fromkeys(PAPERS, 0.7)


def results(values, sweep=None, table="nhanes1"):
    """Each method at two strengths, of which 1 validates best; at 0.3, which is no choice, everything is perfect."""
    out = []
    noise = np.random.default_rng(0).normal(0, 0.004, (len(PRIORS), REPETITIONS))
    for row, (method, prior) in enumerate(PRIORS.items()):
        tested = values.get(method, 0.7) + noise[row]
        grid = {0.1: (0.6, tested - 0.1), 1.0: (0.8, tested)} if prior.attribution else {0.0: (0.7, tested)}
        for strength, (validation, auc) in grid.items():
            out.append(result(table, method, "paper", strength, 1, validation, auc))
    out.append(result(table, "x_gradient", "extension", 0.3, 1, 0.99, np.ones(REPETITIONS)))
    for references, value in (sweep or {}).items():
        tested = value + noise[0]
        out.append(result(table, "expected_gradients", "sweep", 1.0, references, 0.8, tested))
    return out


def result(table, method, grid, strength, references, validation, tested):
    prior = replace(PRIORS[method], strength=strength, references=references)
    about = study.Configuration(table, method, prior, grid, 0, REPETITIONS)
    return Result(about, measured(strength, [validation] * REPETITIONS, tested), 1.0, {})


def outcomes(*arguments, **options):
    return {f.claim.id: f.outcome for f in judge(study.STUDY.claims, study.rows(results(*arguments, **options)))}


def test_what_is_chosen_is_the_best_on_the_papers_grid():
    rows = study.rows(results(PAPERS))
    chosen = rows[rows["chosen"].eq(True) & (rows["metric"] == "test_auc")].set_index("method")
    assert chosen.loc["x_gradient", "strength"] == 1 and chosen.loc["x_gradient", "grid"] == "paper"
    assert chosen.loc["x_gradient", "reported"] == study.REPORTED["x_gradient"] and set(chosen.index) == set(PRIORS)
    pair = study.pairs(rows, "x_gradient", ("unregularised",)).iloc[0]
    assert pair["value"] == pytest.approx(0.07, abs=0.005) and pair["n"] == REPETITIONS
    assert not study.rows(results(PAPERS, table="nhanes2017"))["reported"].notna().any()


def test_the_claims_hold_on_the_papers_numbers_and_fail_where_nothing_helps():
    found = outcomes(PAPERS, {8: 0.75, 64: 0.77})
    assert set(found.values()) == {Outcome.REPRODUCED}
    found = outcomes(FLAT, {8: 0.7, 64: 0.6})
    assert found["x-gradient-prior-helps"] == found["eg-beats-gradients"] == Outcome.NOT_REPRODUCED
    assert found["eg-needs-more-than-few"] == found["eg-reaches-with-many"] == Outcome.NOT_REPRODUCED
    assert outcomes(PAPERS | {"unregularised_no_bias": 0.6})["bias-is-free"] == Outcome.NOT_REPRODUCED
    assert outcomes(PAPERS | {"x_gradient": 0.7})["x-gradient-as-good-as-eg"] == Outcome.NOT_REPRODUCED


def test_without_its_numbers_of_references_the_claim_about_them_is_not_run():
    found = outcomes(PAPERS, {8: 0.75})
    assert found["eg-needs-more-than-few"] == Outcome.REPRODUCED and found["eg-reaches-with-many"] == Outcome.NOT_RUN


def test_the_papers_own_table_decides_where_it_is_there():
    rows = pd.concat([study.rows(results(FLAT, table="nhanes2017")), study.rows(results(PAPERS))])
    assert {f.outcome for f in judge(study.STUDY.claims[:1], rows)} == {Outcome.REPRODUCED}
    assert len(study.table(rows)) > 30 and study.figure(rows, results(FLAT, table="nhanes2017") + results(PAPERS))
