"""The studies, in the order in which ``reproduce-all`` runs them: what is quick and needs few trained nets comes first."""

from reproduce.studies import axioms, contrast, convergence, gallery, ground_truth, steps, table1, table2
from reproduce.studies.study import Study

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        gallery.STUDY,
        table1.STUDY,
        contrast.STUDY,
        convergence.STUDY,
        table2.STUDY,
        ground_truth.STUDY,
        steps.STUDY,
        axioms.STUDY,
    )
}
