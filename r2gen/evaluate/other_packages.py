"""BLEU of sacrebleu and ROUGE of rouge-score, which are optional packages.

Their values differ from BLEU-4 and ROUGE-L of nlg.py: tokenisation, smoothing and the F-measure are different.
"""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Literal

import numpy as np

from r2gen.errors import Code, UserError
from r2gen.evaluate.scores import Scores, ScoreSpec, Signature
from r2gen.evaluate.scoring import check_texts, named, signature
from r2gen.evaluate.study_sums import Floats, StudySums, mean_sums, study_sums


class SacreBleu:
    """sacrebleu's corpus BLEU, between 0 and 1. `tokenize` and `lowercase` are its options; 13a is mteval's tokenizer.

    The value per report is sentence BLEU (effective order); its mean is not the corpus value.
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
            raise _not_installed("sacrebleu", metric=self.name) from error
        # force=True: sacrebleu otherwise warns that the cleaned text looks tokenised.
        self._corpus = BLEU(tokenize=tokenize, lowercase=lowercase, force=True)
        self._sentence = BLEU(tokenize=tokenize, lowercase=lowercase, effective_order=True, force=True)

    def __call__(self, references: Mapping[str, str], reports: Mapping[str, str]) -> Scores:
        check_texts(self.name, references, reports)
        ids = list(references)
        corpus = self._corpus.corpus_score([reports[id] for id in ids], [[references[id] for id in ids]])
        sentences = {id: self._sentence.sentence_score(reports[id], [references[id]]) for id in ids}
        # Of each study: matching and all n-grams, each of length 1 to 4, and both lengths.
        sums: dict[str, list[float]] = {
            id: [*sentence.counts, *sentence.totals, sentence.sys_len, sentence.ref_len]
            for id, sentence in sentences.items()
        }
        return Scores(
            corpus={self.name: corpus.score / 100},
            per_report={self.name: {id: sentence.score / 100 for id, sentence in sentences.items()}},
            sums={self.name: sums},
            signatures={self.name: self._signature()},
        )

    def sums(self, references: Mapping[str, str], reports: Mapping[str, str], scores: Scores) -> StudySums | None:
        """The counts of each study, which `__call__` has computed."""

        def values(sums_RK: Floats) -> Floats:
            return np.array([[self.of_counts([round(number) for number in row])] for row in sums_RK.tolist()])

        return study_sums([self.name], scores.sums[self.name], values)

    def of_counts(self, sums: list[int]) -> float:
        """The corpus value from `Scores.sums` summed over studies."""
        score: float = self._corpus.compute_bleu(
            correct=sums[:4], total=sums[4:8], sys_len=sums[8], ref_len=sums[9], smooth_method="exp"
        ).score
        return score / 100

    def _signature(self) -> Signature:
        info = self._corpus.get_signature().info
        case = {"mixed": "kept", "lc": "lower"}[info["case"]]
        return signature(
            implementation="sacrebleu", version=info["version"], tokenizer=f"sacrebleu-{info['tok']}", case=case
        ) | {"smoothing": info["smooth"], "effective_order": info["eff"]}


class RougeScore:
    """ROUGE-1, -2 and -L of Google's rouge-score: the mean over reports of F1, between 0 and 1.

    Only the letters a to z and digits count. A report without any scores 0; a reference without any raises UserError.
    `stemmer` compares words by Porter's stems.
    """

    name = "rouge_score"
    scores = tuple(ScoreSpec(f"rouge_score_{kind}", f"rouge-score {kind.upper()}") for kind in ("1", "2", "l"))
    weights: tuple[str, ...] = ()

    def __init__(self, *, stemmer: bool = False) -> None:
        try:
            from rouge_score.rouge_scorer import RougeScorer
        except ModuleNotFoundError as error:
            raise _not_installed("rouge-score", metric=self.name) from error
        self.stemmer = stemmer
        self._scorer: Any = RougeScorer(list(_ROUGE), use_stemmer=stemmer)

    def __call__(self, references: Mapping[str, str], reports: Mapping[str, str]) -> Scores:
        check_texts(self.name, references, reports)
        unreadable = [
            id
            for id, text in references.items()
            if not any(character.isascii() and character.isalnum() for character in text)
        ]
        if unreadable:
            raise UserError(
                f"metrics=rouge_score: only the letters a to z and digits count, and these references have none: "
                f"{named(unreadable)}. Leave rouge_score out of metrics."
            )
        rouge = {id: self._scorer.score(references[id], reports[id]) for id in references}
        per_report = {name: {id: rouge[id][kind].fmeasure for id in rouge} for kind, name in _ROUGE.items()}
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


def _not_installed(package: str, *, metric: str) -> UserError:
    return UserError(
        f"metrics={metric}: the package {package} is not installed. Run pip install -c constraints.txt -e '.[scores]'",
        code=Code.PACKAGE_MISSING,
    )
