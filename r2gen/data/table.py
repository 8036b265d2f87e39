"""An annotation in R2Gen's format from a table of studies.

    python run.py task=prepare data=csv prepare.table=FILE prepare.images=FOLDER

docs/own-data.md describes the tables and the options.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from r2gen.config.plain import Plain
from r2gen.data.annotation_file import refuse
from r2gen.data.image_folder import ImageFolder
from r2gen.data.mimic import Policy, choose
from r2gen.data.mimic_sections import LAST_PARAGRAPH, WHOLE, one_line, sections
from r2gen.data.positions import is_selected, rank
from r2gen.data.prepared_files import Preparation, checked_file, counted, write_annotation
from r2gen.data.priors import PriorCounts
from r2gen.data.random_split import check_shares, split_by_patient
from r2gen.data.reports import SPLITS
from r2gen.data.table_columns import Columns, recognise
from r2gen.data.table_context import (
    TableContext,
    add_table_priors,
    context_of,
    fill_from_headers,
    prior_lines,
    recorded,
    sections_of_context,
)
from r2gen.data.table_file import Table, open_table, sha256_of
from r2gen.data.table_studies import TableReader, TableStudy
from r2gen.errors import UserError, shown
from r2gen.runs.files import absolute, make_folder

IMAGES = "images"  # the folder next to a table that is searched first, and that gets the images inside a table
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "tr"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}


@dataclass(frozen=True)
class TablePolicy:
    """Which studies and reports become entries: options of PrepareConfig."""

    sections: str | None  # None: the findings column, or else the reports as they are
    without_headings: str
    views: str
    split: Sequence[float] | None  # shares, unless a column has the split
    seed: int
    partial: bool


def prepare(preparation: Preparation) -> str:
    """Write the annotation and return what to print. The annotation depends on table, images and policy only.

    Raises UserError with the rows at fault.
    """
    root, options = preparation.root, preparation.options
    policy = TablePolicy(**{option.name: options[option.name] for option in fields(TablePolicy)})
    shares = check_shares(policy.split)
    if not root.is_dir():
        raise UserError(f"data.root={root} does not exist. Create the folder for the annotation.")
    table = Path(absolute(options["table"]))
    source = open_table(table, encoding=options["encoding"])
    file = checked_file(root, preparation.annotation, fresh=preparation.fresh)
    named = _columns(source, options["columns"])
    folder = _image_folder(source, named, options["images"], embedded=root / IMAGES)
    reader = TableReader(source, named, folder, embedded=root / IMAGES)
    studies = reader.read()
    refuse(str(table), reader.faults)
    fill_from_headers(studies, folder.root, named)
    usable, dropped = _usable(source, studies.values(), named, folder, policy)
    splits, how = _in_splits(source, usable, named, policy)
    context = context_of(studies)
    priors = _add_context(splits, context, studies, usable, named, policy)
    counts = {
        "rows": reader.rows,
        "studies_read": len(studies),
        "dropped": dict(sorted(dropped.items())),
        "entries": {split: len(entries) for split, entries in splits.items()},
        "patients": len({study.patient for study, _ in usable if study.patient}),
        **recorded(priors, context),
    }
    facts = {
        "made_by": "python run.py task=prepare data=csv",
        **preparation.made,
        "policy": {**vars(policy), "sections": _section(named, policy), "split": list(shares)},
        "columns": {"image": list(named.images), **named.others},
        "table": str(table),
        "root": str(root),
        "images": _below(folder.root, root),
        "counts": counts,
        "sources_sha256": {table.name: sha256_of(source)},
    }
    provenance = write_annotation(file, splits, facts)
    more = [*prior_lines(priors), *context.printed()]
    return _printed(file, provenance, facts, how=how, more=more, headings=_headings(usable, named, policy))


def _columns(table: Table, options: Mapping[str, Any]) -> Columns:
    named = recognise(table.columns, options, where=table.path.name)
    if not any(map(named.get, ("report", "findings", "impression"))):
        raise UserError(
            f"{table.path}: no column holds reports; the columns are {shown(', '.join(table.columns))}. Add "
            "prepare.columns.report=COLUMN. For reports of images by a trained run use task=predict."
        )
    return named


def _image_folder(table: Table, columns: Columns, images: str | None, *, embedded: Path) -> ImageFolder:
    folder = ImageFolder(images_of(table.path, None if images is None else Path(absolute(images))))
    if not _has_embedded(table, columns):
        return folder
    make_folder(embedded)
    return ImageFolder(embedded)


def images_of(table: Path, images: Path | None) -> Path:
    """The folder of a table's images."""
    if images is not None:
        return images
    return table.parent / IMAGES if (table.parent / IMAGES).is_dir() else table.parent


def _has_embedded(table: Table, columns: Columns) -> bool:
    """Whether the first row has an image inside the table."""
    row = next(table.rows(), (0, {}))[1]
    cells = [row.get(column) for column in columns.images]
    return any(isinstance(cell, bytes) or (isinstance(cell, dict) and cell.get("bytes") is not None) for cell in cells)


# Reports


def _usable(
    table: Table, studies: Iterable[TableStudy], columns: Columns, folder: ImageFolder, policy: TablePolicy
) -> tuple[list[tuple[TableStudy, str]], Counter[str]]:
    """The studies that have images and a report, and the number of others by reason. Raises UserError for none."""
    usable, dropped, faults = _with_reports(table, studies, columns, policy)
    if not policy.partial:
        searched = _searched(folder, columns) if "images" in faults else ""
        listed = [fault for some in faults.values() for fault in some]
        refuse(str(table.path), listed, advice=f"\nprepare.partial=true leaves out what is missing{searched}")
    if not usable:
        as_they_are = "prepare.sections=null takes reports as they are"
        fix = as_they_are if policy.sections else "Check the table and prepare.images"
        raise UserError(f"{table.path}: no study is left ({counted(dropped)}). {fix}.")
    return usable, dropped


def _with_reports(
    table: Table, studies: Iterable[TableStudy], columns: Columns, policy: TablePolicy
) -> tuple[list[tuple[TableStudy, str]], Counter[str], dict[str, list[str]]]:
    """The studies that have images and a report; the number of others by reason; and what is missing."""
    usable, dropped, faults = list[tuple[TableStudy, str]](), Counter[str](), dict[str, list[str]]()
    for study in studies:
        where = f"{table.at(study.row)} (study {shown(study.id)})"
        if study.missing:
            faults.setdefault("images", []).extend(study.missing)
        _select_views(study, policy.views)
        report, reason = _report(study, columns, policy)
        if not study.images:
            dropped["no image"] += 1
        elif report:
            usable.append((study, report))
        else:
            dropped[reason] += 1
            if reason == "no report":
                faults.setdefault("reports", []).append(f"{where}: the report is empty")
    return usable, dropped, faults


def _select_views(study: TableStudy, views: str) -> None:
    """Keep the images of the chosen views, frontal ones first; without a column of views, all in their order."""
    if not any(study.views):
        return
    pairs = [pair for pair in zip(study.images, study.views, strict=True) if is_selected(pair[1], views)]
    pairs.sort(key=lambda pair: rank(pair[1]))
    study.images, study.views = [image for image, _ in pairs], [view for _, view in pairs]


def _section(columns: Columns, policy: TablePolicy) -> str:
    """The section that becomes the reference."""
    if policy.sections is not None:
        return policy.sections
    return next((name for name in ("findings", "report", "impression") if columns.get(name)), WHOLE).replace(
        "report", WHOLE
    )


def _report(study: TableStudy, columns: Columns, policy: TablePolicy) -> tuple[str, str]:
    """The reference of a study on one line, or the reason why it has none."""
    section, whole = _section(columns, policy), study.texts.get("report", "")
    if section == WHOLE:
        return one_line(whole), "no report"
    parts = {name: one_line(text) for name, text in study.texts.items() if name in ("findings", "impression") and text}
    if not parts and not whole:
        return "", "no report"
    if not parts and columns.get("report"):
        parts = sections(whole)
        if policy.without_headings == "last_paragraph" and LAST_PARAGRAPH in parts:
            return parts[LAST_PARAGRAPH], ""
    report, reason = choose(parts, Policy(sections=section, without_headings=policy.without_headings))
    return report or "", reason


def _headings(usable: Sequence[tuple[TableStudy, str]], columns: Columns, policy: TablePolicy) -> int:
    """How many reports that are taken as a whole have a heading of findings or impression."""
    if _section(columns, policy) != WHOLE:
        return 0
    texts = (study.texts.get("report", "") for study, _ in usable)
    return sum(bool({"findings", "impression"} & set(sections(text))) for text in texts if ":" in text)


# Splits


def _in_splits(
    table: Table, usable: Sequence[tuple[TableStudy, str]], columns: Columns, policy: TablePolicy
) -> tuple[dict[str, list[Plain]], str]:
    """The entries of each split, and how they were divided, for the user."""
    if columns.get("split") is not None:
        homes = _split_column(table, [study for study, _ in usable], columns)
        how = f"by the column {columns.get('split')}"
    else:
        patients = {study.id: study.patient or study.id for study, _ in usable}
        homes = split_by_patient(patients, shares=policy.split, seed=policy.seed)
        shares, unnamed = (
            "/".join(f"{share:g}" for share in check_shares(policy.split)),
            sum(not study.patient for study, _ in usable),
        )
        how = f"{shares} by patient, seed {policy.seed}"
        if unnamed:
            how = f"{shares}, seed {policy.seed}; {unnamed:,} studies name no patient, who may be in two splits"
    splits: dict[str, list[Plain]] = {split: [] for split in SPLITS}
    for study, report in usable:
        splits[homes[study.id]].append(_entry(study, report, columns))
    return splits, how


def _add_context(
    splits: Mapping[str, list[Plain]],
    context: TableContext,
    studies: Mapping[str, TableStudy],
    usable: Sequence[tuple[TableStudy, str]],
    columns: Columns,
    policy: TablePolicy,
) -> PriorCounts | None:
    """Add the optional keys to the entries, and return how many got a prior; None without patients or dates."""
    for entries in splits.values():
        for entry in entries:
            whole = studies[entry["id"]].texts.get("report", "") if policy.sections is not None else ""
            entry.update({**sections_of_context(whole, entry), **context.keys[entry["id"]]})
    ids, either = {study.id for study, _ in usable}, replace(policy, sections="findings_else_impression")
    left_out = [
        (study, _report(study, columns, policy)[0] or _report(study, columns, either)[0])
        for study in studies.values()
        if study.id not in ids
    ]
    return add_table_priors(splits, context, left_out)


def _split_column(table: Table, studies: Sequence[TableStudy], columns: Columns) -> dict[str, str]:
    homes, first, faults = dict[str, str](), dict[str, TableStudy](), list[str]()
    for study in studies:
        where = f"{table.at(study.row)} (study {shown(study.id)})"
        split = SPLIT_NAMES.get(study.split.lower())
        if split is None:
            faults.append(
                f"{where}: {columns.get('split')} is {shown(study.split) or 'empty'}, none of train, val and test"
            )
            continue
        homes[study.id] = split
        before = first.setdefault(study.patient or f"\0{study.id}", study)
        if homes[before.id] != split:
            faults.append(
                f"{where}: patient {shown(study.patient)} is in {split}, and in {homes[before.id]} in "
                f"{table.at(before.row)}: put all studies of a patient into one split"
            )
    refuse(str(table.path), faults)
    return homes


def _entry(study: TableStudy, report: str, columns: Columns) -> Plain:
    entry: Plain = {"id": study.id, "report": report, "image_path": study.images}
    if columns.get("study") is not None:
        entry["study_id"] = study.id
    if study.patient:
        entry["subject_id"] = study.patient
    if context := one_line(study.texts.get("context", "")):
        entry["context"] = context
    return entry | ({"views": study.views} if any(study.views) else {})


# Messages


def _below(folder: Path, root: Path) -> str:
    """The image folder as data.images names it: relative to the root if it is below it."""
    return str(folder.relative_to(root)) if folder.is_relative_to(root) else str(folder)


def _searched(folder: ImageFolder, columns: Columns) -> str:
    kind, column = ("image", "+".join(columns.images)) if columns.images else ("study", columns.get("study"))
    return f"; images are searched in prepare.images={folder.root}, by prepare.columns.{kind}={column}"


def _printed(file: Path, provenance: Path, facts: Plain, *, how: str, more: Sequence[str], headings: int) -> str:
    counts, images = facts["counts"], facts["images"]
    names = [f"image={'+'.join(facts['columns']['image'])}"] if facts["columns"]["image"] else []
    names += [f"{kind}={name}" for kind, name in facts["columns"].items() if kind != "image"]
    command = f"python run.py data=own data.root={facts['root']}"
    command += f" data.annotation={file.name}" if file.name != "annotation.json" else ""
    command += f" data.images={images}" if Path(images).is_absolute() else ""
    lines = [
        f"columns        {', '.join(names)}",
        f"read           {counts['rows']:,} rows, {counts['studies_read']:,} studies",
        f"left out       {counted(counts['dropped'])}",
        f"entries        {counted(counts['entries'])}",
        f"section        {facts['policy']['sections']}",
        f"split          {how}",
        *more,
    ]
    if headings * 2 > sum(counts["entries"].values()):
        lines.append(f"{headings:,} reports have headings: prepare.sections=findings takes the section FINDINGS")
    return "\n".join([*lines, f"{file} (columns, sources and counts in {provenance.name})", "", f"next: {command}"])
