"""The studies, in the order in which ``reproduce-all`` runs them: what is quick and needs few trained nets comes first."""

from reproduce.studies import (
    axioms,
    beyond_images,
    contrast,
    convergence,
    cost,
    decoy,
    gallery,
    ground_truth,
    mfaba_table1,
    mfaba_table2,
    nhanes,
    steps,
    table1,
    table2,
)
from reproduce.studies.study import Study

STUDIES: dict[str, Study] = {
    module.STUDY.name: module.STUDY
    for module in (
        gallery,
        table1,
        contrast,
        convergence,
        table2,
        ground_truth,
        nhanes,
        decoy,
        mfaba_table1,
        mfaba_table2,
        axioms,
        steps,
        beyond_images,
        cost,
    )
}
