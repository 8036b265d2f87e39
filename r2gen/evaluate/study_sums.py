"""What each study adds to a score: the sums from which a score of any resample of studies follows. Imports no torch.

BLEU, METEOR and findings are computed from summed counts, as over a corpus; other scores are means over reports.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pycocoevalcap.bleu.bleu_scorer import BleuScorer

from r2gen.evaluate.clinical_findings import NORMAL, RATES, SETS, CountsFindings
from r2gen.evaluate.findings import PhantomFindings
from r2gen.evaluate.labeler import OBSERVATIONS
from r2gen.evaluate.meteor import Meteor, meteor_of_sums
from r2gen.evaluate.nlg import Bleu, words
from r2gen.evaluate.other_packages import SacreBleu
from r2gen.evaluate.scores import Metric, Scores
from r2gen.evaluate.scoring import check_texts

# S studies, K sums, R resamples, N scores, F findings
Floats = NDArray[np.float64]

_ORDER = 4  # the longest n-gram of BLEU-4
_ROUNDING = 1e-9


@dataclass(frozen=True)
class StudySums:
    """Some scores of one system. `values` turns sums over any studies, [R, K], into scores, [R, N], NaN where none."""

    names: tuple[str, ...]
    ids: tuple[str, ...]  # in order, so that a seed draws the same studies whatever order the texts came in
    sums: Floats  # [S, K]
    values: Callable[[Floats], Floats]

    def of_all(self) -> Floats:
        """The scores over all studies, [N]."""
        scores: Floats = self.values(self.sums.sum(axis=0, keepdims=True))[0]
        return scores

    def without_each(self) -> Floats:
        """The scores over all studies but one, [S, N]."""
        return self.values(self.sums.sum(axis=0) - self.sums)


def sums_of_scores(
    metrics: Mapping[str, Metric], references: Mapping[str, str], reports: Mapping[str, str], scores: Scores
) -> list[StudySums]:
    """The sums of every score that has some: BLEU, METEOR, findings, and what is the mean of its per-report values.

    A score that is neither is left out.
    """
    found, known = list[StudySums](), set[str]()
    for metric in metrics.values():
        if metric.name not in scores.signatures:  # it is unavailable
            continue
        if isinstance(metric, Bleu):
            found.append(bleu_sums(words(references, metric.tokenizer), words(reports, metric.tokenizer)))
        elif isinstance(metric, CountsFindings):
            found.append(finding_sums(metric, references, reports))
        elif isinstance(metric, SacreBleu):
            found.append(sacrebleu_sums(metric, references, reports))
        elif isinstance(metric, PhantomFindings):
            found.append(phantom_finding_sums(metric, references, reports))
        elif isinstance(metric, Meteor) and metric.name in scores.sums:
            found.append(meteor_sums(scores.sums[metric.name]))
    for one in found:
        known.update(one.names)
    for name, values in scores.per_report.items():
        if name in scores.corpus and name not in known and values:
            mean = sum(values.values()) / len(values)
            if abs(mean - scores.corpus[name]) < _ROUNDING:
                found.append(mean_sums(name, values, ids=references))
    return found


def bleu_sums(references: Mapping[str, str], reports: Mapping[str, str]) -> StudySums:
    """BLEU-1 to BLEU-4, pycocoevalcap's corpus values. Sums: clipped n-grams, n-grams written, both lengths."""
    return bleu_sums_of_references({id: [text] for id, text in references.items()}, reports)


def bleu_sums_of_references(references: Mapping[str, Sequence[str]], reports: Mapping[str, str]) -> StudySums:
    """BLEU of reports that may have several references each; the closest length counts."""
    check_texts("bleu", {id: "\n".join(several) for id, several in references.items()}, reports)
    ids, scorer = tuple(sorted(references)), BleuScorer(n=_ORDER)
    for id in ids:
        scorer += (reports[id], references[id])
    rows = []
    for counts in scorer.ctest:
        written = counts["testlen"]
        closest = min(counts["reflen"], key=lambda length: (abs(length - written), length))
        rows.append([*counts["correct"], *counts["guess"], written, closest])
    names = tuple(f"bleu_{length}" for length in range(1, _ORDER + 1))
    return StudySums(names=names, ids=ids, sums=np.array(rows, dtype=np.float64), values=_bleu)


def sacrebleu_sums(metric: SacreBleu, references: Mapping[str, str], reports: Mapping[str, str]) -> StudySums:
    """sacrebleu's corpus BLEU. Sums: matching n-grams, n-grams written, both lengths."""
    ids = tuple(sorted(references))
    rows = [metric.counts(references[id], reports[id]) for id in ids]

    def values(sums_RK: Floats) -> Floats:
        return np.array([[metric.of_counts([round(number) for number in row])] for row in sums_RK.tolist()])

    return StudySums(names=(metric.name,), ids=ids, sums=np.array(rows, dtype=np.float64), values=values)


def finding_sums(metric: CountsFindings, references: Mapping[str, str], reports: Mapping[str, str]) -> StudySums:
    """The findings' scores, each defined where the metric has it. Sums: right, stated and true of every finding."""
    check_texts(metric.name, references, reports)
    cells = metric.count(references, reports)
    ids = tuple(sorted(cells))
    rows = [[part for finding in metric.findings for part in astuple(cells[id][finding])] for id in ids]
    means = [f"{rate}_{mean}_{size}" for size in SETS for mean in ("micro", "macro") for rate in RATES]
    kinds = [*means, "f1_normal"] if NORMAL in metric.findings else means
    names = tuple(f"{metric.name}_{kind}" for kind in kinds)
    return StudySums(names=names, ids=ids, sums=np.array(rows, dtype=np.float64), values=_findings)


def f1_of_each_finding(sums: StudySums) -> StudySums:
    """The F1 of every finding ("normal" the last) in the sums of `finding_sums`; NaN where no reference has it."""

    def values(sums_RK: Floats) -> Floats:
        f1_RF: Floats = _rates(sums_RK.reshape(len(sums_RK), -1, 3))[..., 0]
        return f1_RF

    return replace(sums, names=(*OBSERVATIONS, NORMAL), values=values)


def of_studies(sums: StudySums, ids: Collection[str]) -> StudySums:
    """The same scores over some of the studies."""
    rows = [row for row, id in enumerate(sums.ids) if id in ids]
    return replace(sums, ids=tuple(sums.ids[row] for row in rows), sums=sums.sums[rows])


def phantom_finding_sums(
    metric: PhantomFindings, references: Mapping[str, str], reports: Mapping[str, str]
) -> StudySums:
    """The phantom's findings. Sums: right, stated and true ones."""
    check_texts(metric.name, references, reports)
    counts = metric.count(references, reports)
    ids = tuple(sorted(counts))
    names = ("findings_precision", "findings_recall", "findings_f1")
    return StudySums(
        names=names, ids=ids, sums=np.array([counts[id] for id in ids], dtype=np.float64), values=_phantom_findings
    )


def meteor_sums(statistics: Mapping[str, Sequence[float]]) -> StudySums:
    """METEOR, the corpus value of the jar. Sums: its statistics of each study."""
    ids = tuple(sorted(statistics))
    return StudySums(
        names=("meteor",), ids=ids, sums=np.array([statistics[id] for id in ids], dtype=np.float64), values=_meteor
    )


def mean_sums(name: str, per_report: Mapping[str, float], *, ids: Sequence[str] | Mapping[str, str]) -> StudySums:
    """A score that is the mean of its values, over the studies that have one. Sums: value, and whether it is there."""
    in_order = tuple(sorted(ids))
    rows = [[per_report.get(id, 0.0), float(id in per_report)] for id in in_order]
    return StudySums(names=(name,), ids=in_order, sums=np.array(rows, dtype=np.float64), values=_mean)


def _meteor(sums_RK: Floats) -> Floats:
    return meteor_of_sums(sums_RK)[:, None]


def _mean(sums_RK: Floats) -> Floats:
    return _divide(sums_RK[:, :1], sums_RK[:, 1:])


def _bleu(sums_RK: Floats) -> Floats:
    right, guesses = sums_RK[:, :_ORDER], sums_RK[:, _ORDER : 2 * _ORDER]
    written, expected = sums_RK[:, -2], sums_RK[:, -1]
    # The two small numbers are pycocoevalcap's.
    precisions = np.cumprod((right + 1e-15) / (guesses + 1e-9), axis=1)
    ratio = (written + 1e-15) / (expected + 1e-9)
    with np.errstate(under="ignore"):
        brevity = np.exp(np.minimum(0.0, 1 - 1 / ratio))
    bleu: Floats = precisions ** (1 / np.arange(1, _ORDER + 1)) * brevity[:, None]
    return bleu


def _findings(sums_RK: Floats) -> Floats:
    counts_RF3 = sums_RK.reshape(len(sums_RK), -1, 3)
    columns = []
    for members in SETS.values():
        chosen = counts_RF3[:, [OBSERVATIONS.index(finding) for finding in members]]
        rates = _rates(chosen)
        some = ~np.isnan(rates)
        columns += [*_rates(chosen.sum(axis=1)).T, *_divide(np.nansum(rates, axis=1), some.sum(axis=1)).T]
    normal = [_rates(counts_RF3[:, -1])[:, 0]] if counts_RF3.shape[1] > len(OBSERVATIONS) else []
    return np.stack([*columns, *normal], axis=1)


def _phantom_findings(sums_RK: Floats) -> Floats:
    right, stated, true = sums_RK.T
    nothing = stated + true == 0  # to find, and nothing said: that is right
    shares = ((right, stated), (right, true), (2 * right, stated + true))
    return np.stack([np.where(whole > 0, part / np.maximum(whole, 1), nothing) for part, whole in shares], axis=1)


def _rates(counts: Floats) -> Floats:
    """F1, precision and recall on the last axis of (right, stated, true); NaN where no reference has the finding."""
    right, stated, true = counts[..., 0], counts[..., 1], counts[..., 2]
    precision = np.where(stated > 0, right / np.maximum(stated, 1), 0.0)
    rates = np.stack([_divide(2 * right, stated + true), precision, _divide(right, true)], axis=-1)
    return np.where(true[..., None] > 0, rates, np.nan)


def _divide(part: Floats, whole: NDArray[np.generic]) -> Floats:
    quotient: Floats = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole != 0)
    return quotient
