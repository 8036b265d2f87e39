"""task=prepare of a published layout as a function, without the second that Hydra takes."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from r2gen.config.prepare_options import PrepareConfig
from r2gen.data import layouts
from r2gen.errors import UserError

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
    usual = PrepareConfig(without_headings="drop", views="all", entries="study", reports=None, partial=False)
    arguments = {"root": str(root), "annotation": "annotation.json", "images": images}
    chosen = {**asdict(usual), "layout": layout, **options}
    layouts.prepare(arguments, chosen, made={"date": date}, fresh=fresh)
    annotation: Annotation = json.loads((root / "annotation.json").read_text())
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
