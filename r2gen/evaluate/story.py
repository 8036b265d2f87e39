"""Scores of reports on phantoms with a story: findings, changes, and misleading indications that were followed."""

from collections.abc import Mapping

import numpy as np

from r2gen.data.phantom_story_reports import HAZE, LATERAL_ONLY, Stated, read_story
from r2gen.errors import UserError
from r2gen.evaluate.scores import Scores, ScoreSpec
from r2gen.evaluate.scoring import check_texts, signature
from r2gen.evaluate.study_sums import Floats, StudySums, divide, study_sums

_F1 = ("story_findings_f1", "story_change_f1", "story_cause_f1", "story_lateral_f1")
MISLED = "story_misled"


class StoryScores:
    """What a report gets right, against the truth that the reference states, over all studies.

    F1 of (study, finding), of (study, finding, change), and of the findings that only one input tells: the cause of a
    haze (the indication) and what the lateral image shows. `story_misled` is the share of misleading indications whose
    finding the report states. A score without a case in the references is left out.
    """

    name = "phantom_story"
    scores = (
        ScoreSpec("story_change_f1", "Change F1 (phantom)", column=52),
        ScoreSpec("story_findings_f1", "Findings F1 (phantom)", column=51),
        ScoreSpec("story_cause_f1", "F1 of what only the indication tells", column=53),
        ScoreSpec("story_lateral_f1", "F1 of what only the lateral image shows", column=54),
        ScoreSpec(MISLED, "Misleading indications followed", column=55, higher_is_better=False),
    )
    weights: tuple[str, ...] = ()

    def __call__(self, references: Mapping[str, str], reports: Mapping[str, str]) -> Scores:
        """Raises UserError if no reference states a finding."""
        check_texts(self.name, references, reports)
        sums = self.sums(references, reports, Scores(corpus={}))
        corpus = sums.corpus()
        if _F1[0] not in corpus:
            raise UserError(
                "metrics=phantom_story: no reference states a finding of the phantom. Leave phantom_story out of "
                "metrics, or choose data=phantom_story."
            )
        each = dict(zip(sums.ids, _values(sums.sums, each=True).tolist(), strict=True))
        return Scores(
            corpus=corpus,
            per_report={
                name: {id: values[column] for id, values in each.items() if values[column] == values[column]}
                for column, name in enumerate(sums.names)
                if name in corpus
            },
            signatures={
                self.name: signature(implementation="r2gen-story", version="1", tokenizer="phantom", case="lower")
            },
        )

    def sums(self, references: Mapping[str, str], reports: Mapping[str, str], scores: Scores) -> StudySums:
        """For each F1 what is rightly stated, stated, and true; then indications followed, and misleading."""
        pairs = {id: (read_story(references[id]), read_story(reports[id])) for id in references}
        return study_sums((*_F1, MISLED), {id: _counts(*pair) for id, pair in pairs.items()}, _values)


def _counts(reference: Stated, report: Stated) -> list[float]:
    counts = list[float]()
    for true, stated in zip(_stated(reference), _stated(report), strict=True):
        counts += [len(true & stated), len(stated), len(true)]
    kinds = {finding.partition(":")[0] for finding in report.findings}
    return [*counts, reference.doubted in kinds, reference.doubted is not None]


def _stated(text: Stated) -> tuple[frozenset[object], ...]:
    """What is counted for each F1."""
    causes = frozenset(finding for finding in text.findings if finding.partition(":")[0] in HAZE)
    return text.findings, text.changes, causes, text.findings & frozenset(LATERAL_ONLY)


def _values(sums_RK: Floats, *, each: bool = False) -> Floats:
    """The scores; NaN where no reference has a case, or with `each`, for single studies, neither text."""
    columns = []
    for first in range(0, 3 * len(_F1), 3):
        right, stated, true = sums_RK[:, first : first + 3].T
        columns.append(np.where(each | (true > 0), divide(2 * right, stated + true), np.nan))
    columns.append(divide(sums_RK[:, -2], sums_RK[:, -1]))
    return np.stack(columns, axis=1)
