"""Reports in R2Gen's format: an annotation.json of three splits next to a folder of images."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from r2gen.config.plain import Plain
from r2gen.data import layouts, table
from r2gen.data.annotation_context import resolve_priors
from r2gen.data.annotation_entry import NoReport, read_study
from r2gen.data.annotation_fault import Fault
from r2gen.data.annotation_file import absent, read_splits, refuse
from r2gen.data.cleaning import Cleaner
from r2gen.data.image_check import check_images, link_fault
from r2gen.data.images import read_image
from r2gen.data.prepared_files import given, read_provenance
from r2gen.data.reports import SPLITS, ImageFile, Study, digest_of
from r2gen.errors import UserError, shown
from r2gen.runs.progress import over
from r2gen.runs.special_files import refuse_special

NOT_STATED = "not stated"
MANY_ENTRIES = 50_000  # take seconds to read, which a line and a progress bar show
NOT_DECIDING = ("root", "check", "section")  # arguments that do not decide the studies


class AnnotatedReports:
    """Studies of `{"train": [{"id", "report", "image_path": [image, ...]}], "val": [...], "test": [...]}`.

    A study has as many views as image_path names, in that order (a backslash is read as a slash). Optional keys are
    those of annotation_context.py, and `study_id` and `subject_id`, which no two splits may share. The constructor
    checks every entry, `check()` the images as image_check.py describes (check=fast or full; none checks no image).
    Both raise UserError with the file and the entries. gray_bits is the number of bits that 16-bit images without an
    sBIT chunk use (images.py). section names the part of a report that was taken, for signatures only; null: what
    task=prepare wrote. images=null: the folder that task=prepare wrote, or else `images`.
    """

    def __init__(
        self,
        *,
        root: str | None,
        cleaner: Literal["iu_xray", "mimic_cxr", "none"],  # spelt out: run.py reads it from this source
        annotation: str = "annotation.json",
        images: str | None = "images",
        check: Literal["fast", "full", "none"] = "fast",
        gray_bits: int | None = None,
        section: str | None = None,
    ) -> None:
        folder = Path(given(root)).expanduser()
        if not folder.is_dir():
            raise UserError(
                f"data.root={root} does not exist. Set it to the folder that contains {annotation} and "
                f"{images or table.IMAGES}/."
            )
        if gray_bits is not None and not 8 <= gray_bits <= 16:
            raise UserError(f"data.gray_bits={gray_bits}: a 16-bit image uses 8 to 16 bits.")
        self.cleaner: Cleaner = cleaner
        self._images = folder / (images or prepared_images(folder / annotation))
        self._check, self._gray_bits, self._section = check, gray_bits, section
        self._file = folder / annotation
        self._faults: list[str] = []
        self._without_report = dict.fromkeys(SPLITS, 0)
        self._first: dict[str, dict[str, str]] = {"id": {}, "study_id": {}, "subject_id": {}}  # value to first entry
        self._identified = {"entries": 0, "study_id": 0, "subject_id": 0}
        began = time.monotonic()
        entries = read_splits(self._file)
        read = {split: self._read_split(split, entries.get(split, [])) for split in SPLITS}
        self._refuse_split_without_reports(read)
        refuse(str(self._file), self._faults or resolve_priors(read))
        self._studies = {split: tuple(studies) for split, studies in read.items()}
        if not any(self._studies.values()):
            raise UserError(f"{self._file} contains no study in any of {', '.join(SPLITS)}.")
        self._first = {}
        self._seconds = time.monotonic() - began

    @classmethod
    def digest(cls, arguments: Mapping[str, Any]) -> str:
        """16 hex digits of the annotation's bytes and of the arguments that decide what is read from it."""
        root, name = given(arguments["root"]), arguments.get("annotation", "annotation.json")
        file = Path(root) / name
        refuse_special(file)
        if not file.is_file():
            raise absent(Path(root), name)
        deciding = {name: value for name, value in arguments.items() if name not in NOT_DECIDING}
        return digest_of(cls, deciding, contents=file.read_bytes())

    @staticmethod
    def prepare(
        arguments: Mapping[str, Any], options: Mapping[str, Any], *, made: Mapping[str, Any], fresh: bool
    ) -> str:
        """Write the annotation from a table, or from a published layout (layouts.py); return the counts to print.

        `arguments` are those of a configuration's data set, `options` its group `prepare`; `made` (date and code
        revision) is recorded.
        """
        return layouts.prepare(arguments, options, made=made, fresh=fresh)

    @property
    def section(self) -> str:
        """The value of data.section, or else the one that task=prepare wrote next to this annotation."""
        if self._section is not None:
            return self._section
        facts = read_provenance(self._file)
        try:
            return NOT_STATED if facts is None else str(facts["policy"]["sections"])
        except (KeyError, TypeError):
            return NOT_STATED

    def check(self) -> None:
        """Check header and end of every image (data.check=fast), or decode every image (full), or do nothing (none)."""
        if self._identified["entries"] >= MANY_ENTRIES:
            print(
                f"{self._file}: {self._identified['entries']:,} entries read and checked in {self._seconds:.0f} s",
                flush=True,
            )
        if self._check == "none":
            return
        named: dict[str, str] = {}  # each image once, with the entry that names it first
        for split, studies in self._studies.items():
            for index, study in enumerate(studies):
                entry = f"{split}[{index}] (id {shown(study.id)})"
                for view in study.views:
                    named.setdefault(view, entry)
                for view in study.prior.views if study.prior is not None else ():
                    named.setdefault(view, f"{entry}, prior")
        check_images(
            named, self._images, annotation=self._file, decode=self._check == "full", gray_bits=self._gray_bits
        )

    def splits(self) -> Mapping[str, int]:
        """How many entries the annotation has, and how many name their study and their patient."""
        return self._identified

    def studies(self, split: str) -> Sequence[Study]:
        """The studies of train, val or test in the order of the file; empty if the split is."""
        if split not in self._studies:
            raise UserError(f"data.split={split} is none of {', '.join(SPLITS)}.")
        return self._studies[split]

    def image(self, view: str, *, at_least_px: int | None = None) -> Image.Image:
        """The image named in Study.views, 8-bit gray (mode L), as images.read_image returns it.

        Raises UserError for one that cannot be read, or (unless check=none) for a link that leaves the image folder.
        """
        file = self.image_file(view)
        return read_image(file.path, at_least_px=at_least_px, gray_bits=file.gray_bits)

    def image_file(self, view: str) -> ImageFile:
        """The file of an image. Raises UserError (unless check=none) for a link that leaves the image folder."""
        path = self._images / view
        if self._check != "none" and (fault := link_fault(path, self._images)):  # task=evaluate may skip check()
            raise UserError(f"image {path} {fault}")
        return ImageFile(path, self._gray_bits)

    def _read_split(self, split: str, entries: list[Any]) -> list[Study]:
        studies = []
        for index, entry in enumerate(over(entries, title=self._file.name, unit="entry")):
            entries[index] = None  # the study takes its memory
            where = f"{split}[{index}]"
            try:
                study = read_study(entry, self.cleaner)
                self._refuse_repeated(study.id, entry, split=split, where=where)
            except Fault as fault:
                self._without_report[split] += isinstance(fault, NoReport)
                id = isinstance(entry, dict) and isinstance(entry.get("id"), str) and entry["id"]
                self._faults.append(f"{where} (id {shown(id)}): {fault}" if id else f"{where} {fault}")
                continue
            studies.append(study)
        return studies

    def _refuse_split_without_reports(self, read: Mapping[str, Sequence[Study]]) -> None:
        """Raise UserError for a split to be scored that has no report at all: reports are wanted, not scores."""
        for split, count in self._without_report.items():
            if (
                split != "train"
                and count
                and not read[split]
                and len(self._faults) == sum(self._without_report.values())
            ):
                raise UserError(
                    f"{self._file}: none of the {count:,} studies of {split} has a report, and scores need references. "
                    f"Leave {split} empty, and write reports of its images by a trained run: task=predict "
                    "run_dir=RUN studies=FOLDER out=reports.csv"
                )

    def _refuse_repeated(self, id: str, entry: Plain, *, split: str, where: str) -> None:
        """Refuse an id that is used twice, and a study or patient of two splits: scores would be of training data."""
        self._identified["entries"] += 1
        first = self._first["id"].setdefault(id, where)
        if first != where:
            raise Fault(f"id {shown(id)} is that of {first} and of {where}: ids must be unique, also across splits")
        for key, what in (("study_id", "study"), ("subject_id", "patient")):
            value = entry.get(key)
            if value is None:
                continue
            self._identified[key] += 1
            if not isinstance(value, str | int):
                raise Fault(f"{key} {value!r:.40} is neither a number nor a string")
            first = self._first[key].setdefault(str(value), where)
            if not first.startswith(f"{split}["):
                raise Fault(
                    f"{what} {shown(str(value))} is that of {first} and of {where}: a {what} belongs to one split "
                    f"(compared by {key})"
                )


def prepared_images(annotation: Path) -> str:
    """The image folder that task=prepare recorded, if it is below the folder of the annotation; otherwise `images`."""
    facts = read_provenance(annotation)
    images = facts.get("images") if isinstance(facts, dict) else None
    # The file may come from elsewhere: it cannot name a folder outside.
    safe = isinstance(images, str) and images and not Path(images).is_absolute() and ".." not in Path(images).parts
    return str(images) if safe else table.IMAGES
