"""BLEU, ROUGE-L and CIDEr as R2Gen reports them: the scores of pycocoevalcap on the cleaned text, to the last digit.

They are computed here, since pycocoevalcap takes ten times as long: it counts the n-grams of a text again for each
metric, and fills a table for each common subsequence. Where a text of a study has a line break or tab, tokenizer=space
puts single spaces between the words of both. Otherwise ROUGE-L splits at each single space, so two spaces give an empty
word, as in published scores; BLEU and CIDEr split at any white space. tokenizer=ptb uses the words of COCO captions
(ptb.py, Java).
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal, NamedTuple

import numpy as np
from pycocoevalcap.bleu.bleu_scorer import BleuScorer

from r2gen.evaluate.ngrams import ORDER, Ints, NgramCounts, corpus_of
from r2gen.evaluate.ptb import PTB, checked, ptb_words
from r2gen.evaluate.scores import Scores, ScoreSpec
from r2gen.evaluate.scoring import check_texts, signature
from r2gen.evaluate.study_sums import Floats, StudySums, mean_sums, study_sums

IMPLEMENTATION, VERSION = "pycocoevalcap", version("pycocoevalcap")
_BREAK = re.compile(r"[^\S ]")  # white space other than a space, which no published text has
_SIGMA, _BETA = 6.0, 1.2  # of CIDEr-D, and of ROUGE-L in pycocoevalcap


class OfReferences(NamedTuple):
    """The scores of reports that may have several references each: a corpus value, and values per report, of each."""

    corpus: list[float]
    per_report: list[Sequence[float]]
    sums: list[list[float]] | None = None  # what each report adds to sums, if the corpus value is not a mean


_Scorer = Callable[[Sequence[Sequence[str]], Sequence[str]], OfReferences]


class Bleu:
    """Corpus BLEU-1 to BLEU-4: n-gram counts and lengths are summed over studies."""

    name = "bleu"
    scores = tuple(ScoreSpec(f"bleu_{length}", f"BLEU-{length}", column=length) for length in (4, 1, 2, 3))
    weights: tuple[str, ...] = ()

    def __init__(self, *, tokenizer: Literal["space", "ptb"] = "space") -> None:
        self.tokenizer = checked(tokenizer)

    def __call__(self, references: Mapping[str, str], reports: Mapping[str, str]) -> Scores:
        names = ["bleu_1", "bleu_2", "bleu_3", "bleu_4"]
        return _scores(self.name, names, bleu_of_references, references, reports, tokenizer=self.tokenizer)

    def sums(self, references: Mapping[str, str], reports: Mapping[str, str], scores: Scores) -> StudySums | None:
        return _sums_of_bleu(scores.sums["bleu_1"])


class RougeL:
    """ROUGE-L: F-measure (beta 1.2) of the longest common subsequence, mean over reports; 0 for an empty report."""

    name = "rouge_l"
    scores = (ScoreSpec("rouge_l", "ROUGE-L", column=6),)
    weights: tuple[str, ...] = ()

    def __init__(self, *, tokenizer: Literal["space", "ptb"] = "space") -> None:
        self.tokenizer = checked(tokenizer)

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
        self.tokenizer = checked(tokenizer)

    def __call__(self, references: Mapping[str, str], reports: Mapping[str, str]) -> Scores:
        return _scores(self.name, [self.name], cider_of_references, references, reports, tokenizer=self.tokenizer)

    def sums(self, references: Mapping[str, str], reports: Mapping[str, str], scores: Scores) -> StudySums | None:
        return mean_sums(scores.per_report, ids=references)


def bleu_of_references(references: Sequence[Sequence[str]], reports: Sequence[str]) -> OfReferences:
    """BLEU-1 to BLEU-4 of reports that may have several references each; the closest length counts.

    A report adds to the sums of corpus BLEU its clipped n-grams and all its n-grams, each of length 1 to 4, and both
    lengths in words.
    """
    corpus, studies = corpus_of(tuple(map(tuple, references)), tuple(reports)), len(reports)
    words_S, right_SN = corpus.words_T[:studies], np.zeros((studies, ORDER), np.int64)
    for column, counts in enumerate(corpus.counts):
        own = counts.text_G < studies
        text_G, id_G = counts.text_G[own], counts.id_G[own]
        most_G = np.max([counts.times_in(texts_S[text_G], id_G) for texts_S in corpus.references_SR.T], axis=0)
        clipped_G = np.minimum(counts.times_G[own], most_G)
        right_SN[:, column] = np.bincount(text_G, clipped_G, minlength=studies)
    guesses_SN = np.maximum(words_S[:, None] - np.arange(ORDER), 0)
    expected_SR = corpus.words_T[corpus.references_SR]
    scorer = BleuScorer(n=ORDER)
    for words, right, guesses, lengths, texts in zip(
        words_S.tolist(),
        right_SN.tolist(),
        guesses_SN.tolist(),
        expected_SR.tolist(),
        corpus.references_SR.tolist(),
        strict=True,
    ):
        expected = [length for length, text in zip(lengths, texts, strict=True) if text >= 0]
        scorer.ctest.append({"testlen": words, "reflen": expected, "guess": guesses, "correct": right})
    values, per_report = scorer.compute_score(option="closest")
    numbers = [
        [*counts["correct"], *counts["guess"], counts["testlen"], _closest(counts["reflen"], counts["testlen"])]
        for counts in scorer.ctest
    ]
    return OfReferences(values, per_report, numbers)


def _closest(lengths: Sequence[int], written: int) -> int:
    return min(lengths, key=lambda length: (abs(length - written), length))


def rouge_l_of_references(references: Sequence[Sequence[str]], reports: Sequence[str]) -> OfReferences:
    """ROUGE-L of reports that may have several references each; best precision and best recall count."""
    values = [
        # An empty report has an empty word, which would match the one between two spaces of a reference.
        _rouge_l(report.split(" "), [reference.split(" ") for reference in several]) if report.strip() else 0.0
        for several, report in zip(references, reports, strict=True)
    ]
    return OfReferences([float(np.mean(values))], [values])


def _rouge_l(report: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """The F-measure as pycocoevalcap computes it."""
    common = [longest_common_subsequence(report, reference) for reference in references]
    precision = max(length / float(len(report)) for length in common)
    recall = max(length / float(len(reference)) for length, reference in zip(common, references, strict=True))
    if precision == 0 or recall == 0:
        return 0.0
    return ((1 + _BETA**2) * precision * recall) / float(recall + _BETA**2 * precision)


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Its length, with one bit for each word of `first` (Hyyrö 2004): a zero bit ends a longer common subsequence."""
    positions: dict[str, int] = {}
    for index, word in enumerate(first):
        positions[word] = positions.get(word, 0) | 1 << index
    every = (1 << len(first)) - 1
    row = every
    for word in second:
        matches = row & positions.get(word, 0)
        row = (row + matches | row - matches) & every
    return len(first) - row.bit_count()


def cider_of_references(references: Sequence[Sequence[str]], reports: Sequence[str]) -> OfReferences:
    """CIDEr-D of reports that may have several references each.

    Every operation is one of pycocoevalcap's, in its order, so that the digits are the same.
    """
    corpus, studies = corpus_of(tuple(map(tuple, references)), tuple(reports)), len(reports)
    weighted = [_weighted(counts, corpus.references_SR, log_studies=np.log(float(studies))) for counts in corpus.counts]
    # The length of a text in pycocoevalcap's CIDEr is its number of bigrams.
    pairs_T = np.maximum(corpus.words_T - 1, 0)
    total_SN = np.zeros((studies, ORDER))
    for texts_S in corpus.references_SR.T:
        cosines_SN = np.zeros((studies, ORDER))
        for column, (counts, of_order) in enumerate(zip(corpus.counts, weighted, strict=True)):
            cosines_SN[:, column] = _cosines(counts, of_order, texts_S)
        differences, inverse = np.unique(pairs_T[:studies] - pairs_T[texts_S], return_inverse=True)
        penalties = [math.e ** (-(float(delta) ** 2) / (2 * _SIGMA**2)) for delta in differences.tolist()]
        cosines_SN *= np.array(penalties)[inverse][:, None]
        total_SN += np.where(texts_S[:, None] >= 0, cosines_SN, 0.0)
    scores_S = total_SN.mean(axis=1) / (corpus.references_SR >= 0).sum(axis=1) * 10.0
    return OfReferences([float(np.mean(scores_S))], [scores_S.tolist()])


@dataclass(frozen=True)
class _Weighted:
    """TF-IDF of n-grams of one length: the weight that one occurrence has, and the length of each text's vector."""

    idf_D: Floats  # by the number of studies of which a reference has the n-gram
    studies_I: Ints  # this number for each n-gram
    norm_T: Floats


def _weighted(counts: NgramCounts, references_SR: Ints, *, log_studies: float) -> _Weighted:
    texts = int(references_SR.max()) + 1
    owner_T = np.full(texts, -1)
    for texts_S in references_SR.T:
        owner_T[texts_S[texts_S >= 0]] = np.flatnonzero(texts_S >= 0)
    of_reference = counts.text_G >= len(references_SR)
    owned = owner_T[counts.text_G[of_reference]] * counts.different + counts.id_G[of_reference]
    if references_SR.shape[1] > 1:
        owned = np.unique(owned)
    studies_I = np.bincount(owned % counts.different, minlength=counts.different)
    idf_D, square_D = np.zeros((2, int(studies_I.max()) + 1))
    for number in np.unique(studies_I).tolist():
        idf_D[number] = log_studies - np.log(max(1.0, float(number)))
        square_D[number] = pow(idf_D[number], 2)
    # pycocoevalcap squares with pow(), which is rounded differently from a product once in a thousand numbers.
    squares_G, repeated = square_D[studies_I[counts.id_G]], counts.times_G > 1
    weights = counts.times_G[repeated] * idf_D[studies_I[counts.id_G[repeated]]]
    values, inverse = np.unique(weights, return_inverse=True)
    squares_G[repeated] = np.array([pow(value, 2) for value in values])[inverse]
    return _Weighted(idf_D, studies_I, np.sqrt(np.bincount(counts.text_G, squares_G, minlength=texts)))


def _cosines(counts: NgramCounts, weighted: _Weighted, texts_S: Ints) -> Floats:
    """The clipped cosine of each report with one of its references."""
    studies = len(texts_S)
    own = counts.text_G < studies
    text_G, id_G = counts.text_G[own], counts.id_G[own]
    idf_G = weighted.idf_D[weighted.studies_I[id_G]]
    expected_G = counts.times_in(texts_S[text_G], id_G) * idf_G
    products_G = np.minimum(counts.times_G[own] * idf_G, expected_G) * expected_G
    dots_S = np.bincount(text_G, products_G, minlength=studies).astype(np.float64)
    norms_S = weighted.norm_T[:studies] * weighted.norm_T[texts_S]
    return np.divide(dots_S, norms_S, out=dots_S, where=norms_S != 0)


def bleu_sums(references: Mapping[str, Sequence[str]], reports: Mapping[str, str]) -> StudySums:
    """The sums of corpus BLEU of reports that may have several references each; the closest length counts."""
    ids = list(references)
    scored = bleu_of_references([references[id] for id in ids], [reports[id] for id in ids])
    return _sums_of_bleu(dict(zip(ids, scored.sums or (), strict=True)))


def _sums_of_bleu(numbers: Mapping[str, Sequence[float]]) -> StudySums:
    return study_sums([f"bleu_{length}" for length in range(1, ORDER + 1)], numbers, _bleu)


def _bleu(sums_RK: Floats) -> Floats:
    right, guesses = sums_RK[:, :ORDER], sums_RK[:, ORDER : 2 * ORDER]
    written, expected = sums_RK[:, -2], sums_RK[:, -1]
    # The two small constants are pycocoevalcap's.
    precisions = np.cumprod((right + 1e-15) / (guesses + 1e-9), axis=1)
    ratio = (written + 1e-15) / (expected + 1e-9)
    with np.errstate(under="ignore"):
        brevity = np.exp(np.minimum(0.0, 1 - 1 / ratio))
    bleu: Floats = precisions ** (1 / np.arange(1, ORDER + 1)) * brevity[:, None]
    return bleu


def words(
    references: Mapping[str, str], reports: Mapping[str, str], tokenizer: Literal["space", "ptb"]
) -> tuple[dict[str, str], dict[str, str]]:
    """Both texts of each study with spaces between words. Raises UserError if Java, which tokenizer=ptb uses, fails."""
    if tokenizer == "ptb":
        return ptb_words(references), ptb_words(reports)
    broken = {id for id in references if _BREAK.search(references[id]) or _BREAK.search(reports[id])}
    one_line = [
        {id: " ".join(text.split()) if id in broken else text for id, text in texts.items()}
        for texts in (references, reports)
    ]
    return one_line[0], one_line[1]


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
    references, reports = words(references, reports, tokenizer)
    check_texts(metric, references, reports)  # ptb removes punctuation, which may leave no words
    ids = list(references)
    corpus, per_report, sums = scorer([[references[id]] for id in ids], [reports[id] for id in ids])
    signed = {"tokenizer": PTB, "case": "lower"} if tokenizer == "ptb" else {}
    return Scores(
        corpus=dict(zip(names, corpus, strict=True)),
        per_report={name: dict(zip(ids, values, strict=True)) for name, values in zip(names, per_report, strict=True)},
        sums={} if sums is None else {names[0]: dict(zip(ids, sums, strict=True))},
        signatures={metric: signature(implementation=IMPLEMENTATION, version=VERSION, **signed)},
    )
