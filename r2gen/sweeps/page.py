"""sweep.html: one self-contained page of many runs, made from their folders alone. Imports no torch.

Images are taken from the runs' own pages, so that no data set is opened; of every run the same studies are shown.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from r2gen.config.plain import canonical
from r2gen.evaluate.predictions import predictions_file
from r2gen.pages.curves import curves_of
from r2gen.pages.document import JsonObject, content_of, write_document
from r2gen.pages.run import chosen_studies, images_of
from r2gen.runs.files import read_jsonl
from r2gen.runs.provenance import now
from r2gen.sweeps.rows import SweepRow, joined, read_metrics_of
from r2gen.sweeps.table import COSTS, score_names, specs_of, splits_of

SCRIPTS = ("pieces.js", "scores.js", "charts.js", "plots.js", "texts.js", "sweep.js")
CURVE_POINTS = 160  # a run
STUDIES = 12
TEXT_BYTES = 1_500_000  # of all reports together: fewer studies are shown where they are longer


@dataclass(frozen=True)
class Written:
    """The reports of one row in one split, by study."""

    row: SweepRow
    split: str
    texts: dict[str, JsonObject]


def write_sweep_page(
    path: Path,
    rows: Sequence[SweepRow],
    *,
    title: str,
    command: str | None = None,
    shared: dict[str, str] | None = None,
) -> Path:
    """Write the page of these rows, whole or not at all, readable by its owner alone. Gives its path.

    `command` starts the sweep again; `shared` are the choices that are the same in all rows.
    Raises UserError naming a broken file of a run.
    """
    splits = splits_of(rows)
    content = {
        "title": title,
        "written": now(),
        "command": command,
        "shared": dict(shared or {}),
        "columns": list(rows[0].choices) if rows else [],
        "costs": [cost for cost in COSTS if any(getattr(row.cost, cost) is not None for row in rows)],
        "splits": {split: score_names(rows, split) for split in splits},
        "score_specs": [asdict(spec) for spec in specs_of(rows)],
        "alike": len({row.scored_as for row in rows if row.scores}) <= 1,
        "rows": [_row(row, path.parent) for row in rows],
        "joined": [asdict(one) for one in joined(rows)],
        "studies": _fitting(_studies(rows)),
    }
    return write_document(path, title=title, scripts=SCRIPTS, content=content)


def _row(row: SweepRow, beside: Path) -> JsonObject:
    """One row as the page's script reads it."""
    page = row.run_dir / "report.html" if row.run_dir is not None else None
    link = None
    if page is not None and page.is_file():
        link = "./" + quote(os.path.relpath(page, beside))  # never read as an address with a scheme
    log = row.run_dir / "train.jsonl" if row.run_dir is not None else None
    curves = (
        curves_of(log, most=CURVE_POINTS) if log is not None and log.is_file() else {"steps": [], "validations": []}
    )
    return {
        "name": row.name,
        "state": row.state,
        "reason": row.reason,
        "link": link,
        "choices": row.choices,
        "folder": str(row.run_dir) if row.run_dir is not None else None,
        "scores": asdict(row)["scores"],
        "cost": asdict(row.cost),
        "scored_as": row.scored_as,
        "losses": [[step["step"], _short(step.get("loss"))] for step in curves["steps"]],
        "validations": [
            [one["step"], {score: _short(value) for score, value in (one.get("scores") or {}).items()}]
            for one in curves["validations"]
        ],
    }


def _short(value: object) -> object:
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _studies(rows: Sequence[SweepRow]) -> list[JsonObject]:
    """The same few studies of all runs that were scored on the same references."""
    groups: dict[str, list[Written]] = {}
    for row in rows:
        split = next((split for split in ("test", "val") if split in row.scores), None)
        if split is None or row.run_dir is None:
            continue
        file = predictions_file(row.run_dir, split, row.generation)
        if file.is_file():
            texts = {line["id"]: line for line in read_jsonl(file)[1:]}
            references = canonical(sorted((id, line["reference"]) for id, line in texts.items()))
            groups.setdefault(split + references, []).append(Written(row, split, texts))
    return [study for group in groups.values() for study in _studies_of(group, count=max(1, STUDIES // len(groups)))]


def _studies_of(group: Sequence[Written], *, count: int) -> list[JsonObject]:
    first, images = group[0], _images(group)
    scores = {one.row.name: _of_each_report(one) for one in group}
    return [
        {
            "id": id,
            "split": first.split,
            "images": images.get(id, []),
            "reference": first.texts[id]["reference"],
            "reports": {one.row.name: one.texts[id]["report"] for one in group},
            "scores": {
                name: {score: _short(values[id]) for score, values in of_run.items() if id in values}
                for name, of_run in scores.items()
            },
        }
        for id in chosen_studies([id for id in first.texts if id in images] or list(first.texts), count=count)
    ]


def _of_each_report(one: Written) -> dict[str, dict[str, float]]:
    assert one.row.run_dir is not None
    per_report = read_metrics_of(one.row.run_dir, one.row.generation).get("per_report") or {}
    found: dict[str, dict[str, float]] = per_report.get(one.split) or {}
    return found


def _images(group: Sequence[Written]) -> dict[str, list[str]]:
    """By study, as the first run's page has them that shows images of this split."""
    for one in group:
        page = one.row.run_dir / "report.html" if one.row.run_dir is not None else None
        studies = content_of(page)["studies"] if page is not None and page.is_file() else None
        if studies and studies["split"] == one.split and any(images_of(shown) for shown in studies["rows"]):
            return {shown["id"]: images_of(shown) for shown in studies["rows"]}
    return {}


def _fitting(studies: list[JsonObject]) -> list[JsonObject]:
    """Those that have their texts and scores within TEXT_BYTES together; one with a huge report is left out."""
    kept, room = [], TEXT_BYTES
    for study in studies:
        size = len(json.dumps({**study, "images": []}))
        if size <= room:
            kept.append(study)
            room -= size
    return kept
