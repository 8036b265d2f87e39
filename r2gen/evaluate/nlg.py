"""BLEU, ROUGE-L and CIDEr as R2Gen reports them: pycocoevalcap's scorers on the cleaned text.

tokenizer=space passes the text unchanged. ROUGE-L splits at each single space, so two spaces give an empty word, as in
published scores; BLEU and CIDEr split at any white space. tokenizer=ptb uses the words of COCO captions (ptb.py, Java).
"""

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Literal

import numpy as np
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider import Cider as CocoCider
from pycocoevalcap.rouge.rouge import Rouge as CocoRouge

from r2gen.evaluate.ptb import PTB, ptb_words
from r2gen.evaluate.scores import Scores, ScoreSpec
from r2gen.evaluate.scoring import check_texts, signature
from r2gen.evaluate.study_sums import Floats, StudySums, mean_sums, study_sums

IMPLEMENTATION, VERSION = "pycocoevalcap", version("pycocoevalcap")
_ORDER = 4  # the longest n-gram of BLEU-4

# (references of every study, reports) -> (corpus values, values per report), both with one item for each score.
_Scorer = Callable[[list[Sequence[str]], list[str]], tuple[list[float], list[Sequence[float]]]]


class Bleu:
    """Corpus BLEU-1 to BLEU-4: n-gram counts and lengths are summed over studies."""

    name = "bleu"
    scores = tuple(ScoreSpec(f"bleu_{length}", f"BLEU-{length}", column=length) for length in (4, 1, 2, 3))
    weights: tuple[str, ...] = ()

    def __init__(self, *, tokenizer: Literal["space", "ptb"] = "space") -> None:
        self.tokenizer = tokenizer

    def __call__(self, references: Mapping[str, str], reports: Mapping[str, str]) -> Scores:
        names = ["bleu_1", "bleu_2", "bleu_3", "bleu_4"]
        return _scores(self.name, names, bleu_of_references, references, reports, tokenizer=self.tokenizer)

    def sums(self, references: Mapping[str, str], reports: Mapping[str, str], scores: Scores) -> StudySums | None:
        tokenised = words(references, self.tokenizer)
        return bleu_sums({id: [tokenised[id]] for id in references}, words(reports, self.tokenizer))


class RougeL:
    """ROUGE-L: F-measure (beta 1.2) of the longest common subsequence, mean over reports; 0 for an empty report."""

    name = "rouge_l"
    scores = (ScoreSpec("rouge_l", "ROUGE-L", column=6),)
    weights: tuple[str, ...] = ()

    def __init__(self, *, tokenizer: Literal["space", "ptb"] = "space") -> None:
        self.tokenizer = tokenizer

    def __call__(self, references: Mapping[str, str], reports: Mapping[str, str]) -> Scores:
        return _scores(self.name, [self.name], rouge_l_of_references, references, reports, tokenizer=self.tokenizer)

    def sums(self, references: Mapping[str, str], reports: Mapping[str, str], scores: Scores) -> StudySums | None:
        return mean_sums(scores.per_report, ids=references)


class Cider:
    """CIDEr-D, between 0 and 10. Its weights come from the references, so a single study scores 0."""

    name = "cider"
    scores = (
        ScoreSpec(
            "cider",
            "CIDEr",
            column=7,
            interval_note="CIDEr's document frequencies stay those of all references",
        ),
    )
    weights: tuple[str, ...] = ()

    def __init__(self, *, tokenizer: Literal["space", "ptb"] = "space") -> None:
        self.tokenizer = tokenizer

    def __call__(self, references: Mapping[str, str], reports: Mapping[str, str]) -> Scores:
        return _scores(self.name, [self.name], cider_of_references, references, reports, tokenizer=self.tokenizer)

    def sums(self, references: Mapping[str, str], reports: Mapping[str, str], scores: Scores) -> StudySums | None:
        return mean_sums(scores.per_report, ids=references)


def bleu_of_references(
    references: list[Sequence[str]], reports: list[str]
) -> tuple[list[float], list[Sequence[float]]]:
    """BLEU-1 to BLEU-4 of reports that may have several references each; the closest length counts."""
    scorer = BleuScorer(n=_ORDER)
    for several, report in zip(references, reports, strict=True):
        scorer += (report, several)
    corpus, per_report = scorer.compute_score(option="closest")
    return corpus, per_report


def rouge_l_of_references(
    references: list[Sequence[str]], reports: list[str]
) -> tuple[list[float], list[Sequence[float]]]:
    """ROUGE-L of reports that may have several references each; best precision and best recall count."""
    scorer = CocoRouge()
    values = [
        # An empty report has an empty word, which would match the one between two spaces of a reference.
        scorer.calc_score([report], several) if report.strip() else 0.0
        for several, report in zip(references, reports, strict=True)
    ]
    return [float(np.mean(values))], [values]


def cider_of_references(
    references: list[Sequence[str]], reports: list[str]
) -> tuple[list[float], list[Sequence[float]]]:
    """CIDEr-D of reports that may have several references each."""
    every_reference = {index: list(several) for index, several in enumerate(references)}
    corpus, per_report = CocoCider().compute_score(every_reference, {i: [r] for i, r in enumerate(reports)})
    return [float(corpus)], [per_report.tolist()]


def bleu_sums(references: Mapping[str, Sequence[str]], reports: Mapping[str, str]) -> StudySums:
    """The sums of corpus BLEU of reports that may have several references each; the closest length counts.

    They are the clipped n-grams and all n-grams of a report, each of length 1 to 4, and both lengths in words.
    """
    ids, scorer = list(references), BleuScorer(n=_ORDER)
    for id in ids:
        scorer += (reports[id], references[id])
    numbers = {}
    for id, counts in zip(ids, scorer.ctest, strict=True):
        written = counts["testlen"]
        closest = min(counts["reflen"], key=lambda length: (abs(length - written), length))
        numbers[id] = [*counts["correct"], *counts["guess"], written, closest]
    return study_sums([f"bleu_{length}" for length in range(1, _ORDER + 1)], numbers, _bleu)


def _bleu(sums_RK: Floats) -> Floats:
    right, guesses = sums_RK[:, :_ORDER], sums_RK[:, _ORDER : 2 * _ORDER]
    written, expected = sums_RK[:, -2], sums_RK[:, -1]
    # The two small constants are pycocoevalcap's.
    precisions = np.cumprod((right + 1e-15) / (guesses + 1e-9), axis=1)
    ratio = (written + 1e-15) / (expected + 1e-9)
    with np.errstate(under="ignore"):
        brevity = np.exp(np.minimum(0.0, 1 - 1 / ratio))
    bleu: Floats = precisions ** (1 / np.arange(1, _ORDER + 1)) * brevity[:, None]
    return bleu


def words(texts: Mapping[str, str], tokenizer: Literal["space", "ptb"]) -> Mapping[str, str]:
    """The texts with spaces between words. Raises UserError if Java, which tokenizer=ptb uses, fails."""
    return ptb_words(texts) if tokenizer == "ptb" else texts


def _scores(
    metric: str,
    names: list[str],
    scorer: _Scorer,
    references: Mapping[str, str],
    reports: Mapping[str, str],
    *,
    tokenizer: Literal["space", "ptb"],
) -> Scores:
    check_texts(metric, references, reports)
    references, reports = words(references, tokenizer), words(reports, tokenizer)
    check_texts(metric, references, reports)  # ptb removes punctuation, which may leave no words
    ids = list(references)
    corpus, per_report = scorer([[references[id]] for id in ids], [reports[id] for id in ids])
    signed = {"tokenizer": PTB, "case": "lower"} if tokenizer == "ptb" else {}
    return Scores(
        corpus=dict(zip(names, corpus, strict=True)),
        per_report={name: dict(zip(ids, values, strict=True)) for name, values in zip(names, per_report, strict=True)},
        signatures={metric: signature(implementation=IMPLEMENTATION, version=VERSION, **signed)},
    )
