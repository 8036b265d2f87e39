"""report.html: one self-contained page of a run, made from the run folder's own files. Imports no torch.

The page holds patient text: it stays in the run folder (mode 0700), loads nothing, and shows reports as plain text.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from r2gen.errors import UserError
from r2gen.pages.curves import curves_of
from r2gen.pages.document import Row, content_of, write_document
from r2gen.pages.images import embedded
from r2gen.runs.files import read_jsonl
from r2gen.runs.provenance import now

SCRIPTS = ("pieces.js", "scores.js", "charts.js", "texts.js", "run.js")
STUDIES = 24
SHOWN_SPLITS = ("test", "val")
CURVE_POINTS = 1600


def write_page(run_dir: Path, *, images: Mapping[str, Sequence[Image.Image]] | None = None) -> Path:
    """(Re)write run_dir/report.html from the run's own files, atomically (temporary name, then rename).

    `images` maps the ids of `shown_studies` to their images (mode L); as many studies are shown, none where it
    is empty. None keeps the studies and images of the existing page (24 studies without images where there is none),
    so that a launcher can say how a run ended. Gives the page's path.
    Only run.json and config.yaml must be there. Raises UserError naming a broken file (and line).
    """
    page = run_dir / "report.html"
    run, metrics = _object(run_dir / "run.json"), _optional_object(run_dir / "metrics.json")
    config_text, choices = _config(run_dir / "config.yaml")
    shown = embedded(images) if images is not None else _embedded_before(page)
    content = {
        "written": now(),
        "folder": run_dir.name,
        "run": run,
        "config": config_text,
        "choices": choices,
        "curves": curves_of(run_dir / "train.jsonl", most=CURVE_POINTS),
        "metrics": {key: value for key, value in metrics.items() if key != "per_report"} or None,
        "studies": _studies(run_dir / "predictions", metrics=metrics, images=shown),
    }
    return write_document(page, title=str(run.get("name") or run_dir.name), scripts=SCRIPTS, content=content)


def shown_studies(run_dir: Path, *, count: int = STUDIES) -> tuple[str, list[str]] | None:
    """The split and the ids that the page will show, for passing their images; None before the first prediction."""
    found = _predictions(run_dir / "predictions", metrics=_optional_object(run_dir / "metrics.json"))
    if found is None:
        return None
    name, _, rows = found
    return name.split(".", 1)[0], chosen_studies([str(row["id"]) for row in rows], count=count)


def chosen_studies(ids: Sequence[str], *, count: int = STUDIES) -> list[str]:
    """The studies on the page: evenly spread over the sorted ids, the same at every refresh and in any order of ids."""
    ordered = sorted(set(ids))
    if len(ordered) <= count:
        return ordered
    return [ordered[index * len(ordered) // count] for index in range(count)]


# ---------------------------------------------------------------------------------------------- reading the run's files


def _object(path: Path) -> Row:
    """The JSON object in a file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: {path.parent} is no run folder") from None
    except ValueError as error:
        raise UserError(f"{path} is not readable as JSON ({error}): restore it or run the evaluation again") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} holds {type(value).__name__} where an object is expected")
    return value


def _optional_object(path: Path) -> Row:
    return _object(path) if path.exists() else {}


def _config(path: Path) -> tuple[str, Row]:
    """The resolved configuration as text, and the option each group has in it."""
    try:
        text = path.read_text(encoding="utf-8")
        config = yaml.safe_load(text)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: {path.parent} is no run folder") from None
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} is not readable as YAML: {error}") from None
    if not isinstance(config, dict):
        raise UserError(f"{path} holds {type(config).__name__} where a configuration is expected")
    return text, config.get("choices") or {}


# ------------------------------------------------------------------------------------------------------ what is shown


def _studies(folder: Path, *, metrics: Row, images: Mapping[str, list[str]] | None) -> Row | None:
    """As many studies as there are images for, with images and scores; None before the first prediction."""
    found = _predictions(folder, metrics=metrics)
    if found is None:
        return None
    name, header, rows = found
    split, generation = name.split(".", 1)
    by_id = {str(row["id"]): row for row in rows}
    per_report: dict[str, dict[str, float]] = (metrics.get("per_report") or {}).get(split) or {}
    return {
        "split": split,
        "generation": generation,
        "header": header,
        "total": len(by_id),
        "distinct": len({row["report"] for row in rows}),
        "cut": sum(row.get("finish") == "length" for row in rows),
        "rows": [
            {
                **by_id[study],
                "images": (images or {}).get(study, []),
                "scores": {score: values[study] for score, values in per_report.items() if study in values},
            }
            for study in chosen_studies(list(by_id), count=STUDIES if images is None else len(images))
        ],
    }


def _predictions(folder: Path, *, metrics: Row) -> tuple[str, Row, list[Row]] | None:
    """`<split>.<generation>`, header and studies of the file to show; None before the first prediction.

    Test before val, but only splits that are scored once there are scores: test reports of an older checkpoint stay out
    while training goes on. In a split the generation that was scored, otherwise the newest.
    """
    for split in [name for name in SHOWN_SPLITS if name in (metrics.get("splits") or ())] or SHOWN_SPLITS:
        files = sorted(folder.glob(f"{split}.*.jsonl"), key=lambda path: (path.stat().st_mtime_ns, path.name))
        scored = [path for path in files if path.name == f"{split}.{metrics.get('generation')}.jsonl"]
        for path in scored or files[-1:]:
            lines = read_jsonl(path)
            if lines and "header" not in lines[0]:
                raise UserError(f"{path}, line 1 is no header: delete the file and evaluate again")
            if lines:
                return path.name.removesuffix(".jsonl"), lines[0]["header"], lines[1:]
    return None


def images_of(row: dict[str, Any]) -> list[str]:
    """The embedded images of a study on a page; pages of earlier versions call them films."""
    found: list[str] = row["images"] if "images" in row else row.get("films", [])
    return found


def _embedded_before(page: Path) -> dict[str, list[str]] | None:
    """The images, by study, of the page that is there; None where there is no page, or none with studies."""
    if not page.exists():
        return None
    studies = content_of(page)["studies"]
    return {row["id"]: images_of(row) for row in studies["rows"]} if studies else None
