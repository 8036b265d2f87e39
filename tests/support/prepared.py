"""task=prepare of a published layout as a function, without the second that Hydra takes."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from r2gen.config.prepare_options import PrepareConfig
from r2gen.data import layouts
from r2gen.errors import UserError

USUAL = asdict(PrepareConfig(without_headings="drop", views="all", entries="study", reports=None, partial=False))
Annotation = dict[str, list[dict[str, Any]]]


def prepare(
    layout: str,
    root: Path,
    *,
    images: str | None = None,
    fresh: bool = True,
    date: str = "2001-02-03",
    **options: Any,
) -> Annotation:
    """The annotation that is written to root/annotation.json; `options` are those of the group `prepare`."""
    arguments = {"root": str(root), "annotation": "annotation.json", "images": images}
    layouts.prepare(arguments, USUAL | {"layout": layout} | options, made={"date": date}, fresh=fresh)
    return read(root / "annotation.json")


def prepare_table(
    table: Path, content: str | bytes | None = None, *, annotation: str = "annotation.json", **options: Any
) -> tuple[Annotation, str]:
    """The annotation that is written next to a table, and what is printed; `content` is what the table gets before."""
    if content is not None:
        table.write_bytes(content.encode() if isinstance(content, str) else content)
    arguments = {"root": str(table.parent), "annotation": annotation}
    printed = layouts.prepare(arguments, USUAL | {"table": str(table)} | options, made={}, fresh=True)
    return read(table.parent / annotation), printed


def read(file: Path) -> Annotation:
    annotation: Annotation = json.loads(file.read_text())
    return annotation


def refused(layout: str, root: Path, **options: Any) -> str:
    """The message that refuses a layout, of which nothing is written."""
    with pytest.raises(UserError) as error:
        prepare(layout, root, **options)
    assert not (root / "annotation.json").exists()
    return str(error.value)


def by_id(annotation: Annotation) -> dict[str, dict[str, Any]]:
    return {entry["id"]: entry for entries in annotation.values() for entry in entries}


def facts(root: Path) -> dict[str, Any]:
    """annotation.provenance.json"""
    provenance: dict[str, Any] = json.loads((root / "annotation.provenance.json").read_text())
    return provenance
