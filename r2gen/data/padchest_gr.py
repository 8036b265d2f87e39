"""An annotation from PadChest-GR: task=prepare data=padchest_gr.

ROOT/grounded_reports_20240819.json (sentences in English and Spanish, and the study before), ROOT/master_table.csv
(split, patient, date), and images below ROOT. With PadChest's table in ROOT too, the images have their projections and
the studies before their dates. docs/data.md lists what could not be verified.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r2gen.config.plain import Plain
from r2gen.data import padchest, published_studies
from r2gen.data.prepared_files import Preparation, one_file, sha256_of_file, unreadable
from r2gen.data.published_studies import PublishedStudy, day_number, one_text
from r2gen.data.table import SPLIT_NAMES
from r2gen.data.table_columns import require
from r2gen.data.table_file import Table, open_table, sha256_of, text_of
from r2gen.errors import UserError, shown
from r2gen.runs.untrusted import parse_json, read_text

REPORTS, MASTER = "grounded_reports_*.json", "master_table.csv"
COLUMNS = ("StudyID", "PatientID", "split")
LONGEST_ID = 64  # digits; a StudyID has 39
FINDINGS = "findings"


@dataclass(frozen=True)
class PadChest:
    """What PadChest's own table says about the images and the days of studies; empty without it."""

    projection: Mapping[str, str]  # of each image
    day: Mapping[str, str]  # of each study


def prepare(preparation: Preparation) -> str:
    """Write the annotation; return the counts to print."""
    root, images = preparation.root, preparation.images or "."
    reports, master_file = (one_file(root, name, named=name, folder="PadChest-GR") for name in (REPORTS, MASTER))
    master = open_table(master_file)
    rows = _by_study(master)
    entries = _read(reports)
    language = preparation.options["language"] or "en"
    image = padchest.finder(root / images)
    studies = _Studies(reports, rows, _padchest(root), sentence=f"sentence_{language}", image=image)
    return published_studies.prepare(
        preparation,
        studies.published(entries),
        name="padchest_gr",
        images=images,
        section=FINDINGS,
        policy={"language": language},
        sources=lambda: {reports.name: sha256_of_file(reports), master.path.name: sha256_of(master)},
    )


def _by_study(master: Table) -> dict[str, Mapping[str, Any]]:
    """StudyID to the first of its rows, one for each finding. Raises UserError if they differ in split or patient."""
    require(master.columns, COLUMNS, where=master.path)
    rows: dict[str, Mapping[str, Any]] = {}
    for number, row in master.rows():
        before = rows.setdefault(text_of(row["StudyID"]), row)
        for name in ("split", "PatientID"):
            if before[name] != row[name]:
                raise UserError(
                    f"{master.path}, {master.at(number)}: study {row['StudyID']} has another {name} before."
                )
    return rows


def _read(file: Path) -> list[Any]:
    try:
        entries = parse_json(read_text(file), most_digits=LONGEST_ID)
    except (OSError, ValueError) as error:
        raise unreadable(file, error) from error
    if not isinstance(entries, list):
        raise UserError(f"{file} contains a {type(entries).__name__}, not a list of studies.")
    return entries


def _padchest(root: Path) -> PadChest:
    if not any(next(root.glob(pattern), None) for pattern in padchest.TABLES):
        return PadChest({}, {})
    studies = padchest.read(padchest.table_in(root))
    projection = {name: view for study in studies.values() for _, name, view in study.images}
    return PadChest(projection, {id: study.day for id, study in studies.items()})


class _Studies:
    """Makes the studies of the entries in the file of reports."""

    def __init__(
        self,
        file: Path,
        rows: Mapping[str, Mapping[str, Any]],
        original: PadChest,
        *,
        sentence: str,
        image: Callable[..., str],
    ) -> None:
        self._file, self._rows, self._padchest, self._sentence, self._image = file, rows, original, sentence, image

    def published(self, entries: list[Any]) -> Iterator[PublishedStudy]:
        for number, entry in enumerate(entries, start=1):
            where = f"{self._file.name}, study {number}"
            if not isinstance(entry, dict):
                raise UserError(f"{where} is {entry!r:.40} and not an object.")
            id, name = text_of(entry.get("StudyID")), text_of(entry.get("ImageID"))
            if not id or not name:
                raise UserError(f"{where} has no StudyID or no ImageID.")
            row = self._rows.get(id)
            if row is None:
                raise UserError(f"{where}: study {shown(id)} is not in {MASTER}.")
            day = self._day(id)
            yield PublishedStudy(
                id=id,
                where=where,
                split=SPLIT_NAMES.get(text_of(row["split"]).lower(), text_of(row["split"])),
                patient=text_of(row["PatientID"]),
                study_id=id,
                images=[(self._image(name), self._padchest.projection.get(name, ""))],
                texts={FINDINGS: self._report(entry, where)},
                age=text_of(row.get("PatientAge")).removesuffix(".0"),
                sex=text_of(row.get("PatientSex_DICOM")),
                day=day,
                prior=self._prior(entry, row, day),
            )

    def _day(self, study: str) -> str:
        row = self._rows.get(study, {})
        return text_of(row.get("StudyDate_DICOM")) or text_of(row.get("StudyDate")) or self._padchest.day.get(study, "")

    def _report(self, entry: Plain, where: str) -> str:
        """The sentences of all findings, each with its full stop."""
        findings = entry.get("findings")
        if not isinstance(findings, list) or not all(isinstance(finding, dict) for finding in findings):
            raise UserError(f"{where}: findings {findings!r:.40} is not a list of objects.")
        sentences = [one_text(finding.get(self._sentence)) for finding in findings]
        return " ".join(text if text[-1] in ".!?" else f"{text}." for text in sentences if text)

    def _prior(self, entry: Plain, row: Mapping[str, Any], day: str) -> Plain:
        """The study before, with its image; empty if there is none, or it is not earlier by the dates."""
        study = text_of(entry.get("PreviousStudyID"))
        name = text_of(entry.get("PreviousImageID")) or text_of(row.get("prior_imageID"))
        if not name:
            return {}
        prior: Plain = {"id": study or Path(name).stem}
        own, before = day_number(day), day_number(self._day(study))
        if own is not None and before is not None:
            if before >= own:
                return {}
            prior["days"] = own - before
        return prior | {"image_path": [self._image(name)], "views": [self._padchest.projection.get(name, "")]}
