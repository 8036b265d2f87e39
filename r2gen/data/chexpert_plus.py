"""An annotation in R2Gen's format from CheXpert Plus: task=prepare data=chexpert_plus.

ROOT/df_chexpert_plus_240401.csv (one row for each image, with the sections of its report) and the images below
ROOT/PNG, ROOT/train or ROOT/DICOM. docs/data.md lists what could not be verified.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r2gen.config.plain import Plain
from r2gen.data.annotation_file import refuse
from r2gen.data.chexpert_plus_table import CheXpertStudy, studies_of
from r2gen.data.mimic import Policy, any_section, choose
from r2gen.data.positions import is_selected, rank
from r2gen.data.prepared_files import Preparation, checked_file, counted, counts_table, one_file, spaced, write_prepared
from r2gen.data.priors import Examination, PriorCounts, add_priors, prior_left_out
from r2gen.data.random_split import check_shares, split_by_patient
from r2gen.data.reports import SPLITS
from r2gen.data.table_file import open_table, sha256_of
from r2gen.errors import UserError, shown
from r2gen.runs.files import is_file

READS = ("sections", "views", "split", "seed", "partial")
TABLE = "df_chexpert_plus_*.csv"
FOLDERS = ("PNG", ".", "DICOM/Uncompressed", "DICOM")  # where train/ and valid/ are searched
SUFFIXES = (".png", ".jpg", ".dcm")
MOST_OLDER = 0.1  # of priors at another age than the study's; it is 0.5 if the order has nothing to do with time


@dataclass
class ImageTree:
    """The folder with train/patient1/study1/view1_frontal, with any of SUFFIXES."""

    folder: Path
    last: str = SUFFIXES[0]  # the suffix of the image before, which is tried first

    def find(self, path: str) -> str | None:
        """The path with its suffix; None if the image is missing."""
        for suffix in (self.last, *SUFFIXES):
            if is_file(self.folder / (path + suffix)):
                self.last = suffix
                return path + suffix
        return None


def prepare(preparation: Preparation) -> str:
    """Write the annotation and its provenance, and return what to print.

    Raises UserError naming the rows at fault, or the images that are not on disk (unless prepare.partial).
    """
    root, options = preparation.root, preparation.options
    check_shares(options["split"])
    table = open_table(one_file(root, TABLE, named=TABLE, folder="the table"))
    images = _image_folder(root, preparation.images)
    file = checked_file(root, preparation.annotation, fresh=preparation.fresh)
    studies = studies_of(table)
    if options["split"] is not None:
        homes = split_by_patient(
            {id: study.patient for id, study in studies.items()}, shares=options["split"], seed=options["seed"]
        )
        for id, study in studies.items():
            study.split = homes[id]
    splits, counts = _prepared(studies.values(), ImageTree(root / images), options)
    if not any(splits.values()):
        raise UserError(
            f"{table.path}: no study is left ({counted(counts['dropped'])}). Check prepare.sections and views."
        )
    policy = {name: options[name] for name in READS} | {"sections": options["sections"] or "findings"}
    return write_prepared(
        preparation,
        file,
        splits,
        layout="chexpert_plus",
        policy=policy,
        summary=described(counts),
        images=images,
        counts=counts,
        sources_sha256={table.path.name: sha256_of(table)},
    )


def _image_folder(root: Path, images: str | None) -> str:
    """The folder with train/ or valid/, as data.images names it."""
    for name in FOLDERS if images is None else (images,):
        if (root / name / "train").is_dir() or (root / name / "valid").is_dir():
            return name
    fix = "Unpack the images there, or set data.images to the folder that contains train/ and valid/."
    if images is not None:
        raise UserError(f"data.images={shown(images)}: there is no train/ or valid/ in it. {fix}")
    raise UserError(f"data.root={root}: there is no train/ or valid/ in {', '.join(FOLDERS)}. {fix}")


def _prepared(
    studies: Iterable[CheXpertStudy], tree: ImageTree, options: Mapping[str, Any]
) -> tuple[dict[str, list[Plain]], Plain]:
    """The entries of each split, and the counts."""
    policy = Policy(sections=options["sections"] or "findings")
    splits: dict[str, list[Plain]] = {split: [] for split in SPLITS}
    dropped, images_by_view, read, missing = Counter[str](), Counter[str](), Counter[str](), list[str]()
    examinations, differing = list[Examination](), 0
    for study in studies:
        read[study.split] += 1
        differing += study.differs
        images, absent = _images_of(study, tree, options["views"])
        missing += absent
        if images["image_path"]:
            report, reason = choose(study.texts, policy)
        else:
            report, reason = None, "image not on disk" if absent else f"no {options['views']} image"
        entries, left_out = list[Plain](), None
        if report is None:
            dropped[reason] += 1
            left_out = prior_left_out(study.id, images, any_section(study.texts))
        else:
            images_by_view.update(images["views"])
            entries = [_entry(study, report, images)]
            splits[study.split] += entries
        examinations.append(Examination(study.patient, study.split, study.order, entries, left_out))
    if not options["partial"]:
        refuse(
            f"images are missing in {tree.folder} (as {', '.join(SUFFIXES)})",
            missing,
            advice="\nprepare.partial=true leaves out what is not on disk",
        )
    priors = _judged_by_age(splits, studies, add_priors(examinations, in_days=False))
    counts = {
        "studies_read": {split: read[split] for split in SPLITS},
        "studies_with_differing_rows": differing,
        "dropped": dict(sorted(dropped.items())),
        "entries": {split: len(entries) for split, entries in splits.items()},
        "images_by_view": dict(sorted(images_by_view.items())),
        "priors": priors,
        "files_missing": len(missing),
    }
    return splits, counts


def _images_of(study: CheXpertStudy, tree: ImageTree, views: str) -> tuple[Plain, list[str]]:
    """The images of these views on disk, frontal ones first, and the names of those that are missing."""
    chosen = sorted((rank(view), name, view) for name, view in study.images if is_selected(view, views))
    paths = [(tree.find(name), name, view) for _, name, view in chosen]
    on_disk = [(path, view) for path, _, view in paths if path is not None]
    images = {"image_path": [path for path, _ in on_disk], "views": [view for _, view in on_disk]}
    return images, [name for path, name, _ in paths if path is None]


def _entry(study: CheXpertStudy, report: str, images: Plain) -> Plain:
    entry: Plain = {"id": study.id, "study_id": study.id, "subject_id": study.patient, "report": report, **images}
    entry |= {name: study.texts[name] for name in ("indication", "comparison", "technique") if name in study.texts}
    patient = {"age": study.age, "sex": study.sex}
    return entry | {name: value for name, value in patient.items() if value is not None}


def _judged_by_age(splits: Mapping[str, list[Plain]], studies: Iterable[CheXpertStudy], counts: PriorCounts) -> Plain:
    """The counts of priors, after removing those at which the patient was older than at the study.

    If they are more than MOST_OLDER of those at another age, the order is not that of time, and all are removed.
    """
    ages = {study.id: study.age for study in studies}
    entries = [entry for some in splits.values() for entry in some if "prior" in entry]
    older, other = list[Plain](), 0
    for entry in entries:
        age, before = ages[entry["id"]], ages[entry["prior"]["id"]]
        if age is not None and before is not None and age != before:
            other += 1
            older += [entry] if before > age else []
    is_order = len(older) <= MOST_OLDER * other
    for entry in older if is_order else entries:
        del entry["prior"]
    written_out = sum(len(entry["prior"]) > 2 for entry in entries if "prior" in entry)  # more than id and order
    return {
        "entries_with_prior": sum("prior" in entry for entry in entries),
        "written_out": written_out,
        "time_unknown": counts.time_unknown,
        "of_another_age": other,
        "of_a_greater_age": len(older),
        "order_is_of_time": is_order,
    }


def described(counts: Plain) -> str:
    """The counts as lines to print."""
    numbers = {name: number for name, number in counts["priors"].items() if name != "order_is_of_time"}
    rows = {name: counts[name.replace(" ", "_")] for name in ("studies read", "dropped", "entries", "images by view")}
    lines = [counts_table({**rows, "priors": spaced(numbers)})]
    if not counts["priors"]["order_is_of_time"]:
        lines.append(
            f"No priors are written: {numbers['of_a_greater_age']:,} of {numbers['of_another_age']:,} at another age "
            "are at a greater one, so patient_report_date_order is not the order of time"
        )
    if differing := counts["studies_with_differing_rows"]:
        lines.append(f"{differing:,} studies have rows with different texts: those of the first row were taken")
    return "\n".join(lines)
