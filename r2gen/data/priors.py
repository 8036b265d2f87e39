"""The prior of each entry of an annotation: the previous examination of the same patient in the same split."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from r2gen.config.plain import Plain

DECIMALS = 5  # of days: 0.9 s


@dataclass(frozen=True)
class Examination:
    """One examination of a patient, and what task=prepare writes of it."""

    patient: str
    split: str
    at: float | None  # in days since any day, or its position in an order without days; None if unknown
    entries: Sequence[Plain] = field(default_factory=tuple)  # of the annotation; none if the policy leaves it out
    # {"id", "image_path", "views", "report"} of one that is left out (the last three as far as they exist)
    left_out: Plain | None = None


@dataclass
class PriorCounts:
    """What task=prepare prints and records."""

    entries_with_prior: int = 0
    written_out: int = 0  # priors that are no entries themselves
    time_unknown: int = 0  # examinations without `at`, which have no prior and are none


def add_priors(examinations: Iterable[Examination], *, in_days: bool = True) -> PriorCounts:
    """Set "prior" in the entries of every examination that has an earlier one with entries or `left_out`.

    A prior is `{"id": ..., "days": ...}` if it is an entry (the first of its examination), and is written out
    otherwise. With in_days=False, `at` only orders: a prior then has "order", how many positions earlier it is, instead
    of "days". Examinations at equal times are not priors of each other.
    """
    counts = PriorCounts()
    sequences: dict[tuple[str, str], list[Examination]] = {}
    for examination in examinations:
        if examination.at is None:
            counts.time_unknown += 1
        elif examination.entries or examination.left_out:
            sequences.setdefault((examination.patient, examination.split), []).append(examination)
    for sequence in sequences.values():
        sequence.sort(key=_time)
        times = [_time(examination) for examination in sequence]
        for examination, time in zip(sequence, times, strict=True):
            before = bisect_left(times, time) - 1
            if before < 0 or not examination.entries:
                continue
            earlier = sequence[before]
            between: Plain = (
                {"days": round(time - times[before], DECIMALS)} if in_days else {"order": int(time - times[before])}
            )
            prior = {"id": earlier.entries[0]["id"]} if earlier.entries else dict(earlier.left_out or {})
            counts.written_out += not earlier.entries
            for entry in examination.entries:
                entry["prior"] = {**prior, **between}
                counts.entries_with_prior += 1
    return counts


def prior_left_out(id: str, images: Plain, report: str | None) -> Plain | None:
    """`left_out` of an examination with its images ("image_path" and "views") and report; None if it has neither."""
    shown = images if images["image_path"] else {}
    written = {"report": report} if report is not None and any(map(str.isalpha, report)) else {}
    return {"id": id, **shown, **written} if shown or written else None


def _time(examination: Examination) -> float:
    assert examination.at is not None
    return round(examination.at, DECIMALS)
