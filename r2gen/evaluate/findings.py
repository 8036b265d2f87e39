"""Findings of the phantom data set: precision, recall and F1 of what its reports state."""

from collections.abc import Mapping

import numpy as np

from r2gen.data.phantom_reports import read_findings
from r2gen.errors import UserError
from r2gen.evaluate.scores import Scores, ScoreSpec
from r2gen.evaluate.scoring import check_texts, signature
from r2gen.evaluate.study_sums import Floats, StudySums, study_sums


class PhantomFindings:
    """Precision, recall and F1 over all (study, finding, side). The phantom's reader reads them from both texts.

    If no report states a finding, precision and F1 are 0. A report that rightly states none has 1 in all three.
    """

    name = "phantom_findings"
    scores = (
        ScoreSpec("findings_f1", "Findings F1", column=15),
        ScoreSpec("findings_precision", "Findings precision", column=13),
        ScoreSpec("findings_recall", "Findings recall", column=14),
    )
    weights: tuple[str, ...] = ()

    def __call__(self, references: Mapping[str, str], reports: Mapping[str, str]) -> Scores:
        """Raises UserError if no reference states a finding, since recall then has no value."""
        check_texts(self.name, references, reports)
        counts = self.count(references, reports)
        right, stated, true = (sum(column) for column in zip(*counts.values(), strict=True))
        if not true:
            raise UserError(
                "metrics=phantom_findings: no reference states a finding of the phantom. Leave phantom_findings out of "
                "metrics, or choose data=phantom."
            )
        corpus = _rates(right, stated, true)
        rates = {id: _rates(*of_study) for id, of_study in counts.items()}
        return Scores(
            corpus=corpus,
            per_report={score: {id: rates[id][score] for id in counts} for score in corpus},
            signatures={
                self.name: signature(implementation="r2gen-phantom", version="1", tokenizer="phantom", case="lower")
            },
        )

    def sums(self, references: Mapping[str, str], reports: Mapping[str, str], scores: Scores) -> StudySums | None:
        """The numbers of findings that are rightly stated, stated, and true."""
        names = ("findings_precision", "findings_recall", "findings_f1")
        return study_sums(names, self.count(references, reports), _rates_of_sums)

    def count(self, references: Mapping[str, str], reports: Mapping[str, str]) -> dict[str, tuple[int, int, int]]:
        """Study id to the numbers of findings that are rightly stated, stated, and true."""
        pairs = {id: (read_findings(references[id]), read_findings(reports[id])) for id in references}
        return {id: (len(true & stated), len(stated), len(true)) for id, (true, stated) in pairs.items()}


def _rates(right: int, stated: int, true: int) -> dict[str, float]:
    nothing = float(stated == true == 0)  # no finding to state, and none stated
    return {
        "findings_precision": right / stated if stated else nothing,
        "findings_recall": right / true if true else float(not stated),
        "findings_f1": 2 * right / (stated + true) if stated + true else nothing,
    }


def _rates_of_sums(sums_RK: Floats) -> Floats:
    right, stated, true = sums_RK.T
    nothing = stated + true == 0  # no finding to state, and none stated
    shares = ((right, stated), (right, true), (2 * right, stated + true))
    return np.stack([np.where(whole > 0, part / np.maximum(whole, 1), nothing) for part, whole in shares], axis=1)
