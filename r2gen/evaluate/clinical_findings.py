"""Clinical findings: precision, recall and F1 of CheXpert's 14 observations, which rules read from both texts.

The rules are in r2gen/evaluate/labeler; docs/labeler.md describes their conventions and accuracy.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np

from r2gen.errors import UserError
from r2gen.evaluate.labeler import FIVE, OBSERVATIONS, VERSION, ReportLabels, Status, digest, label_report
from r2gen.evaluate.scores import LAST_COLUMN, Scores, ScoreSpec, Signature
from r2gen.evaluate.scoring import check_texts, signature
from r2gen.evaluate.study_sums import Floats, StudySums, divide, study_sums

UNCERTAIN = ("positive", "negative", "ignore")
NORMAL = "normal"
RATES = ("f1", "precision", "recall")
MEANS = ("micro", "macro")
SETS = {"14": OBSERVATIONS, "5": FIVE}


@dataclass(frozen=True)
class Counts:
    """Positives of one finding over studies, or of one study over findings."""

    right: int = 0  # positive in the reference and in the report
    stated: int = 0  # positive in the report
    true: int = 0  # positive in the reference

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.right + other.right, self.stated + other.stated, self.true + other.true)

    def rates(self) -> dict[str, float]:
        """Precision, recall and F1; precision is 0 if nothing is stated. At least one positive must be true."""
        return {
            "f1": 2 * self.right / (self.stated + self.true),
            "precision": self.right / self.stated if self.stated else 0.0,
            "recall": self.right / self.true,
        }


class CountsFindings(Protocol):
    """A metric whose scores are precision, recall and F1 of findings."""

    name: str  # the names of its scores begin with it
    findings: tuple[str, ...]  # OBSERVATIONS, then NORMAL if the metric has it

    def count(self, references: Mapping[str, str], reports: Mapping[str, str]) -> dict[str, dict[str, Counts]]:
        """By study id and finding: its counts, each 0 or 1."""


def finding_specs(metric: str, title: str, *, columns: Mapping[str, int]) -> tuple[ScoreSpec, ...]:
    """The scores of a metric that counts findings. Only F1 has a column, since all scores would be too many."""
    return tuple(
        ScoreSpec(
            f"{metric}_{rate}_{mean}_{size}",
            f"{title} {'F1' if rate == 'f1' else rate}, {mean} of {size}",
            column=columns.get(f"{mean}_{size}", LAST_COLUMN) if rate == "f1" else None,
        )
        for rate in RATES
        for mean in MEANS
        for size in SETS
    )


class Findings:
    """Precision, recall and F1 of positive findings, over CheXpert's 14 observations and its five competition tasks.

    Micro scores count all pairs of study and finding; macro scores are means over findings. "normal" has an F1 as well.
    `uncertain` is what an uncertain mention counts as, in references and reports: positive, negative, or ignore (the
    pair of study and finding is left out if either text is uncertain). A finding that is positive in no reference has
    no recall and no F1: macro means leave it out, and its false positives count in micro scores. A score over no
    findings is left out. `details` has every finding with its support.
    """

    name = "findings"
    scores = (
        *finding_specs(name, "Findings", columns={"micro_14": 8, "macro_14": 9, "micro_5": 10, "macro_5": 11}),
        ScoreSpec("findings_f1_normal", "F1 of normal", column=12),
    )
    weights: tuple[str, ...] = ()
    findings: tuple[str, ...] = (*OBSERVATIONS, NORMAL)

    def __init__(self, *, uncertain: Literal["positive", "negative", "ignore"] = "positive") -> None:
        if uncertain not in UNCERTAIN:
            raise UserError(
                f"metrics.findings.uncertain={uncertain}: not a policy. Choose one of {', '.join(UNCERTAIN)}."
            )
        self.uncertain = uncertain

    def __call__(self, references: Mapping[str, str], reports: Mapping[str, str]) -> Scores:
        check_texts(self.name, references, reports)
        signed = signature(
            implementation="r2gen-labeler", version=f"{VERSION}-{digest()}", tokenizer="labeler", case="lower"
        )
        return finding_scores(self, references, reports, signature=signed | {"uncertain": self.uncertain})

    def sums(self, references: Mapping[str, str], reports: Mapping[str, str], scores: Scores) -> StudySums | None:
        return finding_sums(self, references, reports, scores)

    def count(self, references: Mapping[str, str], reports: Mapping[str, str]) -> dict[str, dict[str, Counts]]:
        """By study id and finding ("normal" is last): its counts, each 0 or 1."""
        pairs = {id: (label_report(references[id]), label_report(reports[id])) for id in references}
        return {id: {finding: self._count(*pair, finding) for finding in self.findings} for id, pair in pairs.items()}

    def _count(self, reference: ReportLabels, report: ReportLabels, finding: str) -> Counts:
        if finding == NORMAL:
            true, stated = reference.normal, report.normal
            return Counts(right=int(true and stated), stated=int(stated), true=int(true))
        return counted(reference.status.get(finding), report.status.get(finding), uncertain=self.uncertain)


def counted(reference: Status | None, report: Status | None, *, uncertain: str) -> Counts:
    """The counts of one finding in one study, from its status in both texts (None: not mentioned)."""
    if uncertain == "ignore" and Status.UNCERTAIN in (reference, report):
        return Counts()
    positive = {Status.POSITIVE, Status.UNCERTAIN} if uncertain == "positive" else {Status.POSITIVE}
    true, stated = reference in positive, report in positive
    return Counts(right=int(true and stated), stated=int(stated), true=int(true))


def finding_scores(
    metric: CountsFindings, references: Mapping[str, str], reports: Mapping[str, str], *, signature: Signature
) -> Scores:
    """All scores of a metric that counts findings."""
    cells = metric.count(references, reports)
    of_finding = {finding: _sum(counts[finding] for counts in cells.values()) for finding in metric.findings}
    of_study = {id: _sum(counts[finding] for finding in OBSERVATIONS) for id, counts in cells.items()}
    return Scores(
        corpus=_corpus(of_finding, metric.name),
        per_report={
            f"{metric.name}_{rate}_micro_14": {
                id: counts.rates()[rate] for id, counts in of_study.items() if counts.true
            }
            for rate in RATES
        },
        signatures={metric.name: signature | {"macro": "positive-in-references"}},
        details={metric.name: {finding: figures(counts) for finding, counts in of_finding.items()}},
        sums={_sums_name(metric): _numbers(metric, cells)},
    )


def _sums_name(metric: CountsFindings) -> str:
    return f"{metric.name}_f1_micro_14"


def _numbers(metric: CountsFindings, cells: Mapping[str, Mapping[str, Counts]]) -> dict[str, list[float]]:
    """The counts of every finding in each study."""
    return {
        id: [
            part
            for finding in metric.findings
            for part in (counts[finding].right, counts[finding].stated, counts[finding].true)
        ]
        for id, counts in cells.items()
    }


def _sum(counts: Iterable[Counts]) -> Counts:
    return sum(counts, start=Counts())


def _corpus(of_finding: Mapping[str, Counts], metric: str) -> dict[str, float]:
    means: dict[str, Callable[[list[Counts], str], float]] = {
        "micro": lambda counts, rate: _sum(counts).rates()[rate],
        "macro": lambda counts, rate: _mean([of_one.rates()[rate] for of_one in counts if of_one.true]),
    }
    corpus = {
        f"{metric}_{rate}_{mean}_{size}": value([of_finding[finding] for finding in findings], rate)
        for rate in RATES
        for mean, value in means.items()
        for size, findings in SETS.items()
        if any(of_finding[finding].true for finding in findings)
    }
    if NORMAL in of_finding and of_finding[NORMAL].true:
        corpus[f"{metric}_f1_normal"] = of_finding[NORMAL].rates()["f1"]
    return corpus


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def figures(counts: Counts) -> dict[str, float | None]:
    """Support and rates of one finding; None if a rate has no value."""
    rates: dict[str, float | None] = {"precision": 0.0 if counts.stated else None, "recall": None, "f1": None}
    if counts.true:
        rates |= {rate: value for rate, value in counts.rates().items() if rate != "precision" or counts.stated}
    return {"support": counts.true, "stated": counts.stated, **rates}


def finding_sums(
    metric: CountsFindings, references: Mapping[str, str], reports: Mapping[str, str], scores: Scores | None = None
) -> StudySums:
    """The sums of the scores of findings: the counts of every finding.

    `scores` of these reports have them, unless the scores were read from a file.
    """
    numbers = scores.sums.get(_sums_name(metric)) if scores is not None else None
    numbers = numbers or _numbers(metric, metric.count(references, reports))
    kinds = [f"{rate}_{mean}_{size}" for size in SETS for mean in MEANS for rate in RATES]
    if NORMAL in metric.findings:
        kinds.append("f1_normal")
    return study_sums([f"{metric.name}_{kind}" for kind in kinds], numbers, _scores_of_sums)


def f1_of_each_finding(sums: StudySums) -> StudySums:
    """The F1 of every finding ("normal" is last) from `finding_sums`; NaN if no reference has it."""

    def values(sums_RK: Floats) -> Floats:
        f1_RF: Floats = _rates_of_sums(sums_RK.reshape(len(sums_RK), -1, 3))[..., 0]
        return f1_RF

    return replace(sums, names=(*OBSERVATIONS, NORMAL), values=values)


def _scores_of_sums(sums_RK: Floats) -> Floats:
    counts_RF3 = sums_RK.reshape(len(sums_RK), -1, 3)
    columns = []
    for members in SETS.values():
        chosen = counts_RF3[:, [OBSERVATIONS.index(finding) for finding in members]]
        rates = _rates_of_sums(chosen)
        some = ~np.isnan(rates)
        columns += [*_rates_of_sums(chosen.sum(axis=1)).T, *divide(np.nansum(rates, axis=1), some.sum(axis=1)).T]
    normal = [_rates_of_sums(counts_RF3[:, -1])[:, 0]] if counts_RF3.shape[1] > len(OBSERVATIONS) else []
    return np.stack([*columns, *normal], axis=1)


def _rates_of_sums(counts: Floats) -> Floats:
    """F1, precision and recall, on the last axis of (right, stated, true); NaN if no reference has the finding."""
    right, stated, true = counts[..., 0], counts[..., 1], counts[..., 2]
    precision = np.where(stated > 0, right / np.maximum(stated, 1), 0.0)
    rates = np.stack([divide(2 * right, stated + true), precision, divide(right, true)], axis=-1)
    return np.where(true[..., None] > 0, rates, np.nan)
