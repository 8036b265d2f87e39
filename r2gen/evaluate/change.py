"""Words of change: F1 of the changes since the prior study that a report states, read by rules from both texts.

`change_f1` counts pairs of study and change: new, worse, better, resolved and unchanged, where MS-CXR-T has improving,
stable and worsening (Bannur et al., CVPR 2023). `temporal_f1` is the temporal entity score as
published (Bannur et al., CVPR 2023, for the words; Zhang et al., Libra, 2024, for the score).
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

import numpy as np

from r2gen.evaluate.clinical_findings import Counts, figures
from r2gen.evaluate.scores import Scores, ScoreSpec
from r2gen.evaluate.scoring import check_texts, signature
from r2gen.evaluate.study_sums import Floats, StudySums, divide, study_sums

# The words of the published score; the entity model that it also runs can only find the same words.
_PUBLISHED = (
    "bigger change cleared constant decrease decreased decreasing elevated elevation enlarged enlargement enlarging "
    "expanded greater growing improved improvement improving increase increased increasing larger new persistence "
    "persistent persisting progression progressive reduced removal resolution resolved resolving smaller stability "
    "stable stably unaltered unchanged unfolded worse worsen worsened worsening"
)
TEMPORAL = frozenset(_PUBLISHED.split())
# A statement of change. Words that also describe a single image, such as "elevated", are not among them.
_STATED = {
    "new": r"new(?:ly)?|interval (?:development|appearance|placement)",
    "worse": r"worse(?:n(?:ed|ing|s)?)?|increas(?:ed?|es|ing)|larger|bigger|enlarging|growing|grown|"
    r"progress(?:ed|ing|ion|ive|ively)|deteriorat(?:ed|ing|ion)|more (?:prominent|extensive|conspicuous|pronounced)",
    "better": r"improv(?:ed?|es|ing|ement)|decreas(?:ed?|es|ing)|smaller|reduced|reduction|resolving|"
    r"regress(?:ed|ing|ion)|diminish(?:ed|ing)|clearing|less (?:prominent|extensive|conspicuous|pronounced)",
    "resolved": r"resolved|resolution|cleared|removed|removal|no longer",
    "unchanged": r"unchanged|unaltered|stable|stably|stability|constant|persist(?:s|ed|ent|ently|ing|ence)?|"
    r"again (?:seen|noted|demonstrated|identified)|similar (?:to|as|in)|"
    r"(?:no|without|not|little)(?: \w+){0,3} chang(?:e|es|ed)",
}
CHANGES = tuple(_STATED)
_PATTERNS = {change: re.compile(rf"\b(?:{words})\b") for change, words in _STATED.items()}
# Descriptions of a single image, which are taken out before.
_NO_CHANGE = re.compile(
    r"\b(?:(?:increased|decreased|reduced|diminished)(?: \w+){0,2} "
    r"(?:volumes?|markings|kyphosis|lucency|space|vascularity)"
    r"|(?:volumes?|vascularity|markings) (?:is|are)(?: \w+)? (?:increased|decreased|reduced|diminished)"
    r"|(?:greater|worse|larger|more prominent) (?:than(?: the| on the)? (?:left|right)|on (?:the )?(?:left|right)))\b"
)
_DENIED = re.compile(
    r"\b(?:no|not|without|never)(?: (?!longer)[\w/-]+){0,4}$"
)  # before a word of change, in its clause
_CLAUSE = re.compile(r"[.;:,]|\bbut\b|\bhowever\b")
_WORD = re.compile(r"[a-z]+")


class Change:
    """Micro F1, precision and recall of stated changes, and the temporal entity F1 as published.

    A change counts once per report. If no reference states a change, the micro scores have no value. `temporal_f1` is
    the mean over reports of the F1 of the sets of words, 1 if neither text has one.
    """

    name = "change"
    scores = (
        ScoreSpec("change_f1", "Change F1", column=56),
        ScoreSpec("change_precision", "Change precision", column=None),
        ScoreSpec("change_recall", "Change recall", column=None),
        ScoreSpec("temporal_f1", "Temporal entity F1", column=57),
    )
    weights: tuple[str, ...] = ()

    def __call__(self, references: Mapping[str, str], reports: Mapping[str, str]) -> Scores:
        check_texts(self.name, references, reports)
        pairs = {id: (stated_changes(references[id]), stated_changes(reports[id])) for id in references}
        return Scores(
            corpus=self.sums(references, reports, Scores(corpus={})).corpus(),
            per_report={
                "change_f1": {
                    id: 2 * len(true & stated) / (len(true) + len(stated))
                    for id, (true, stated) in pairs.items()
                    if true or stated
                },
                "temporal_f1": {id: _temporal_f1(references[id], reports[id]) for id in references},
            },
            details={self.name: {change: figures(_counts(change, pairs.values())) for change in CHANGES}},
            signatures={
                self.name: signature(implementation="r2gen-change", version="1", tokenizer="words", case="lower")
            },
        )

    def sums(self, references: Mapping[str, str], reports: Mapping[str, str], scores: Scores) -> StudySums:
        """The numbers of changes rightly stated, stated, and true; the temporal F1, and 1."""
        numbers = {}
        for id, reference in references.items():
            true, stated = stated_changes(reference), stated_changes(reports[id])
            numbers[id] = (len(true & stated), len(stated), len(true), _temporal_f1(reference, reports[id]), 1)
        return study_sums(("change_f1", "change_precision", "change_recall", "temporal_f1"), numbers, _values)


@lru_cache(maxsize=2**15)
def stated_changes(report: str) -> frozenset[str]:
    """The changes since the prior study that a report states, of CHANGES."""
    changes = set[str]()
    for clause in _CLAUSE.split(report.lower()):
        text = _NO_CHANGE.sub("", " ".join(clause.split()))
        for change, pattern in _PATTERNS.items():
            for match in pattern.finditer(text):
                if not _DENIED.search(text[: match.start()].rstrip()):
                    changes.add(change)
    return frozenset(changes)


def _temporal_f1(reference: str, report: str) -> float:
    true, stated = (TEMPORAL.intersection(_WORD.findall(text.lower())) for text in (reference, report))
    return 2 * len(true & stated) / (len(true) + len(stated)) if true or stated else 1.0


def _counts(change: str, pairs: Iterable[tuple[frozenset[str], frozenset[str]]]) -> Counts:
    """Of the changes of reference and report in each study."""
    return sum((Counts(change in true & stated, change in stated, change in true) for true, stated in pairs), Counts())


def _values(sums_RK: Floats) -> Floats:
    right, stated, true, temporal, count = sums_RK.T
    some = true > 0
    f1 = np.where(some, divide(2 * right, stated + true), np.nan)
    precision = np.where(some, np.where(stated > 0, divide(right, stated), 0.0), np.nan)
    return np.stack([f1, precision, divide(right, true), divide(temporal, count)], axis=1)
