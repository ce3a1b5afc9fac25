"""The NHANES tables, on small files of the published formats; the study's choices on hand-made values."""

import numpy as np
import pandas as pd
import pytest

from reproduce.datasets import nhanes
from reproduce.errors import UserError
from reproduce.studies import nhanes as study


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
    stems = {column.partition("=")[0] for column in table.columns}
    assert not stems & {nhanes.OUTCOME, *nhanes.LEAKS, *nhanes.LEFT_OUT}
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
        nhanes.verified(x, "0" * 64)
    with pytest.raises(UserError, match="cannot read .*nowhere"):
        nhanes.verified(tmp_path / "nowhere", "0" * 64)


def test_the_papers_table_keeps_gaps_and_reads_numpy_labels(tmp_path):
    x, y = tmp_path / "X.csv", tmp_path / "y.npy"
    pd.DataFrame({"age": [30.0, np.nan] * 150, "sex_is_1": [0, 1] * 150}).to_csv(x)
    np.save(y, np.array([[1.0], [0.0]] * 150))
    table = nhanes.nhanes1(x, y)
    assert table.features.shape == (300, 2) and np.isnan(table.features[1, 0]) and table.labels.tolist()[:2] == [1, 0]
    pd.DataFrame({"age": ["thirty", "forty"] * 150}).to_csv(x)
    with pytest.raises(UserError, match="column 'age' is not numbers"):
        nhanes.nhanes1(x, y)


# --- the study ---


def value(strength, validation, first=0, method="x_gradient"):
    return {
        "method": method,
        "first": first,
        "prior": {"strength": strength},
        "measured": {"validation_auc": validation},
    }


def test_the_strength_with_the_best_mean_validation_is_chosen_over_all_groups():
    values = [value(0.1, [0.75, 0.5]), value(1.0, [0.5, 0.5]), value(0.1, [0.25], 2), value(1.0, [0.5], 2)]
    assert study.best_strength(values) == 0.1  # both means are 0.5: the smaller strength
    assert study.best_strength([*values, value(1.0, [1.0], 3)]) == 1.0


def test_paired_differences_are_by_repetition_and_equal_samples_differ_by_nothing():
    row = study._paired([0.71, 0.74, 0.70, 0.76, 0.73], [0.70, 0.72, 0.69, 0.73, 0.72])
    assert (
        row["value"] == pytest.approx(0.016)
        and row["p_t"] == pytest.approx(0.0161, abs=1e-3)
        and row["p_wilcoxon"] == 0.0625
    )
    same = study._paired([0.7, 0.8], [0.7, 0.8])
    assert same["value"] == 0 and same["p_t"] == same["p_wilcoxon"] == 1


def sweep(differences, level_sem=0.002):
    about = {"dataset": "nhanes1", "metric": "test_auc_difference", "versus": "x_gradient", "grid": "sweep"}
    out = [about | {"references": k, "value": d} for k, d in differences.items()]
    out.append(
        {
            "dataset": "nhanes1",
            "metric": "test_auc",
            "method": "x_gradient",
            "chosen": True,
            "sem": level_sem,
            "value": 0.77,
        }
    )
    return pd.DataFrame(out)


@pytest.mark.parametrize(
    ("differences", "holds"),
    [({1: -0.02, 16: -0.01, 32: -0.001, 64: 0.0}, True), ({1: 0.01, 16: 0.01}, False), ({1: -0.1, 128: -0.1}, False)],
)
def test_thirty_two_references_can_be_confirmed_and_refuted(differences, holds):
    assert study._thirty_two(sweep(differences))[0] is holds


def test_a_sweep_that_ends_too_early_is_not_judged():
    with pytest.raises(study.NotRun, match="no EG with up to 16 references reaches X-Gradient"):
        study._thirty_two(sweep({1: -0.02, 16: -0.01}))
