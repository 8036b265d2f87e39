"""An annotation in R2Gen's format from MIMIC-CXR's official layout: task=prepare data=mimic_cxr.

ROOT/mimic-cxr-2.0.0-{split,metadata}.csv.gz, ROOT/files/p10/p10000032/s50414267.txt (the raw report) and
ROOT/files/p10/p10000032/s50414267/<dicom_id>.jpg (or .dcm). docs/data.md lists what could not be verified.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r2gen.config.plain import Plain
from r2gen.data.annotation_file import refuse
from r2gen.data.mimic_sections import LAST_PARAGRAPH, UNDER_VIEWS, sections
from r2gen.data.mimic_tables import MimicImage, find_table, images_of
from r2gen.data.positions import is_selected, rank
from r2gen.data.prepared_files import Preparation, checked_file, counts_table, spaced, write_prepared
from r2gen.data.priors import Examination, add_priors, prior_left_out
from r2gen.data.reports import SPLITS
from r2gen.errors import UserError
from r2gen.runs.files import absolute, is_file
from r2gen.runs.progress import over
from r2gen.runs.untrusted import read_text, reason

OTHER_SECTIONS = ("indication", "history", "comparison", "technique", "examination")


@dataclass(frozen=True)
class Policy:
    """Which reports and images become studies: the options of PrepareConfig."""

    sections: str = "findings"  # findings | impression | findings+impression | findings_else_impression
    without_headings: str = "drop"  # drop | last_paragraph
    views: str = "all"  # frontal | lateral | frontal+lateral | all
    entries: str = "study"  # study | film
    partial: bool = False


@dataclass(frozen=True)
class Prepared:
    """Entries by split, and the counts of studies read, kept and dropped, with reasons."""

    splits: dict[str, list[Plain]]
    counts: Plain
    reports_sha256: str


def prepare(preparation: Preparation) -> str:
    """Write the annotation and, next to it, <name>.provenance.json; return the table of counts to print.

    Raises UserError if tables cannot be read, reports or images are missing (unless prepare.partial), or the annotation
    exists (unless fresh).
    """
    root, options, images = preparation.root, preparation.options, preparation.images or "files"
    names = ("without_headings", "views", "entries", "partial")
    policy = Policy(sections=options["sections"] or "findings", **{name: options[name] for name in names})
    split_table, metadata = find_table(root, "split"), find_table(root, "metadata")
    reports = _reports_folder(root / images if options["reports"] is None else Path(absolute(options["reports"])))
    file = checked_file(root, preparation.annotation, fresh=preparation.fresh)
    listed, tables_sha256 = images_of(split_table, metadata)
    prepared = studies_of(listed, folder=root / images, reports=reports, policy=policy)
    summary = described(prepared.counts)
    if not any(prepared.splits.values()):
        raise UserError(f"{root}: no study is left\n{summary}")
    return write_prepared(
        preparation,
        file,
        prepared.splits,
        layout="mimic_cxr",
        policy=vars(policy),
        summary=summary,
        reports=str(reports),
        images=images,
        counts=prepared.counts,
        sources_sha256={**tables_sha256, "reports": prepared.reports_sha256},
    )


def _reports_folder(folder: Path) -> Path:
    if (folder / "files").is_dir():
        return folder / "files"
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist. Set prepare.reports to the folder that contains p10/, p11/.")
    return folder


def studies_of(listed: Mapping[str, list[MimicImage]], *, folder: Path, reports: Path, policy: Policy) -> Prepared:
    """The entries of every study (study id to its images) that the policy keeps, in the order of the split table."""
    splits: dict[str, list[Plain]] = {split: [] for split in SPLITS}
    dropped, kept_views, read, missing = Counter[str](), Counter[str](), Counter[str](), list[str]()
    examinations, digest = list[Examination](), hashlib.sha256()
    for study, all_images in over(listed.items(), title="studies", unit="study"):
        first = all_images[0]
        read[first.split] += 1
        chosen = [image for image in all_images if is_selected(image.view, policy.views)]
        ordered = sorted(chosen, key=lambda image: (rank(image.view), image.dicom_id))
        paths = {image: path for image in ordered if (path := _image_path(folder, image)) is not None}
        raw = _read_report(reports / first.report)
        if raw is not None:
            digest.update(f"{first.report}\0{raw}\0".encode())
        missing += [first.report] if chosen and raw is None else []
        missing += [image.path for image in chosen if image not in paths]
        parts = sections(raw or "")
        if not chosen:
            report, reason = None, f"no {policy.views} image"
        elif raw is None or not paths:
            report, reason = None, "report or images not on disk"
        else:
            report, reason = choose(parts, policy)
        images = {"image_path": list(paths.values()), "views": [image.view for image in paths]}
        entries, left_out = list[Plain](), None
        if report is None:
            dropped[reason] += 1
            left_out = prior_left_out(f"s{study}", images, any_section(parts))
        else:
            kept_views.update(image.view or "(none)" for image in paths)
            entries += _entries(study, list(paths), images=images, parts=parts, report=report, policy=policy)
            splits[first.split] += entries
        at = min((image.taken for image in all_images if image.taken is not None), default=None)
        examinations.append(Examination(first.subject_id, first.split, at, entries, left_out))
    if not policy.partial:
        head = f"files named in the tables are missing under {folder} or {reports}"
        refuse(head, missing, advice="\nprepare.partial=true leaves out what is not on disk")
    counts = {
        "studies_read": {split: read[split] for split in SPLITS},
        "dropped": dict(sorted(dropped.items())),
        "studies_kept": read.total() - dropped.total(),
        "entries": {split: len(entries) for split, entries in splits.items()},
        "films_by_view": dict(sorted(kept_views.items())),
        "priors": vars(add_priors(examinations)),
        "files_missing": len(missing),
    }
    return Prepared(splits=splits, counts=counts, reports_sha256=digest.hexdigest())


def any_section(parts: Mapping[str, str]) -> str | None:
    """The report of a prior that is no entry: findings, or else impression."""
    return choose(parts, Policy(sections="findings_else_impression"))[0]


def choose(parts: Mapping[str, str], policy: Policy) -> tuple[str | None, str]:
    """The reference report of a study, or None and the reason."""
    findings, impression, both = (parts.get(name) for name in ("findings", "impression", "findings_impression"))
    # A text under FINDINGS AND IMPRESSION serves as either; prose under PORTABLE AP CHEST is unnamed findings.
    findings = findings or both or parts.get(UNDER_VIEWS)
    if findings is None and impression is None:
        last = parts.get(LAST_PARAGRAPH)
        if policy.without_headings == "last_paragraph" and last is not None:
            return last, ""
        return None, "neither findings nor impression"
    if policy.sections == "impression":
        return (impression or both, "") if impression or both else (None, "no impression")
    if policy.sections == "findings_else_impression":
        return findings or impression, ""
    if findings is None:
        return None, "no findings"
    if policy.sections == "findings+impression":
        if impression is not None:
            return f"{findings} {impression}", ""
        return (both, "") if both else (None, "no impression")
    return findings, ""


def _entries(
    study: str,
    ordered: list[MimicImage],
    *,
    images: Plain,
    parts: Mapping[str, str],
    report: str,
    policy: Policy,
) -> Iterator[Plain]:
    """One entry per study; or one per image, with its dicom_id as id, as in R2Gen's annotation."""
    first = ordered[0]
    context = parts.get("indication") or parts.get("history")
    common = {"study_id": int(study), "subject_id": int(first.subject_id), "report": report, "split": first.split}
    common |= {"context": context} if context else {}
    common |= {name: parts[name] for name in OTHER_SECTIONS if name in parts}
    if policy.entries == "film":
        for image, path in zip(ordered, images["image_path"], strict=True):
            yield {"id": image.dicom_id, **common, "image_path": [path], "views": [image.view]}
    else:
        yield {"id": f"s{study}", **common, **images}


def _image_path(folder: Path, image: MimicImage) -> str | None:
    """The path of the image below the image folder, as .jpg (MIMIC-CXR-JPG) or .dcm (MIMIC-CXR); None if missing."""
    return next((image.path + end for end in (".jpg", ".dcm") if is_file(folder / (image.path + end))), None)


def _read_report(file: Path) -> str | None:
    """The raw report; None if it is missing."""
    try:
        return read_text(file)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {reason(error)}. Download the file again.") from error


def described(counts: Mapping[str, Any]) -> str:
    """The counts as lines to print."""
    return counts_table(
        {
            "studies read": counts["studies_read"],
            "dropped": counts["dropped"],
            "entries": counts["entries"],
            "images by view": counts["films_by_view"],
            "priors": spaced(counts["priors"]),
        }
    )
