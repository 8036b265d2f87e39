"""An annotation in R2Gen's format from the original archives of IU X-Ray: task=prepare data=iu_xray.

ROOT/NLMCXR_reports/ecgen-radiology/1.xml, ... (reports of Open-i), ROOT/NLMCXR_png/<id>.png and, if it is there,
ROOT/indiana_projections.csv. docs/data.md lists what could not be verified.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r2gen.config.plain import Plain
from r2gen.data.annotation_file import read_splits, refuse
from r2gen.data.mimic import Policy, choose
from r2gen.data.open_i import OpenIReport, Projections, read_report
from r2gen.data.positions import is_selected, rank
from r2gen.data.prepared_files import Preparation, checked_file, counted, counts_table, sha256_of_file, write_prepared
from r2gen.data.random_split import check_shares, split_by_patient
from r2gen.data.reports import SPLITS
from r2gen.errors import UserError, shown
from r2gen.runs.files import absolute, is_file
from r2gen.runs.progress import over
from r2gen.runs.untrusted import reason

READS = ("sections", "views", "split", "seed", "split_from", "reports", "partial")
REPORTS = ("NLMCXR_reports/ecgen-radiology", "ecgen-radiology", "NLMCXR_reports", "reports")  # where they are searched
PROJECTIONS = "indiana_projections.csv"
_ID = re.compile(r"CXR(\d+)(?:_|$)", re.ASCII)  # R2Gen's CXR1_1_IM-0001 and CXR2384_IM-0942, and our CXR2384


@dataclass(frozen=True)
class Listed:
    """A study of the annotation whose split is taken."""

    id: str
    split: str


def prepare(preparation: Preparation) -> str:
    """Write the annotation and its provenance, and return what to print.

    Raises UserError naming the files at fault: a report that is no XML of Open-i, an image that is not on disk (unless
    prepare.partial), or no report at all.
    """
    root, options = preparation.root, preparation.options
    check_shares(options["split"])
    reports = _reports_folder(root, options["reports"])
    images = _image_folder(root, preparation.images)
    file = checked_file(root, preparation.annotation, fresh=preparation.fresh)
    positions = _projections(root, options["views"])
    listed = None if options["split_from"] is None else listed_in(Path(absolute(options["split_from"])))
    read, sha256 = read_all(reports)
    entries, counts = _entries(read, root / images, positions=positions, listed=listed, options=options)
    splits: dict[str, list[Plain]] = {split: [] for split in SPLITS}
    homes = _homes(entries, listed, options)
    for number, entry in entries.items():
        splits[homes[number]].append(entry)
    counts["entries"] = {split: len(some) for split, some in splits.items()}
    if not entries:
        raise UserError(
            f"{reports}: no study is left ({counted(counts['dropped'])}). Check prepare.sections and views."
        )
    sources = {"reports": sha256}
    if positions is not None:
        sources[PROJECTIONS] = sha256_of_file(root / PROJECTIONS)
    section = options["sections"] or "findings"
    written = write_prepared(
        preparation,
        file,
        splits,
        layout="iu_xray",
        policy={name: options[name] for name in READS if name != "reports"}
        | {"sections": section, "split": list(check_shares(options["split"]))},
        summary=described(counts),
        reports=str(reports),
        images=images,
        counts=counts,
        sources_sha256=sources,
    )
    return f"{written}\n\nnext: {_next_command(preparation, images, section)}"


def _next_command(preparation: Preparation, images: str, section: str) -> str:
    command = f"python run.py data=iu_xray data.root={preparation.root} data.images={images}"
    command += f" data.annotation={preparation.annotation}" if preparation.annotation != "annotation.json" else ""
    return command + (" data.section=null" if section != "findings" else "")


def _reports_folder(root: Path, option: str | None) -> Path:
    folders = [root / name for name in REPORTS] if option is None else [Path(absolute(option))]
    for folder in folders:
        if folder.is_dir() and next(folder.glob("*.xml"), None) is not None:
            return folder
    if option is not None:
        raise UserError(f"prepare.reports={shown(option)} contains no .xml file. Set it to the folder ecgen-radiology.")
    raise UserError(
        f"data.root={root}: there is no XML report in {', '.join(REPORTS)}. Unpack NLMCXR_reports.tgz there, or set "
        "prepare.reports to the folder ecgen-radiology. R2Gen's own annotation is trained on as it is."
    )


def _image_folder(root: Path, images: str | None) -> str:
    """data.images, if it exists."""
    name = images or "images"
    if (root / name).is_dir():
        return name
    fix = "data.images=NLMCXR_png" if (root / "NLMCXR_png").is_dir() else "data.images to the folder of the PNG files"
    raise UserError(f"{root / name} does not exist. Set {fix}, here and for the training.")


def _projections(root: Path, views: str) -> Projections | None:
    """The positions of the images, which prepare.views needs; None without their table."""
    if (root / PROJECTIONS).is_file():
        return Projections(root / PROJECTIONS)
    if views == "all":
        return None
    raise UserError(
        f"prepare.views={views}: the XML names no projections. Put {PROJECTIONS} (columns uid, filename, projection) "
        f"into {root}, or leave prepare.views out."
    )


def read_all(folder: Path) -> tuple[list[OpenIReport], str]:
    """The reports in the order of their numbers, and a SHA-256 of all. Raises UserError with the files at fault."""
    reports, faults, digest = dict[str, OpenIReport](), list[str](), hashlib.sha256()
    file_of: dict[str, str] = {}
    for file in over(sorted(folder.glob("*.xml")), title="reports", unit="report"):
        try:
            report = read_report(file)
            digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
        except (OSError, ValueError) as error:
            faults.append(f"{file.name}: {reason(error)}")
            continue
        if report.number in reports:
            faults.append(f"{file.name}: uId CXR{report.number} is also that of {file_of[report.number]}")
        reports[report.number], file_of[report.number] = report, file.name
    refuse(str(folder), faults)
    return sorted(reports.values(), key=lambda report: int(report.number)), digest.hexdigest()


def listed_in(annotation: Path) -> dict[str, Listed]:
    """Report number to its id and split in an annotation of R2Gen. Raises UserError unless its ids are IU X-Ray's."""
    listed: dict[str, Listed] = {}
    for split, entries in read_splits(annotation).items():
        for index, entry in enumerate(entries):
            id = entry.get("id") if isinstance(entry, dict) else None
            number = number_of(id) if isinstance(id, str) else None
            if number is None or number in listed:
                what = "repeats a report of another entry" if number else "is not like CXR2384_IM-0942"
                raise UserError(f"prepare.split_from={annotation}: {split}[{index}]: id {shown(id)} {what}.")
            listed[number] = Listed(str(id), split)
    return listed


def number_of(id: str) -> str | None:
    """The number of the report (the uid of its tables) in an id such as CXR2384_IM-0942; None if it is none."""
    match = _ID.match(id)
    return None if match is None else match[1]


def _entries(
    reports: Sequence[OpenIReport],
    images: Path,
    *,
    positions: Projections | None,
    listed: Mapping[str, Listed] | None,
    options: Mapping[str, Any],
) -> tuple[dict[str, Plain], Plain]:
    """Report number to its entry, and the counts."""
    policy = Policy(sections=options["sections"] or "findings")
    entries, dropped, images_by_view, missing = dict[str, Plain](), Counter[str](), Counter[str](), list[str]()
    for report in reports:
        views = positions.of(report.number, report.images) if positions is not None else [""] * len(report.images)
        if listed is not None and report.number not in listed:
            dropped["not in prepare.split_from"] += 1
            continue
        chosen = [pair for pair in zip(report.images, views, strict=True) if is_selected(pair[1], options["views"])]
        pairs = sorted((pair for pair in chosen if is_file(images / f"{pair[0]}.png")), key=lambda pair: rank(pair[1]))
        missing += [f"{image}.png (CXR{report.number})" for image, view in chosen if (image, view) not in pairs]
        text, without = choose(report.texts, policy)
        if not pairs or text is None:
            dropped[without if text is None else "no image"] += 1
            continue
        images_by_view.update(view or "(unknown)" for _, view in pairs)
        id = f"CXR{report.number}" if listed is None else listed[report.number].id
        entries[report.number] = _entry(id, report, text, pairs)
    if not options["partial"]:
        refuse(
            f"images are missing in {images}", missing, advice="\nprepare.partial=true leaves out what is not on disk"
        )
    texts = {name: sum(name in entry for entry in entries.values()) for name in ("indication", "comparison", "mesh")}
    counts = {
        "reports_read": len(reports),
        "dropped": dict(sorted(dropped.items())),
        "texts": texts,
        "images_by_projection": dict(sorted(images_by_view.items())),
        "files_missing": len(missing),
    }
    if listed is not None:
        counts["only_in_split_from"] = len(listed.keys() - {report.number for report in reports})
    return entries, counts


def _entry(id: str, report: OpenIReport, text: str, pairs: Sequence[tuple[str, str]]) -> Plain:
    entry: Plain = {"id": id, "report": text, "image_path": [f"{image}.png" for image, _ in pairs]}
    entry |= {"views": [view for _, view in pairs]} if any(view for _, view in pairs) else {}
    entry |= {name: report.texts[name] for name in ("indication", "comparison") if name in report.texts}
    return entry | ({"mesh": list(report.mesh)} if report.mesh else {})


def _homes(
    entries: Mapping[str, Plain], listed: Mapping[str, Listed] | None, options: Mapping[str, Any]
) -> dict[str, str]:
    """Report number to split. Each report is of another patient, as far as the collection says."""
    if listed is not None:
        return {number: listed[number].split for number in entries}
    return split_by_patient({number: number for number in entries}, shares=options["split"], seed=options["seed"])


def described(counts: Plain) -> str:
    """The counts as lines to print."""
    rows = {name: counts[name.replace(" ", "_")] for name in ("reports read", "dropped", "entries")}
    lines = [counts_table({**rows, "with": counts["texts"], "images by view": counts["images_by_projection"]})]
    if counts.get("only_in_split_from"):
        lines.append(f"{counts['only_in_split_from']:,} studies of prepare.split_from have no XML report")
    return "\n".join(lines)
