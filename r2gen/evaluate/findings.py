"""What reports say of the phantom, finding by finding: a clinical metric where the truth is known. Imports no torch."""

from collections.abc import Mapping

from r2gen.data.phantom_reports import read_findings
from r2gen.errors import UserError
from r2gen.evaluate.scores import Scores
from r2gen.evaluate.scoring import check_texts, signature


class PhantomFindings:
    """Precision, recall and F1 over all (study, finding, side), read from both texts by the phantom's own reader.

    Where no report states a finding, precision is 0, as F1 is. A report that rightly states none has 1 in all three.
    """

    name = "phantom_findings"
    higher_is_better = True

    def __call__(self, references: Mapping[str, str], reports: Mapping[str, str]) -> Scores:
        """Raises UserError where no reference states a finding: recall has no value then."""
        check_texts(self.name, references, reports)
        true = {id: read_findings(reference) for id, reference in references.items()}
        stated = {id: read_findings(reports[id]) for id in references}
        if not any(true.values()):
            raise UserError(
                "metrics=phantom_findings: no reference states a finding of the phantom: leave it out of metrics, or"
                " choose data=phantom"
            )
        right = {id: len(true[id] & stated[id]) for id in true}
        corpus = _rates(
            sum(right.values()),
            stated=sum(map(len, stated.values())),
            true=sum(map(len, true.values())),
        )
        rates = {id: _rates(right[id], stated=len(stated[id]), true=len(true[id])) for id in true}
        return Scores(
            corpus=corpus,
            per_report={score: {id: rates[id][score] for id in true} for score in corpus},
            signature=signature(self.name, implementation="r2gen-1", tokenizer="phantom", case="lower"),
        )


def _rates(right: int, *, stated: int, true: int) -> dict[str, float]:
    nothing = float(stated == true == 0)  # nothing to find and nothing said
    return {
        "findings_precision": right / stated if stated else nothing,
        "findings_recall": right / true if true else float(not stated),
        "findings_f1": 2 * right / (stated + true) if stated + true else nothing,
    }
