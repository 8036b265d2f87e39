"""An annotation from PadChest: task=prepare data=padchest.

ROOT/PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv (or .csv.gz), a row for each image, and the images in
ROOT/<ImageDir>/<ImageID>, or anywhere below ROOT. The reports are Spanish: stemmed words in lower case. PadChest has no
split: prepare.split and prepare.seed make one by patient. docs/data.md lists what could not be verified.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from r2gen.data import published_studies
from r2gen.data.image_folder import ImageFolder
from r2gen.data.mimic_sections import WHOLE
from r2gen.data.prepared_files import Preparation, one_file
from r2gen.data.published_studies import PublishedStudy, one_text
from r2gen.data.random_split import check_shares, split_by_patient
from r2gen.data.table_columns import require
from r2gen.data.table_file import Table, open_table, sha256_of, text_of
from r2gen.errors import UserError
from r2gen.runs.files import is_file

TABLES = ("PADCHEST_chest_x_ray_images_labels_160K*.csv", "PADCHEST_chest_x_ray_images_labels_160K*.csv.gz")
COLUMNS = (
    *("ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM"),
    *("Projection", "Report"),
)
EXCLUDED = "EXCLUDE"  # the Projection of an image that is no chest radiograph, or unusable


@dataclass
class PadChestStudy:
    """The rows of one study."""

    row: int
    patient: str
    day: str
    birth: str
    sex: str
    images: list[tuple[str, str, str]] = field(default_factory=list)  # ImageDir, ImageID, Projection
    reports: list[str] = field(default_factory=list)  # different ones, in the order of the rows

    @property
    def age(self) -> int | None:
        """In whole years: the day of birth is not published."""
        with suppress(ValueError):
            return int(self.day[:4]) - int(float(self.birth))
        return None


def prepare(preparation: Preparation) -> str:
    """Write the annotation; return the counts to print."""
    options, images = preparation.options, preparation.images or "."
    shares = check_shares(options["split"])
    table = table_in(preparation.root)
    studies = read(table)
    patients = {id: study.patient for id, study in studies.items()}
    homes = split_by_patient(patients, shares=shares, seed=options["seed"])
    image = finder(preparation.root / images)

    def published() -> Iterator[PublishedStudy]:
        for id, study in studies.items():
            yield PublishedStudy(
                id=id,
                where=table.at(study.row),
                split=homes[id],
                patient=study.patient,
                study_id=id,
                images=[
                    (image(name, folder), projection)
                    for folder, name, projection in study.images
                    if projection != EXCLUDED
                ],
                texts={WHOLE: " ".join(study.reports)},
                age=study.age,
                sex=study.sex,
                day=study.day,
            )

    return published_studies.prepare(
        preparation,
        published(),
        name="padchest",
        images=images,
        section=WHOLE,
        policy={"split": list(shares), "seed": options["seed"]},
        sources=lambda: {table.path.name: sha256_of(table)},
    )


def table_in(root: Path) -> Table:
    name = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
    return open_table(one_file(root, *TABLES, named=name, folder="PadChest"))


def read(table: Table) -> dict[str, PadChestStudy]:
    """The studies by StudyID, in the order of their first rows."""
    require(table.columns, COLUMNS, where=table.path)
    studies: dict[str, PadChestStudy] = {}
    first: dict[str, int] = {}
    for number, row in table.rows():
        cells = {name: text_of(row[name]) for name in COLUMNS}
        id, name = cells["StudyID"], cells["ImageID"]
        if not id or not name or not cells["PatientID"]:
            raise UserError(f"{table.path}, {table.at(number)}: StudyID, ImageID or PatientID is empty.")
        if first.setdefault(name, number) != number:
            raise UserError(f"{table.path}, {table.at(number)}: image {name} is also in {table.at(first[name])}.")
        study = studies.get(id)
        if study is None:
            day, birth, sex = (cells[column] for column in ("StudyDate_DICOM", "PatientBirth", "PatientSex_DICOM"))
            study = studies[id] = PadChestStudy(number, cells["PatientID"], day, birth, sex)
        if study.patient != cells["PatientID"]:
            raise UserError(
                f"{table.path}, {table.at(number)}: study {id} has another patient in {table.at(study.row)}."
            )
        study.images.append((cells["ImageDir"].removesuffix(".0"), name, cells["Projection"]))
        report = one_text(row["Report"])
        if report and report not in study.reports:
            study.reports.append(report)
    return studies


def finder(root: Path) -> Callable[..., str]:
    """A function of an image's name and folder: its path below the root, in any folder that it was unpacked to."""
    folder = ImageFolder(root)
    by_name: Mapping[str, str] = {}

    def find(name: str, parent: str = "") -> str:
        for path in (f"{parent}/{name}" if parent else name, name):
            if is_file(root / path):
                return path
        nonlocal by_name
        by_name = by_name or {Path(file).name: file for file in reversed(folder.files)}
        return by_name.get(Path(name).name, f"{parent}/{name}" if parent else name)

    return find
