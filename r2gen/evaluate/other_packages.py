"""BLEU as sacrebleu computes it, and ROUGE as rouge-score does: optional packages, metrics of their own names.

Their numbers differ from BLEU-4 and ROUGE-L of nlg.py: other words, another smoothing, another F-measure. No torch.
"""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Literal

import numpy as np

from r2gen.errors import UserError
from r2gen.evaluate.scores import Scores, ScoreSpec, Signature
from r2gen.evaluate.scoring import check_texts, named, signature
from r2gen.evaluate.study_sums import Floats, StudySums, mean_sums, study_sums


class SacreBleu:
    """sacrebleu's corpus BLEU, between 0 and 1; `tokenize` and `lowercase` are its options. Its own mteval words: 13a.

    A report's own value is its sentence BLEU (effective order), whose mean is not the corpus value.
    """

    name = "sacrebleu"
    scores = (ScoreSpec("sacrebleu", "sacreBLEU"),)
    weights: tuple[str, ...] = ()

    def __init__(
        self, *, tokenize: Literal["13a", "intl", "char", "zh", "none"] = "13a", lowercase: bool = False
    ) -> None:
        try:
            from sacrebleu.metrics import BLEU
        except ModuleNotFoundError as error:
            raise _needs("sacrebleu", metric=self.name) from error
        # force: no warning that the cleaned text is tokenised; it is what every metric here is given.
        self._corpus = BLEU(tokenize=tokenize, lowercase=lowercase, force=True)
        self._sentence = BLEU(tokenize=tokenize, lowercase=lowercase, effective_order=True, force=True)

    def __call__(self, references: Mapping[str, str], reports: Mapping[str, str]) -> Scores:
        check_texts(self.name, references, reports)
        ids = list(references)
        found = self._corpus.corpus_score([reports[id] for id in ids], [[references[id] for id in ids]])
        per_report = {id: self._sentence.sentence_score(reports[id], [references[id]]).score / 100 for id in ids}
        return Scores(
            corpus={self.name: found.score / 100},
            per_report={self.name: per_report},
            signatures={self.name: self._signature()},
        )

    def sums(self, references: Mapping[str, str], reports: Mapping[str, str], scores: Scores) -> StudySums | None:
        """Matching n-grams and n-grams written, each of length 1 to 4, and both lengths."""

        def values(sums_RK: Floats) -> Floats:
            return np.array([[self.of_counts([round(number) for number in row])] for row in sums_RK.tolist()])

        numbers = {id: self.counts(references[id], reports[id]) for id in references}
        return study_sums([self.name], numbers, values)

    def counts(self, reference: str, report: str) -> list[float]:
        """What one study adds to the corpus: n-grams that match and that are written, of each length; both lengths."""
        found = self._sentence.sentence_score(report, [reference])
        return [*found.counts, *found.totals, found.sys_len, found.ref_len]

    def of_counts(self, sums: list[int]) -> float:
        """The corpus value from `counts` summed over studies."""
        score: float = self._corpus.compute_bleu(
            correct=sums[:4], total=sums[4:8], sys_len=sums[8], ref_len=sums[9], smooth_method="exp"
        ).score
        return score / 100

    def _signature(self) -> Signature:
        told = self._corpus.get_signature().info
        case = {"mixed": "kept", "lc": "lower"}[told["case"]]
        return signature(
            implementation="sacrebleu", version=told["version"], tokenizer=f"sacrebleu-{told['tok']}", case=case
        ) | {"smoothing": told["smooth"], "effective_order": told["eff"]}


class RougeScore:
    """ROUGE-1, -2 and -L of Google's rouge-score: F1 of a report, mean over reports, between 0 and 1.

    It reads the letters a to z and digits alone: a report without any scores 0, a reference without any is refused.
    `stemmer` counts words by Porter's stems.
    """

    name = "rouge_score"
    scores = tuple(ScoreSpec(f"rouge_score_{kind}", f"rouge-score {kind.upper()}") for kind in ("1", "2", "l"))
    weights: tuple[str, ...] = ()

    def __init__(self, *, stemmer: bool = False) -> None:
        try:
            from rouge_score.rouge_scorer import RougeScorer
        except ModuleNotFoundError as error:
            raise _needs("rouge-score", metric=self.name) from error
        self.stemmer = stemmer
        self._scorer: Any = RougeScorer(list(_ROUGE), use_stemmer=stemmer)

    def __call__(self, references: Mapping[str, str], reports: Mapping[str, str]) -> Scores:
        check_texts(self.name, references, reports)
        unread = [id for id, text in references.items() if not any(sign.isascii() and sign.isalnum() for sign in text)]
        if unread:
            raise UserError(
                f"metrics=rouge_score: it reads letters a to z and digits, of which these references have "
                f"none: {named(unread)}; leave rouge_score out of metrics"
            )
        found = {id: self._scorer.score(references[id], reports[id]) for id in references}
        per_report = {name: {id: found[id][kind].fmeasure for id in found} for kind, name in _ROUGE.items()}
        signed = signature(
            implementation="rouge-score", version=version("rouge-score"), tokenizer="a-z0-9", case="lower"
        )
        return Scores(
            corpus={name: sum(values.values()) / len(values) for name, values in per_report.items()},
            per_report=per_report,
            signatures={self.name: signed | {"stemmer": "porter" if self.stemmer else "none"}},
        )

    def sums(self, references: Mapping[str, str], reports: Mapping[str, str], scores: Scores) -> StudySums | None:
        return mean_sums(scores.per_report, ids=references)


_ROUGE = {"rouge1": "rouge_score_1", "rouge2": "rouge_score_2", "rougeL": "rouge_score_l"}


def _needs(package: str, *, metric: str) -> UserError:
    return UserError(f"metrics={metric} needs the package {package}: pip install -c constraints.txt -e '.[scores]'")
