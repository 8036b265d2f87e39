"""What a study has besides its images, counted, and where that gives away its report.

A prior study that is not earlier is refused by `refuse_wrong_priors`; `context_statistics` counts the rest.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from posixpath import normpath

from r2gen.config.context import ContextConfig
from r2gen.config.plain import Plain
from r2gen.data.annotation_file import refuse
from r2gen.data.context_text import context_counts
from r2gen.data.reports import SPLITS, Prior, ReportData, Study
from r2gen.errors import shown

SHORTEST_SENTENCE = 4  # words of a sentence of the report that is looked for in the other texts
TEXTS = ("indication", "technique", "comparison")
KNOWN = ("positions", *TEXTS, "age", "sex", "prior")  # what a study may have besides images and report
# What is wrong with a prior, and the fix.
REFUSED = {
    "itself": "is the study itself, or shows one of its images: name an earlier study",
    "not_earlier": "is {days:g} days before it, which is not earlier: days must be more than 0, from it to the study",
    "circle": "has this study among its own priors, so that neither is earlier: correct one of them",
    "other_patient": "is a study of another patient: name one of the same patient",
    "other_split": "is a study of another split: put all studies of a patient into one split",
}
_WORD = re.compile(r"[^\W_]+")  # the placeholder ___ is no word


@dataclass(frozen=True)
class PriorFault:
    """A study whose prior is wrong, or cannot be judged."""

    split: str
    index: int
    study: Study
    prior: Prior
    kinds: tuple[str, ...]  # of REFUSED, and order_unknown and same_report


def refuse_wrong_priors(data: ReportData, *, head: str) -> None:
    """Raise UserError with the entries whose prior is not an earlier study of the same patient and split."""
    faults = []
    for fault in judged_priors({split: data.studies(split) for split in SPLITS}):
        wrong = [REFUSED[kind] for kind in fault.kinds if kind in REFUSED]
        if wrong:
            where = f"{fault.split}[{fault.index}] (id {shown(fault.study.id)})"
            why = wrong[0].format(days=fault.prior.days)
            faults.append(f"{where}: the prior {shown(fault.prior.id)} {why}, or remove the prior")
    refuse(head, faults, advice="\ntask=audit counts them" if len(faults) > 1 else "")


def judged_priors(splits: Mapping[str, Sequence[Study]]) -> Iterator[PriorFault]:
    """The studies whose prior has one of REFUSED, or order_unknown (no days) or same_report (equal to the study's)."""
    if all(study.prior is None for studies in splits.values() for study in studies):
        return
    split_of = {study.id: split for split, studies in splits.items() for study in studies}
    split_of_view = {
        _file(view): split for split, studies in splits.items() for study in studies for view in study.views
    }
    circles = _circles([study for studies in splits.values() for study in studies])
    patients = {study.id: study.patient for studies in splits.values() for study in studies}
    for split, studies in splits.items():
        for index, study in enumerate(studies):
            if (prior := study.prior) is None:
                continue
            views = {_file(view) for view in prior.views}
            homes = {split_of.get(prior.id, split), *(split_of_view.get(view, split) for view in views)}
            patient = patients.get(prior.id)
            kinds = {
                "itself": prior.id == study.id or not views.isdisjoint(map(_file, study.views)),
                "not_earlier": prior.days is not None and prior.days <= 0,
                "circle": study.id in circles,
                "other_patient": None not in (patient, study.patient) and patient != study.patient,
                "other_split": homes != {split},
                "order_unknown": prior.days is None,
                "same_report": prior.report is not None and prior.report.split() == study.report.split(),
            }
            if any(kinds.values()):
                yield PriorFault(split, index, study, prior, tuple(kind for kind, applies in kinds.items() if applies))


def _file(view: str) -> str:
    """The path of an image, which `./a.png` and `b//a.png` spell in another way."""
    return normpath(view) if "./" in view or "//" in view else view


def _circles(studies: Sequence[Study]) -> set[str]:
    """The ids of the studies that are the prior of the prior (and so on) of themselves."""
    prior_of = {study.id: study.prior.id for study in studies if study.prior is not None}
    circles: set[str] = set()
    seen: set[str] = set()
    for id in prior_of:
        path: list[str] = []
        while id in prior_of and id not in seen:
            seen.add(id)
            path.append(id)
            id = prior_of[id]
        if id in path:
            circles.update(path[path.index(id) :] if prior_of[id] != id else ())
    return circles


def unused_context(data: ReportData, context: ContextConfig) -> str:
    """What the studies have and prompts with this context lack, with counts; empty if they lack nothing."""
    studies = [study for split in SPLITS for study in data.studies(split)]
    used = {field.partition("_")[0] for field in context.fields} | (
        {"positions"} if context.image_embeddings else set()
    )
    counts = {key: number for key, number in context_counts(studies, KNOWN).items() if number and key not in used}
    listed = ", ".join(f"{key} {number:,}" for key, number in counts.items())
    return f"{listed} (of {len(studies):,} studies)" if counts else ""


def context_statistics(
    splits: Mapping[str, Sequence[Study]], quotes_findings: Callable[[str], bool]
) -> dict[str, Plain]:
    """Of each split: the counts of KNOWN, and the ids of the studies whose context may give away the report.

    `repeats_report` holds, for each text, the studies in which it contains a sentence of the report of at least
    SHORTEST_SENTENCE words; `comparison_with_findings` those whose comparison section `quotes_findings`.
    """
    priors: dict[str, dict[str, list[str]]] = {split: {} for split in splits}
    for fault in judged_priors(splits):
        for kind in fault.kinds:
            priors[fault.split].setdefault(kind, []).append(fault.study.id)
    return {
        split: {
            "studies": context_counts(studies, KNOWN),
            "repeats_report": {
                key: [study.id for study in studies if repeats_report(study, getattr(study, key))] for key in TEXTS
            },
            "comparison_with_findings": [
                study.id for study in studies if study.comparison is not None and quotes_findings(study.comparison)
            ],
            "priors": {kind: priors[split].get(kind, []) for kind in (*REFUSED, "order_unknown", "same_report")},
        }
        for split, studies in splits.items()
    }


def repeats_report(study: Study, text: str | None) -> bool:
    """Whether the text contains a sentence of the study's report; case and punctuation do not matter."""
    if text is None:
        return False
    words = f" {_words(text)} "
    sentences = (_words(sentence) for sentence in re.split(r"[.;\n]", study.report))
    return any(sentence.count(" ") >= SHORTEST_SENTENCE - 1 and f" {sentence} " in words for sentence in sentences)


def _words(text: str) -> str:
    return " ".join(_WORD.findall(text.lower()))
