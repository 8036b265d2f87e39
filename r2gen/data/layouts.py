"""task=prepare: the published layouts, each read by a module of its own, and tables of studies."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r2gen.data import chexpert_plus, context_from_table, iu_xray, mimic, padchest, padchest_gr, rexgradient, table
from r2gen.data.prepared_files import Preparation, given
from r2gen.errors import UserError, shown
from r2gen.runs.files import absolute


@dataclass(frozen=True)
class Layout:
    """How a published data set is prepared."""

    prepare: Callable[[Preparation], str]  # writes the annotation; returns what to print
    reads: tuple[str, ...]  # the options of the group `prepare` that it has a use for


# By the name of the data set, as in prepare_options.LAYOUTS.
LAYOUTS = {
    "mimic_cxr": Layout(mimic.prepare, ("sections", "without_headings", "views", "entries", "reports", "partial")),
    "iu_xray": Layout(iu_xray.prepare, iu_xray.READS),
    "chexpert_plus": Layout(chexpert_plus.prepare, chexpert_plus.READS),
    "rexgradient": Layout(rexgradient.prepare, ("sections", "views", "partial")),
    "padchest": Layout(padchest.prepare, ("split", "seed", "views", "partial")),
    "padchest_gr": Layout(padchest_gr.prepare, ("language", "views", "partial")),
}
OF_TABLES = (
    "table",
    "images",
    "columns",
    "encoding",
    "split",
    "seed",
    "sections",
    "without_headings",
    "views",
    "partial",
)
OF_CONTEXT = ("context_from", "encoding")
# Values that say nothing: an option may have another one only where it is read.
UNSET: Mapping[str, Any] = {
    "table": None,
    "context_from": None,
    "images": None,
    "encoding": "utf-8",
    "split": None,
    "seed": 0,
    "split_from": None,
    "sections": None,
    "without_headings": "drop",
    "views": "all",
    "entries": "study",
    "reports": None,
    "partial": False,
    "language": None,
}


def prepare(arguments: Mapping[str, Any], options: Mapping[str, Any], *, made: Mapping[str, Any], fresh: bool) -> str:
    """Write the annotation that AnnotatedReports reads; see its `prepare`. options["layout"] names the layout."""
    root, images, annotation = arguments["root"], arguments.get("images"), arguments["annotation"]
    if options["context_from"] is not None:
        _refuse_unread(options, OF_CONTEXT, "prepare.context_from")
        preparation = Preparation(_folder(root), images, annotation, options=options, made=made, fresh=fresh)
        return context_from_table.prepare(preparation)
    if options["table"] is not None:
        _refuse_unread(options, OF_TABLES, "prepare.table")
        folder = Path(absolute(options["table"])).parent if root is None else Path(absolute(root))
        return table.prepare(Preparation(folder, images, annotation, options=options, made=made, fresh=fresh))
    name = options["layout"]
    if name not in LAYOUTS:
        raise UserError(
            f"task=prepare: data={shown(name)} has no published layout that is read. Use data=csv with "
            f"prepare.table=FILE, or prepare.layout, one of {', '.join(LAYOUTS)}."
        )
    layout = LAYOUTS[name]
    _refuse_unread(options, layout.reads, f"data={name}")
    return layout.prepare(Preparation(_folder(root), images, annotation, options=options, made=made, fresh=fresh))


def _folder(root: str | None) -> Path:
    folder = Path(absolute(given(root)))
    if not folder.is_dir():
        raise UserError(f"data.root={folder} does not exist. Set it to the folder of the data set.")
    return folder


def _refuse_unread(options: Mapping[str, Any], reads: tuple[str, ...], what: str) -> None:
    for name, unset in UNSET.items():
        if name not in reads and options[name] != unset:
            readers = [f"data={layout}" for layout, reader in LAYOUTS.items() if name in reader.reads]
            readers += ["a table"] if name in OF_TABLES else []
            raise UserError(f"prepare.{name} is for {', '.join(readers)}: leave it out with {what}")
