"""An annotation with the context that a table has of its studies.

    python run.py task=prepare data=iu_xray data.root=ROOT prepare.context_from=TABLE

The annotation is read and stays as it is; the new one is written next to it. docs/data.md describes the table.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r2gen.config.plain import Plain
from r2gen.data.age_and_sex import age_of, sex_of
from r2gen.data.annotation_entry import read_study
from r2gen.data.annotation_fault import Fault
from r2gen.data.annotation_file import absent, read_splits, refuse
from r2gen.data.context_text import context_counts
from r2gen.data.iu_xray import number_of
from r2gen.data.leaks import TEXTS, repeats_report
from r2gen.data.mimic_sections import one_line
from r2gen.data.positions import position_of
from r2gen.data.prepared_files import (
    Preparation,
    checked_file,
    counted,
    read_provenance,
    sha256_of_file,
    write_annotation,
)
from r2gen.data.reports import Study
from r2gen.data.table_columns import NAMES, plain_name, recognise
from r2gen.data.table_file import Table, open_table, sha256_of, text_of
from r2gen.data.table_studies import items_of
from r2gen.errors import UserError, shown
from r2gen.runs.files import absolute
from r2gen.runs.progress import bar
from r2gen.runs.special_files import refuse_special

SUFFIX = "_context"  # annotation.json becomes annotation_context.json
KEYS = ("id", "study_id", "uid")  # the column that names the entry: the first of these that the table has
VIEWS = ("views", "projections")
# The column of each key of an entry, as `prepare.columns` calls it.
KIND_OF = {"indication": "context", **{key: key for key in ("technique", "comparison", "age", "sex")}, "views": "view"}
COUNTED = (*TEXTS, "age", "sex", "positions")
MOST_REPEATED = 0.5  # the share of texts that may repeat their report; a column of reports has more
Where = tuple[str, int]  # split and index of an entry


@dataclass
class Matches:
    """What the rows of the table say of the entries."""

    keys: dict[Where, Plain] = field(default_factory=dict)
    row_of: dict[Where, str] = field(default_factory=dict)  # the first row of each entry
    rows: int = 0
    without_entry: int = 0
    first_id: str = ""  # of the table, for messages
    faults: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)  # cells that are not used, by reason

    def add(self, keys: Plain, entries: Sequence[Where], *, row: str, where: str) -> None:
        """Take what a row says; other rows of the same entry may repeat it or leave it empty."""
        for entry in entries:
            before, first = self.keys.setdefault(entry, {}), self.row_of.setdefault(entry, row)
            if other := [name for name, value in keys.items() if before.get(name, value) != value]:
                self.faults.append(
                    f"{where}: another {other[0]} than in {first}. Keep one row per study, or name the column of "
                    "its id with prepare.columns.study=COLUMN"
                )
                return
            before.update(keys)


def prepare(preparation: Preparation) -> str:
    """Write the annotation and its provenance, and return what to print.

    Raises UserError if no column or no row names an entry, if rows contradict each other, or if texts of the table
    repeat the reports.
    """
    root, options = preparation.root, preparation.options
    source = root / preparation.annotation
    refuse_special(source)
    if not source.is_file():
        raise absent(root, preparation.annotation)
    new = Path(preparation.annotation).with_name(f"{source.stem}{SUFFIX}{source.suffix}")
    elsewhere = "set data.annotation to a copy elsewhere, next to which it is written"
    file = checked_file(root, str(new), fresh=preparation.fresh, elsewhere=elsewhere)
    table = open_table(_table(options["context_from"], root), encoding=options["encoding"])
    key, columns = _columns(table, options["columns"])
    splits = read_splits(source)
    _studies(splits, source)
    matches = _matched(table, key, columns, splits)
    refuse(str(table.path), matches.faults)
    added = _add(splits, matches)
    studies = _studies(splits, source)
    repeated = _repeated(table, columns, studies, added)
    before = read_provenance(source)
    counts = {
        "rows": matches.rows,
        "rows_without_entry": matches.without_entry,
        "entries": {split: len(entries) for split, entries in splits.items()},
        "entries_without_row": sum(map(len, splits.values())) - len(matches.keys),
        "with": {name: number for name, number in context_counts(studies, COUNTED).items() if number},
        "left_out": dict(sorted(matches.left_out.items())),
        "repeats_report": repeated,
    }
    facts = {
        "made_by": "python run.py task=prepare prepare.context_from=TABLE",
        **preparation.made,
        **_of_source(before),
        "columns": {"study": key, **columns},
        "table": str(table.path),
        "root": str(root),
        "annotation": {"file": str(source), "sha256": sha256_of_file(source), "provenance": before},
        "counts": counts,
        "sources_sha256": {table.path.name: sha256_of(table)},
    }
    provenance = write_annotation(file, splits, facts)
    return "\n".join(_described(file, provenance, facts, annotation=str(new)))


def _table(name: str, root: Path) -> Path:
    """A relative path is one in the working directory, or else in the folder of the data set."""
    here = Path(absolute(name))
    return root / name if not here.exists() and (root / name).exists() else here


def _of_source(before: Any) -> Plain:
    """The image folder and the policy that training reads from the provenance of an annotation."""
    return {name: before[name] for name in ("images", "policy") if isinstance(before, dict) and name in before}


def _columns(table: Table, options: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """The column that names the entry, and the column of each key. Raises UserError if there are none."""
    read = ("study", *KIND_OF.values())
    for kind, name in options.items():
        if name is None:
            continue
        if kind not in read:
            raise UserError(
                f"prepare.columns.{kind} is not read with prepare.context_from, which reads {', '.join(read)}"
            )
        if isinstance(name, str) and plain_name(name) in (*NAMES["findings"], *NAMES["impression"]):
            raise UserError(
                f"prepare.columns.{kind}={shown(name)}: findings and impression are the report itself, which no prompt "
                "may have. Name another column."
            )
    named = recognise(table.columns, options, where=table.path.name)
    usual = {plain_name(name): name for name in reversed(table.columns)}
    key = options["study"] or next((usual[plain_name(name)] for name in KEYS if plain_name(name) in usual), None)
    if key is None:
        raise UserError(
            f"{table.path}: no column is named {', '.join(KEYS)}; the columns are {shown(', '.join(table.columns))}. "
            "Add prepare.columns.study=COLUMN with the ids of the annotation."
        )
    columns = {name: column for name, kind in KIND_OF.items() if kind != "view" and (column := named.get(kind))}
    if views := options["view"] or next((usual[name] for name in VIEWS if name in usual), None):
        columns["views"] = views
    if not columns:
        raise UserError(
            f"{table.path}: no column holds {', '.join(KIND_OF)}; the columns are {shown(', '.join(table.columns))}. "
            "Add prepare.columns.context=COLUMN for the indication."
        )
    return key, columns


def _studies(splits: Mapping[str, Sequence[Any]], source: Path) -> list[Study]:
    """The entries as studies. Raises UserError with those at fault."""
    studies, faults = list[Study](), list[str]()
    for split, entries in splits.items():
        for index, entry in enumerate(entries):
            try:
                studies.append(read_study(entry, "none"))
            except Fault as fault:
                id = entry.get("id") if isinstance(entry, dict) else None
                faults.append(f"{split}[{index}] (id {shown(id)}): {fault}" if id else f"{split}[{index}] {fault}")
    refuse(str(source), faults)
    return studies


# The rows


def _matched(table: Table, key: str, columns: Mapping[str, str], splits: Mapping[str, Sequence[Plain]]) -> Matches:
    """What the table says of each entry. Raises UserError if no row is of an entry."""
    entries_of, matches = _lookup(splits, by_number=plain_name(key) not in ("id", "studyid")), Matches()
    with bar(total=None, title=table.path.name, unit="row", delay_s=1) as shown_rows:
        for number, row in table.rows():
            matches.rows += 1
            id = text_of(row.get(key))
            matches.first_id = matches.first_id or id
            if entries := entries_of(id):
                where = f"{table.at(number)} (id {shown(id)})"
                matches.add(
                    _keys(row, columns, where=where, matches=matches), entries, row=table.at(number), where=where
                )
            else:
                matches.without_entry += 1
            shown_rows.update()
    if not matches.keys:
        example = next((entry["id"] for entries in splits.values() for entry in entries), "(no entry)")
        raise UserError(
            f"{table.path}: no row is of an entry of the annotation: {key} is {shown(matches.first_id or '(empty)')}, "
            f"the id of an entry {shown(example)}. Give the table of this data set, or prepare.columns.study=COLUMN."
        )
    if not any(matches.keys.values()):
        names = ", ".join(columns.values())
        raise UserError(f"{table.path}: the columns {shown(names)} are empty in all rows of the annotation's entries.")
    return matches


def _lookup(splits: Mapping[str, Sequence[Plain]], *, by_number: bool) -> Callable[[str], Sequence[Where]]:
    """The entries that an id of the table names: by id, study_id or, with `by_number`, the number in IU X-Ray's ids."""
    maps: tuple[dict[str, list[Where]], ...] = ({}, {}, {})
    for split, entries in splits.items():
        for index, entry in enumerate(entries):
            names = (entry["id"], text_of(entry.get("study_id")), number_of(entry["id"]) if by_number else None)
            for places, name in zip(maps, names, strict=True):
                if name:
                    places.setdefault(name, []).append((split, index))
    return lambda id: next((places[id] for places in maps if id in places), ())


def _keys(row: Mapping[str, Any], columns: Mapping[str, str], *, where: str, matches: Matches) -> Plain:
    """What a row says, without the empty cells. An age or a sex that cannot be read is left out and counted."""
    keys: Plain = {}
    for name, column in columns.items():
        cell = row.get(column)
        if name == "views":
            keys[name] = [position_of(str(view)) for view in items_of(cell)]
        elif name in TEXTS:
            if isinstance(cell, list | dict | bytes):
                matches.faults.append(f"{where}: {column} {cell!r:.40} is not a text")
                continue
            keys[name] = _text(cell)
        else:
            try:
                keys[name] = age_of(cell) if name == "age" else sex_of(cell)
            except ValueError:
                matches.left_out[f"{name} that cannot be read"] += 1
    return {name: value for name, value in keys.items() if value not in (None, "", [])}


def _text(cell: Any) -> str:
    """A text on one line. "None" and "N/A" stay: they are what a radiologist wrote."""
    text = one_line("" if cell is None else str(cell))
    return "" if re.fullmatch("nan|<na>|null", text, re.IGNORECASE) else text


# The entries


def _add(splits: Mapping[str, Sequence[Plain]], matches: Matches) -> dict[str, set[str]]:
    """Add to the entries what they lack; return which ids got each key."""
    added: dict[str, set[str]] = {name: set() for name in KIND_OF}
    for (split, index), keys in matches.keys.items():
        entry = splits[split][index]
        for name, value in keys.items():
            if _has(entry, name):
                matches.left_out[f"{name} that the entry has already"] += 1
            elif name == "views" and len(value) != len(entry["image_path"]):
                matches.left_out["views of another number of images"] += 1
            elif name == "views" and not any(value):
                matches.left_out["views that are not known"] += 1
            else:
                entry[name] = value
                added[name].add(entry["id"])
    return added


def _has(entry: Plain, name: str) -> bool:
    keys = (name, "context") if name == "indication" else (name,)
    return any(entry.get(key) not in (None, "", []) for key in keys)


def _repeated(
    table: Table, columns: Mapping[str, str], studies: Sequence[Study], added: Mapping[str, set[str]]
) -> dict[str, int]:
    """How many of the added texts repeat a sentence of their report. Raises UserError for a column of reports."""
    repeated = {}
    for name in TEXTS:
        texts = [study for study in studies if study.id in added[name]]
        repeated[name] = sum(repeats_report(study, getattr(study, name)) for study in texts)
        if repeated[name] > MOST_REPEATED * len(texts):
            raise UserError(
                f"{table.path}: {shown(columns[name])} repeats the report in {repeated[name]:,} of {len(texts):,} "
                f"studies, so that the prompt would give it away. Name the column of the {name} with "
                f"prepare.columns.{KIND_OF[name]}=COLUMN, or remove the column."
            )
    return {name: number for name, number in repeated.items() if number}


def _described(file: Path, provenance: Path, facts: Plain, *, annotation: str) -> Iterator[str]:
    """The lines to print."""
    counts = facts["counts"]
    yield f"columns         {', '.join(f'{name}={column}' for name, column in facts['columns'].items())}"
    yield f"rows            {counts['rows']:,}, of which {counts['rows_without_entry']:,} have no entry"
    yield f"entries         {counted(counts['entries'])}, of which {counts['entries_without_row']:,} have no row"
    yield f"entries with    {counted(counts['with'])}"
    if counts["left_out"]:
        yield f"not used        {counted(counts['left_out'])}"
    if counts["repeats_report"]:
        yield f"repeat reports  {counted(counts['repeats_report'])} (task=audit lists the studies)"
    yield f"{file} (columns, sources and counts in {provenance.name})"
    yield f"\nnext: train with data.annotation={annotation} context=all"
