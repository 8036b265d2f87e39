"""MIMIC-CXR's official layout to an annotation in R2Gen's format: task=prepare data=mimic_cxr. Imports no torch.

ROOT/mimic-cxr-2.0.0-{split,metadata}.csv.gz, ROOT/files/p10/p10000032/s50414267.txt (the raw report) and
ROOT/files/p10/p10000032/s50414267/<dicom_id>.jpg (or .dcm). docs/data.md says what could not be checked.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from r2gen.data.annotation_file import refuse
from r2gen.data.mimic_sections import LAST_PARAGRAPH, UNDER_VIEWS, sections
from r2gen.data.mimic_tables import MimicImage, images_of
from r2gen.data.reports import SPLITS
from r2gen.errors import UserError
from r2gen.runs.files import write_whole

VIEWS = {
    "frontal": frozenset({"AP", "PA"}),
    "lateral": frozenset({"LATERAL", "LL"}),
    "frontal+lateral": frozenset({"AP", "PA", "LATERAL", "LL"}),
}
_ORDER = {"PA": 0, "AP": 1, "LATERAL": 2, "LL": 2}  # of the images of a study; other views come after them
KEPT = ("indication", "history", "comparison", "technique", "examination")


@dataclass(frozen=True)
class Policy:
    """What of MIMIC-CXR becomes a study: the typed options of config.PrepareConfig."""

    sections: str = "findings"  # findings | impression | findings+impression | findings_else_impression
    without_headings: str = "drop"  # drop | last_paragraph
    views: str = "all"  # frontal | lateral | frontal+lateral | all
    entries: str = "study"  # study | film
    partial: bool = False


@dataclass(frozen=True)
class Prepared:
    """Entries by split, and the counts that say what was read, kept and dropped, and why."""

    splits: dict[str, list[dict[str, Any]]]
    counts: dict[str, Any]
    reports_sha256: str


def prepare(
    *,
    root: Path,
    reports: Path,
    images: str,
    annotation: Path,
    policy: Policy,
    code: Mapping[str, Any],
    date: str,
    fresh: bool,
) -> str:
    """Write `annotation`, and beside it <name>.provenance.json; gives the table of counts to print.

    The annotation depends on the data and the policy alone; date and code revision stand in the other file. Raises
    UserError on tables that cannot be read, on reports or images that are missing (unless policy.partial), and where
    the annotation is there already (unless fresh).
    """
    provenance = annotation.with_name(f"{annotation.stem}.provenance.json")
    if annotation.exists() and not fresh:
        raise UserError(f"{annotation} is there already: fresh=true replaces it, data.annotation=FILE writes another")
    if not annotation.parent.is_dir():
        raise UserError(f"{annotation.parent} does not exist: make it, or set data.annotation to another file")
    listed, tables = images_of(root)
    prepared = studies_of(listed, folder=root / images, reports=reports, policy=policy)
    if not any(prepared.splits.values()):
        raise UserError(f"{root}: no study is left\n{described(prepared.counts)}")
    text = json.dumps(prepared.splits, ensure_ascii=False, indent=0) + "\n"
    facts = {
        "made_by": "python run.py task=prepare data=mimic_cxr",
        "date": date,
        "code": dict(code),
        "policy": vars(policy),
        "root": str(root),
        "reports": str(reports),
        "images": images,
        "counts": prepared.counts,
        "sources_sha256": {**tables, "reports": prepared.reports_sha256},
        "annotation_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    for file, content in ((annotation, text), (provenance, json.dumps(facts, indent=1) + "\n")):
        try:
            write_whole(file, content)
            file.chmod(0o600)  # patient text
        except OSError as error:
            raise UserError(
                f"{file} cannot be written ({error.strerror}): set data.annotation to a file elsewhere, by "
                "its absolute path"
            ) from error
    return f"{described(prepared.counts)}\n{annotation} (policy, sources and counts in {provenance.name})"


def studies_of(listed: Mapping[str, list[MimicImage]], *, folder: Path, reports: Path, policy: Policy) -> Prepared:
    """The entries of every study (study id to its images) that the policy keeps, in the order of the split table."""
    splits: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    dropped, kept_views, read, missing = Counter[str](), Counter[str](), Counter[str](), list[str]()
    digest, kept = hashlib.sha256(), 0
    for study, all_images in tqdm(listed.items(), desc="studies", unit="study", disable=None, leave=False, delay=1):
        first = all_images[0]
        read[first.split] += 1
        chosen = [image for image in all_images if policy.views == "all" or image.view in VIEWS[policy.views]]
        if not chosen:
            dropped[f"no {policy.views} image"] += 1
            continue
        there = [(image, path) for image in chosen if (path := _image_path(folder, image)) is not None]
        raw = _report(reports / first.report)
        if raw is None or len(there) < len(chosen):
            gone = [first.report] if raw is None else []
            gone += [image.path for image in chosen if not any(image is one for one, _ in there)]
            missing += gone
            if raw is None or not there:
                dropped["report or images not on disk"] += 1
                continue
        digest.update(f"{first.report}\0{raw}\0".encode())
        parts = sections(raw)
        report, reason = choose(parts, policy)
        if report is None:
            dropped[reason] += 1
            continue
        there.sort(key=lambda pair: (_ORDER.get(pair[0].view, 3), pair[0].dicom_id))
        kept += 1
        kept_views.update(image.view or "(none)" for image, _ in there)
        splits[first.split] += _entries(study, there, parts=parts, report=report, policy=policy)
    if not policy.partial:
        refuse(
            f"files named in the tables are missing under {folder} or {reports}",
            missing,
            advice="\nprepare.partial=true leaves out what is not on disk",
        )
    counts = {
        "studies_read": {split: read[split] for split in SPLITS},
        "dropped": dict(sorted(dropped.items())),
        "studies_kept": kept,
        "entries": {split: len(entries) for split, entries in splits.items()},
        "films_by_view": dict(sorted(kept_views.items())),
        "files_missing": len(missing),
    }
    return Prepared(splits=splits, counts=counts, reports_sha256=digest.hexdigest())


def choose(parts: Mapping[str, str], policy: Policy) -> tuple[str | None, str]:
    """The reference report of a study, or None and the reason."""
    findings, impression, both = (parts.get(name) for name in ("findings", "impression", "findings_impression"))
    # One text under FINDINGS AND IMPRESSION answers for either; prose under PORTABLE AP CHEST is findings unnamed.
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
    study: str, listed: list[tuple[MimicImage, str]], *, parts: Mapping[str, str], report: str, policy: Policy
) -> Iterator[dict[str, Any]]:
    """One entry a study; or one an image, with its dicom_id as id, as in R2Gen's annotation."""
    first = listed[0][0]
    context = parts.get("indication") or parts.get("history")
    common = {"study_id": int(study), "subject_id": int(first.subject_id), "report": report, "split": first.split}
    common |= {"context": context} if context else {}
    common |= {name: parts[name] for name in KEPT if name in parts}
    if policy.entries == "film":
        for image, path in listed:
            yield {"id": image.dicom_id, **common, "image_path": [path], "views": [image.view]}
    else:
        yield {
            "id": f"s{study}",
            **common,
            "image_path": [path for _, path in listed],
            "views": [image.view for image, _ in listed],
        }


def _image_path(folder: Path, image: MimicImage) -> str | None:
    """Where the image lies below the image folder, as .jpg (MIMIC-CXR-JPG) or .dcm (MIMIC-CXR)."""
    return next((image.path + end for end in (".jpg", ".dcm") if (folder / (image.path + end)).is_file()), None)


def _report(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise UserError(f"{file}, byte {error.start + 1} is no UTF-8: fetch the file again") from error
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error


def described(counts: Mapping[str, Any]) -> str:
    """The counts as lines to print."""

    def line(title: str, numbers: Mapping[str, int]) -> str:
        return f"{title:<14} " + (", ".join(f"{name} {number:,}" for name, number in numbers.items()) or "none")

    return "\n".join(
        (
            line("studies read", counts["studies_read"]),
            line("dropped", counts["dropped"]),
            line("entries", counts["entries"]),
            line("images by view", counts["films_by_view"]),
        )
    )
