"""NHANES tables: people in rows, what was asked and measured in columns, and one yes-or-no outcome.

    nhanes1          the paper's own table: NHANES I, 118 columns, alive ten years after the survey (Erion et al. 2021).
    nhanes1-shap-18, nhanes1-shap-79
                     NHANES I as the shap project keeps it: 18 measurements, or 79 columns. Same outcome.
    nhanes2017       NHANES 2017-2018 from the package nhanes: other people, other questions, *not* NHANES I. Embedded.

Gaps stay NaN: what is put in their place is fitted on the training rows of each repetition, so it is no part of the data.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from reproduce.datasets.fetch import Store, fetched, manifest
from reproduce.datasets.packages import package_folder
from reproduce.errors import UserError

LEAST_ROWS = 201  # 100 to train on, 100 to validate on, and somebody to test on
SURVIVAL_YEARS = 10.0


@dataclass(frozen=True, eq=False)
class Table:
    """A data set of rows.

    Attributes:
        features: (n, d) float32, NaN where nothing was recorded
        labels: (n,) int64, 0 or 1
        columns: d names
    """

    name: str
    features: np.ndarray
    labels: np.ndarray
    columns: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def fingerprint(self) -> str:
        """sha256 of labels and features: what provenance calls the data."""
        return hashlib.sha256(self.labels.tobytes() + np.ascontiguousarray(self.features).tobytes()).hexdigest()


def checked(name: str, features: pd.DataFrame, labels: np.ndarray) -> Table:
    """A Table, refused where it cannot be split into training, validation and test rows with both outcomes.

    Raises:
        UserError: rows and labels do not match, too few rows, one outcome only, a column that is not numbers.
    """
    if len(features) != len(labels):
        raise UserError(f"{name}: {len(features)} rows of features and {len(labels)} labels; fetch both files again")
    if len(labels) < LEAST_ROWS:
        raise UserError(
            f"{name}: {len(labels)} rows; the split of the paper (100, 100, rest) needs at least {LEAST_ROWS}"
        )
    found = np.unique(labels)
    if found.tolist() != [0, 1]:
        raise UserError(
            f"{name}: the labels are {found.tolist()}; ROC-AUC needs both outcomes, 0 and 1, and nothing else"
        )
    words = [column for column in features if not pd.api.types.is_numeric_dtype(features[column])]
    if words:
        raise UserError(
            f"{name}: column {words[0]!r} is not numbers; the file is not the published one, fetch it again"
        )
    values = features.to_numpy(dtype=np.float32)
    return Table(name, values, labels.astype(np.int64), tuple(map(str, features.columns)))


def verified(path: Path, sha256: str) -> Path:
    """The path, after comparing the file's hash.

    Raises:
        UserError: the file is not there, or other bytes than the published ones (cut short, changed).
    """
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if found != sha256:
        raise UserError(
            f"{path} is not the published file: sha256 {found[:12]}..., expected {sha256[:12]}...; get it again"
        )
    return path


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
NHANES2017_RECIPE = 1  # raise when a choice below changes
OUTCOME = "DoctorToldYouHaveDiabetes"  # 1 yes, 0 no; "Borderline" and unanswered are left out
ADULT_YEARS = 20  # most questions on health are put to adults only
LEAST_ANSWERED = 0.5  # a column that fewer adults answered is a follow-up question, or one to children
LEAKS = (  # known, prescribed or asked because of the diagnosis, or what defines it (HbA1c)
    "AgeWhenFirstToldYouHadDiabetes", "EverToldYouHavePrediabetes", "EverToldHaveHealthRiskForDiabetes", "FamilyHistory",
    "TakingInsulinNow", "TakeDiabeticPillsToLowerBloodSugar", "WhatWasYourLastA1CLevel", "Glycohemoglobin",
    "OnSpecialDiet", "DiabeticDiet",
)  # fmt: skip
LEFT_OUT = (
    "SEQN",  # the number of the interview
    "RacehispanicOrigin",  # a coarser copy of RacehispanicOriginWNhAsian
    "UsualSleepTimeOnWeekdaysOrWorkdays", "UsualWakeTimeOnWeekdaysOrWorkdays",  # clock times; SleepHours... stays
)  # fmt: skip
ODD_CODES = {  # answers that are codes: 5555 and 6666 "more than ...", 7777 refused, 9999 don't know; they count as gaps
    "OfMealsNotHomePrepared": 5555, "OfMealsFromFastFoodOrPizzaPlace": 5555, "OfReadytoeatFoodsInPast30Days": 6666,
    "OfFrozenMealspizzaInPast30Days": 6666, "MinutesSedentaryActivity": 7777, "CurrentSelfreportedHeightInches": 7777,
    "CurrentSelfreportedWeightPounds": 7777,
}  # fmt: skip
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


# --- by name ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TableSource:
    """A table's entry.

    Attributes:
        load: from the installed package or the verified files of the store.
        key: what decides its content, as JSON.
        about: what it is, for people.
        files: names in the manifest; () where it comes inside a package.
    """

    load: Callable[[Store], Table]
    key: dict[str, str | int]
    about: str
    files: tuple[str, ...] = ()

    def missing(self, store: Store) -> str | None:
        """Why it cannot be read, with the way out; None where it can."""
        absent = [name for name in self.files if not store.has(manifest()[0][name])]
        scale = manifest()[0][absent[0]].scales[0] if absent else ""
        return f"needs {', '.join(absent)} (make data SCALE={scale})" if absent else None


def _fetched(read: Callable[[Path, Path], Table], about: str, x: str, y: str) -> TableSource:
    files = manifest()[0]
    key: dict[str, str | int] = {x: files[x].hash, y: files[y].hash}
    return TableSource(lambda store: read(fetched(x, store), fetched(y, store)), key, about, (x, y))


TABLES: dict[str, TableSource] = {
    "nhanes2017": TableSource(
        lambda store: nhanes2017(), {"nhanes": version("nhanes"), "recipe": NHANES2017_RECIPE},
        "NHANES 2017-2018, not the paper's NHANES I: adults, diabetes told by a doctor",
    ),
    "nhanes1": _fetched(
        nhanes1, "the paper's table of NHANES I: alive after ten years", "nhanes1/X_sparsity.csv", "nhanes1/y_sparsity.npy"
    ),
    "nhanes1-shap-18": _fetched(
        partial(nhanes1_shap, name="nhanes1-shap-18", columns=18), "NHANES I, 18 measurements kept by shap: alive after ten years",
        "nhanes1-shap/NHANESI_subset_X.csv", "nhanes1-shap/NHANESI_subset_y.csv",
    ),
    "nhanes1-shap-79": _fetched(
        partial(nhanes1_shap, name="nhanes1-shap-79", columns=79), "NHANES I, 79 columns kept by shap: alive after ten years",
        "nhanes1-shap/NHANESI_X.csv", "nhanes1-shap/NHANESI_y.csv",
    ),
}  # fmt: skip


@lru_cache(maxsize=4)
def load_table(name: str, store: Store) -> Table:
    """A table by name, read once. Raises UserError for an unknown name, or a file that is not there or not the published one."""
    if name not in TABLES:
        raise UserError(f"unknown table {name!r}; there are: {', '.join(TABLES)}")
    return TABLES[name].load(store)
