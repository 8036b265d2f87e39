"""From the studies of a published data set to an annotation: views, section, priors, counts and provenance.

rexgradient.py, padchest.py and padchest_gr.py read their files into `PublishedStudy`, one after another.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from r2gen.config.plain import Plain
from r2gen.data.age_and_sex import age_of, sex_of
from r2gen.data.annotation_file import refuse
from r2gen.data.image_check import image_fault
from r2gen.data.mimic import Policy, choose
from r2gen.data.mimic_sections import WHOLE, one_line
from r2gen.data.positions import is_selected, position_of, rank
from r2gen.data.prepared_files import Preparation, checked_file, counts_table, spaced, write_prepared
from r2gen.data.priors import Examination, PriorCounts, add_priors, prior_left_out
from r2gen.data.reports import SPLITS
from r2gen.data.table_context import day_of
from r2gen.data.table_file import text_of
from r2gen.errors import UserError, shown
from r2gen.runs.files import is_file
from r2gen.runs.progress import bar

Value = TypeVar("Value")


@dataclass
class PublishedStudy:
    """One examination as its data set has it."""

    id: str
    where: str  # its position in the file, for messages
    split: str
    patient: str
    images: list[tuple[str, str]]  # path below the image folder, and the data set's name of its projection
    study_id: str | None = None
    texts: Mapping[str, str] = field(default_factory=dict)  # findings and impression, or whole
    context: Mapping[str, str] = field(default_factory=dict)  # indication, technique, comparison
    age: Any = None
    sex: Any = None
    day: str = ""  # of the examination, as in 20140915 or 2014-09-15
    prior: Plain | None = None  # as the data set names it, empty if there is none; None: the examination before


def prepare(
    preparation: Preparation,
    studies: Iterable[PublishedStudy],
    *,
    name: str,
    images: str,
    section: str,
    policy: Mapping[str, Any],
    sources: Callable[[], Mapping[str, str]],
) -> str:
    """Write the annotation and its provenance; return the counts to print.

    `images` is the folder below the root that the paths are below, `section` the one to take, `policy` what decided
    besides views and section, and `sources` gives the SHA-256 of each file once all studies are read. Raises UserError
    with the entries at fault.
    """
    options = preparation.options
    file = checked_file(preparation.root, preparation.annotation, fresh=preparation.fresh)
    entries = Entries(section=section, options=options, has_image=_usable(preparation, images))
    with bar(total=None, title=name, unit="study", delay_s=1) as shown_studies:
        for study in studies:
            entries.add(study)
            shown_studies.update()
    refuse(f"data.root={preparation.root}", entries.faults)
    if not options["partial"]:
        advice = "\nprepare.partial=true leaves out what is not on disk, or damaged"
        refuse(f"images are missing below {preparation.root / images}", entries.missing, advice=advice)
    priors = entries.find_priors()
    counts = entries.counts() | {"priors": vars(priors)}
    summary = described(counts)
    if not any(entries.splits.values()):
        raise UserError(f"{preparation.root}: no study is left\n{summary}")
    return write_prepared(
        preparation,
        file,
        entries.splits,
        layout=name,
        policy={**policy, "views": options["views"], "partial": options["partial"], "sections": section},
        summary=summary,
        images=images,
        counts=counts,
        sources_sha256=dict(sources()),
    )


def _usable(preparation: Preparation, images: str) -> Callable[[str], bool]:
    """Whether an image is there; with prepare.partial, whether training can use it, which opens every file."""
    folder = preparation.root / images
    if not preparation.options["partial"]:
        return lambda path: is_file(folder / path)
    resolved = folder.resolve()
    return lambda path: image_fault(folder / path, resolved) is None


class Entries:
    """The entries of an annotation, by split, and what was left out and why."""

    def __init__(self, *, section: str, options: Mapping[str, Any], has_image: Callable[[str], bool]) -> None:
        self.splits: dict[str, list[Plain]] = {split: [] for split in SPLITS}
        self.examinations: list[Examination] = []
        self.faults: list[str] = []
        self.missing: list[str] = []
        self._section, self._has_image = section, has_image
        self._views: str = options["views"]
        self._policy = Policy(sections=section)
        self._read, self._dropped, self._unreadable = Counter[str](), Counter[str](), Counter[str]()
        self._by_view = Counter[str]()
        self._named: dict[str, Plain] = {}  # the prior of each study that names it
        self._dropped_priors = 0
        self._first: dict[tuple[str, str], str] = {}  # of each id and patient, where it is first and its split

    def add(self, study: PublishedStudy) -> None:
        """Make an entry of a study that has a report and an image of the views."""
        if (fault := self._fault(study)) is not None:
            self.faults.append(f"{study.where}: {fault}")
            return
        self._read[study.split] += 1
        placed = sorted(((path, position_of(view)) for path, view in study.images), key=lambda image: rank(image[1]))
        chosen = [(path, position) for path, position in placed if is_selected(position, self._views)]
        there = [image for image in chosen if self._has_image(image[0])]
        self.missing += [path for path, _ in chosen if (path, _) not in there]
        report, reason = self._report(study)
        if not there:
            report, reason = None, "images not on disk, or damaged" if chosen else "no image of these views"
        entry = self._entry(study, there, report)
        if report is None:
            self._dropped[reason] += 1
        else:
            self.splits[study.split].append(entry)
            self._by_view.update(position or "(unknown)" for _, position in there)
        if study.prior:
            self._named[study.id] = study.prior
        elif study.prior is None:
            self.examinations.append(
                Examination(
                    patient=study.patient,
                    split=study.split,
                    at=day_number(study.day),
                    entries=() if report is None else (entry,),
                    left_out=_written_out(entry, study.texts) if report is None and there else None,
                )
            )

    def find_priors(self) -> PriorCounts:
        """Give the entries their priors: the examination before, or the one that the data set names.

        A named prior that is no entry is written out with its image; without an image it is left out.
        """
        counts = add_priors(self.examinations)
        for entries in self.splits.values():
            ids = {entry["id"] for entry in entries}
            for entry in entries:
                if (prior := self._named.get(entry["id"])) is None:
                    continue
                if prior["id"] in ids:
                    prior = {key: value for key, value in prior.items() if key in ("id", "days")}
                elif not all(map(self._has_image, prior["image_path"])):
                    self._dropped_priors += 1
                    continue
                else:
                    counts.written_out += 1
                entry["prior"] = prior
                counts.entries_with_prior += 1
        return counts

    def counts(self) -> Plain:
        return {
            "studies_read": {split: self._read[split] for split in SPLITS},
            "dropped": dict(sorted(self._dropped.items())),
            "studies_kept": self._read.total() - self._dropped.total(),
            "entries": {split: len(entries) for split, entries in self.splits.items()},
            "images_by_view": dict(sorted(self._by_view.items())),
            "files_missing_or_damaged": len(self.missing),
            "priors_without_image": self._dropped_priors,
            "values_not_read": dict(sorted(self._unreadable.items())),
        }

    def _fault(self, study: PublishedStudy) -> str | None:
        """What no option accepts: an id that is there twice, a study or a patient of two splits."""
        if study.split not in SPLITS:
            return f"split {shown(study.split) or '(empty)'} is none of train, validation and test"
        for kind, value in (("id", study.id), ("patient", study.patient)):
            if not value:
                return f"the study has no {kind}"
            before = self._first.setdefault((kind, value), study.split if kind == "patient" else study.where)
            if kind == "id" and before != study.where:
                return f"study {shown(value)} is also in {before}"
            if kind == "patient" and before != study.split:
                return f"patient {shown(value)} is in {study.split} and in {before}: a patient belongs to one split"
        return None

    def _report(self, study: PublishedStudy) -> tuple[str | None, str]:
        texts = {kind: text for kind, text in study.texts.items() if text}
        if self._section in texts:
            return texts[self._section], ""
        if not texts or self._section == WHOLE:
            return None, "no report"
        return choose(texts, self._policy)

    def _entry(self, study: PublishedStudy, images: list[tuple[str, str]], report: str | None) -> Plain:
        entry: Plain = {"id": study.id}
        if study.study_id:
            entry["study_id"] = study.study_id
        entry |= {"subject_id": study.patient, "report": report}
        entry["image_path"] = [path for path, _ in images]
        if any(position for _, position in images):
            entry["views"] = [position for _, position in images]
        entry |= {kind: text for kind, text in study.context.items() if text}
        if (age := self._value("age", study.age, age_of)) is not None:
            entry["age"] = round(age, 2)
        if (sex := self._value("sex", study.sex, sex_of)) is not None:
            entry["sex"] = sex
        return entry

    def _value(self, kind: str, value: Any, read: Callable[[Any], Value]) -> Value | None:
        """A value of the patient; one that cannot be read is left out and counted."""
        try:
            return read(value)
        except ValueError:
            self._unreadable[kind] += 1
            return None


def one_text(value: Any) -> str:
    """A text of the data set on one line; empty if it is missing."""
    return one_line(text_of(value))


def day_number(day: str) -> float | None:
    """The day of a date such as 20140915 or 2014-09-15, for differences; None if it is none."""
    try:
        return float(day_of(day.removesuffix(".0"), "")[0])
    except ValueError:
        return None


def _written_out(entry: Plain, texts: Mapping[str, str]) -> Plain | None:
    """An examination that is no entry, as the prior of another one: with its images, and the report that it has."""
    images: Plain = {key: entry[key] for key in ("image_path", "views") if key in entry}
    return prior_left_out(entry["id"], images, next(filter(None, texts.values()), None))


def described(counts: Mapping[str, Any]) -> str:
    """The counts as lines to print."""
    rows = {name: counts[name.replace(" ", "_")] for name in ("studies read", "dropped", "entries", "images by view")}
    rows["priors"] = spaced({name: number for name, number in counts["priors"].items() if number})
    if counts["values_not_read"]:
        rows["not read"] = counts["values_not_read"]
    if counts["priors_without_image"]:
        rows["left out"] = {"priors whose image is not on disk": counts["priors_without_image"]}
    return counts_table(rows)
