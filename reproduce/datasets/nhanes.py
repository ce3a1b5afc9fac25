"""NHANES tables: people in rows, what was asked and measured in columns, and one yes-or-no outcome.

nhanes1          the paper's own table: NHANES I, 118 columns, alive ten years after the survey (Erion et al. 2021).
nhanes1-shap-18, nhanes1-shap-79
                 NHANES I as the shap project keeps it: 18 measurements, or 79 columns. Same outcome.
nhanes2017       NHANES 2017-2018 from the package nhanes: other people, other questions, *not* NHANES I. Embedded.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from reproduce.datasets.fetch import Store, fetched
from reproduce.datasets.manifest import manifest
from reproduce.datasets.packages import package_folder, versions
from reproduce.datasets.tables import Table, TableSource, checked, verified
from reproduce.errors import UserError

SURVIVAL_YEARS = 10.0


# --- NHANES I ---------------------------------------------------------------------------------------------------------


def nhanes1(x_path: Path, y_path: Path) -> Table:
    """The paper's table as released with its code: X_sparsity.csv (first column an index) and y_sparsity.npy, 1 = alive."""
    return checked("nhanes1", pd.read_csv(x_path, index_col=0), np.load(y_path).ravel())


def nhanes1_shap(x_path: Path, y_path: Path, name: str, columns: int) -> Table:
    """NHANES I of the shap project with the paper's outcome.

    y is years survived, negative where the person was alive when last heard of. 1 = alive ten years after the survey
    (|y| >= 10), 0 = died within ten years (0 < y < 10); people lost from sight before ten years are left out.

    Raises:
        UserError: another number of columns than published, no column y, or what ``checked`` refuses.
    """
    features, years = pd.read_csv(x_path, index_col=0), pd.read_csv(y_path, index_col=0)
    if features.shape[1] != columns:
        raise UserError(f"{x_path}: {features.shape[1]} columns, the published table has {columns}; fetch it again")
    if "y" not in years:
        raise UserError(f"{y_path} has no column 'y' (it has: {', '.join(map(str, years))}); fetch it again")
    if len(features) != len(years):
        raise UserError(f"{name}: {len(features)} rows of features and {len(years)} labels; fetch both files again")
    survived = years["y"].to_numpy(dtype=np.float64)
    known = (survived > 0) | (-survived >= SURVIVAL_YEARS)
    alive = (np.abs(survived) >= SURVIVAL_YEARS).astype(np.int64)
    return checked(name, features[known], alive[known])


# --- NHANES 2017-2018 -------------------------------------------------------------------------------------------------

NHANES2017_SHA256 = "a15a57770c33fc11a22e009ea3be3be65de25822cf093f52a97ed6e160f7bf0f"  # of the TSV in nhanes 0.5.1
OUTCOME = "DoctorToldYouHaveDiabetes"  # 1 yes, 0 no; "Borderline" and unanswered are left out
ADULT_YEARS = 20  # most questions on health are put to adults only
LEAST_ANSWERED = 0.5  # a column that fewer adults answered is a follow-up question, or one to children
# Known, prescribed or asked because of the diagnosis, or what defines it (HbA1c).
LEAKS = (
    "AgeWhenFirstToldYouHadDiabetes",
    "EverToldYouHavePrediabetes",
    "EverToldHaveHealthRiskForDiabetes",
    "FamilyHistory",
    "TakingInsulinNow",
    "TakeDiabeticPillsToLowerBloodSugar",
    "WhatWasYourLastA1CLevel",
    "Glycohemoglobin",
    "OnSpecialDiet",
    "DiabeticDiet",
)
LEFT_OUT = (
    "SEQN",  # the number of the interview
    "RacehispanicOrigin",  # a coarser copy of RacehispanicOriginWNhAsian
    "UsualSleepTimeOnWeekdaysOrWorkdays",  # a clock time; SleepHours... stays
    "UsualWakeTimeOnWeekdaysOrWorkdays",
)
# Answers that are codes: 5555 and 6666 "more than ...", 7777 refused, 9999 don't know. They count as gaps.
ODD_CODES = {
    "OfMealsNotHomePrepared": 5555,
    "OfMealsFromFastFoodOrPizzaPlace": 5555,
    "OfReadytoeatFoodsInPast30Days": 6666,
    "OfFrozenMealspizzaInPast30Days": 6666,
    "MinutesSedentaryActivity": 7777,
    "CurrentSelfreportedHeightInches": 7777,
    "CurrentSelfreportedWeightPounds": 7777,
}
SAS_ZERO = 1e-70  # the transport format writes 0 as 5.4e-79


def nhanes2017() -> Table:
    """Adults of NHANES 2017-2018: has a doctor told you that you have diabetes? Read from the installed package."""
    folder = package_folder("nhanes") / "combined_data" / "2017-2018"
    path = verified(folder / "NHANES_data_2017-2018.tsv", NHANES2017_SHA256)
    return adults_with_diabetes(pd.read_csv(path, sep="\t", low_memory=False))


def adults_with_diabetes(survey: pd.DataFrame) -> Table:
    """The table nhanes2017 from the survey's columns; categories one-hot, a gap in a category a gap in all of its columns.

    Raises:
        UserError: a column that the recipe names is missing.
    """
    needed = [OUTCOME, "AgeInYearsAtScreening", *LEAKS, *LEFT_OUT, *ODD_CODES]
    missing = [column for column in needed if column not in survey]
    if missing:
        raise UserError(f"nhanes2017: the table has no column {missing[0]!r}; is it nhanes 0.5.1's? run `make setup`")
    rows = survey[(survey["AgeInYearsAtScreening"] >= ADULT_YEARS) & survey[OUTCOME].isin(["0", "1"])]
    labels = (rows[OUTCOME] == "1").to_numpy(dtype=np.int64)
    rows = rows.drop(columns=[OUTCOME, *LEAKS, *LEFT_OUT])
    rows = rows.loc[:, rows.notna().mean() >= LEAST_ANSWERED]
    numbers = rows.select_dtypes("number").astype(np.float64)
    numbers = numbers.mask(numbers.abs() < SAS_ZERO, 0.0)
    for column, code in ODD_CODES.items():
        if column in numbers:
            numbers[column] = numbers[column].mask(numbers[column] >= code)
    categories = [_one_hot(rows[column]) for column in rows if column not in numbers]
    return checked("nhanes2017", pd.concat([numbers, *categories], axis=1), labels)


def _one_hot(answers: pd.Series) -> pd.DataFrame:
    """A column per answer; of two answers one column, because the other is its complement."""
    known = sorted(answers.dropna().unique())
    kept = known[1:] if len(known) == 2 else known
    columns = {f"{answers.name}={answer}": (answers == answer).astype(float).where(answers.notna()) for answer in kept}
    return pd.DataFrame(columns, index=answers.index)


# --- entries ----------------------------------------------------------------------------------------------------------


def load_nhanes2017(store: Store) -> Table:
    """The embedded table; it needs no file of the store."""
    return nhanes2017()


def load_files(read: Callable[[Path, Path], Table], files: tuple[str, str], store: Store) -> Table:
    """A table from its verified files, features and labels."""
    x, y = files
    return read(fetched(x, store), fetched(y, store))


def packaged_key(store: Store) -> Mapping[str, str]:
    """The package that it comes in."""
    return versions("nhanes")


def files_key(files: tuple[str, str], store: Store) -> Mapping[str, str]:
    """The hashes that the files are verified against."""
    return {name: manifest()[0][name].hash for name in files}


def _fetched(read: Callable[[Path, Path], Table], about: str, x: str, y: str) -> TableSource:
    return TableSource(partial(load_files, read, (x, y)), partial(files_key, (x, y)), about, (x, y))


TABLES = {
    "nhanes2017": TableSource(
        load_nhanes2017,
        packaged_key,
        "NHANES 2017-2018, not the paper's NHANES I: adults, diabetes told by a doctor",
    ),
    "nhanes1": _fetched(
        nhanes1,
        "the paper's table of NHANES I: alive after ten years",
        "nhanes1/X_sparsity.csv",
        "nhanes1/y_sparsity.npy",
    ),
    "nhanes1-shap-18": _fetched(
        partial(nhanes1_shap, name="nhanes1-shap-18", columns=18),
        "NHANES I, 18 measurements kept by shap: alive after ten years",
        "nhanes1-shap/NHANESI_subset_X.csv",
        "nhanes1-shap/NHANESI_subset_y.csv",
    ),
    "nhanes1-shap-79": _fetched(
        partial(nhanes1_shap, name="nhanes1-shap-79", columns=79),
        "NHANES I, 79 columns kept by shap: alive after ten years",
        "nhanes1-shap/NHANESI_X.csv",
        "nhanes1-shap/NHANESI_y.csv",
    ),
}
