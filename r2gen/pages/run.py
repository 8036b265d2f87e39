"""Writes report.html, the page of a run, from the files of the run folder.

The page contains patient text: it stays in the run folder (mode 0700), loads nothing, and shows reports as plain text.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Required, TypedDict

from PIL import Image

from r2gen.pages.curves import curves_of
from r2gen.pages.document import JsonObject, content_of, write_document
from r2gen.pages.images import embedded
from r2gen.runs.folder import RunFolder
from r2gen.runs.metrics_file import external_metrics, metrics_path, read_metrics
from r2gen.runs.prediction_lines import read_prediction_lines
from r2gen.runs.provenance import now
from r2gen.runs.untrusted import misfits, read_text
from r2gen.runs.verdict import verdict

SCRIPTS = ("run/masthead", "run/scores", "run/curves", "run/studies", "run/details", "run/page")
STUDIES = 24
SHOWN_SPLITS = ("test", "val")
CURVE_POINTS = 1600


class PageStudy(TypedDict, total=False):
    id: Required[str]
    images: list[str]
    films: list[str]


class PageStudies(TypedDict):
    """The types of the studies in a page."""

    split: str
    rows: list[PageStudy]


def write_page(run_dir: Path, *, images: Mapping[str, Sequence[Image.Image]] | None = None) -> Path:
    """Write run_dir/report.html atomically from the files of the run and return its path.

    `images` maps the ids of `shown_studies` to their images (mode L); the page shows these studies. With None the page
    shows the studies and images of the existing page, or 24 studies without images if there is no page: this is how
    the launcher updates the status of a run that ended.

    Only run.json and config.yaml are required. Raises UserError naming a broken file, and the line if there is one.
    """
    page, folder = run_dir / "report.html", RunFolder(run_dir)
    run, metrics = folder.facts(), read_metrics(metrics_path(run_dir))
    choices = folder.config()["choices"]
    shown = embedded(images) if images is not None else _embedded_before(page)
    content = {
        "written": now(),
        "folder": run_dir.name,
        "run": run,
        "config": read_text(folder.config_file),
        "choices": choices,
        "curves": curves_of(run_dir / "train.jsonl", most=CURVE_POINTS),
        "metrics": _shown_metrics(metrics),
        "external": {
            name: {"recipe": scores.get("recipe"), "splits": _with_verdicts(scores)}
            for name, scores in external_metrics(run_dir).items()
        },
        "score_specs": metrics.get("score_specs", []),
        "studies": _studies(run_dir / "predictions", metrics=metrics, images=shown),
    }
    return write_document(page, title=str(run.get("name") or run_dir.name), scripts=SCRIPTS, content=content)


def _shown_metrics(metrics: JsonObject) -> JsonObject | None:
    if not metrics:
        return None
    shown = {key: value for key, value in metrics.items() if key not in ("per_report", "score_specs")}
    return shown | {"splits": _with_verdicts(metrics)}


def _with_verdicts(metrics: JsonObject) -> JsonObject:
    """The splits with the sentences about each; also about the scores against truncated references."""
    specs, splits = metrics["score_specs"], {}
    for split, entry in metrics["splits"].items():
        splits[split] = entry | {"verdict": verdict(entry, specs)}
        if "truncated" in entry:
            splits[split]["truncated"] = entry["truncated"] | {"verdict": verdict(entry["truncated"], specs)}
    return splits


def shown_studies(run_dir: Path, *, count: int = STUDIES) -> tuple[str, list[str]] | None:
    """The split and the ids of the studies that the page will show; None before the first prediction."""
    shown = _predictions(run_dir / "predictions", metrics=read_metrics(metrics_path(run_dir)))
    if shown is None:
        return None
    name, _, predictions = shown
    return name.split(".", 1)[0], chosen_studies([str(prediction["id"]) for prediction in predictions], count=count)


def chosen_studies(ids: Sequence[str], *, count: int = STUDIES) -> list[str]:
    """Up to `count` studies, spaced evenly over the sorted ids, so that every update of a page shows the same ones."""
    ordered = sorted(set(ids))
    if len(ordered) <= count:
        return ordered
    return [ordered[index * len(ordered) // count] for index in range(count)]


# ---------------------------------------------------------------------------------------------- studies on the page


def _studies(folder: Path, *, metrics: JsonObject, images: Mapping[str, list[str]] | None) -> JsonObject | None:
    """The studies with their texts, images and scores; None before the first prediction."""
    shown = _predictions(folder, metrics=metrics)
    if shown is None:
        return None
    name, header, predictions = shown
    split, generation = name.split(".", 1)
    by_id = {str(prediction["id"]): prediction for prediction in predictions}
    per_report: dict[str, dict[str, float]] = (metrics.get("per_report") or {}).get(split) or {}
    return {
        "split": split,
        "generation": generation,
        "header": header,
        "total": len(by_id),
        "distinct": len({prediction["report"] for prediction in predictions}),
        "cut": sum(prediction.get("finish") == "length" for prediction in predictions),
        "rows": [
            {
                **by_id[study],
                "images": (images or {}).get(study, []),
                "scores": {score: values[study] for score, values in per_report.items() if study in values},
            }
            for study in chosen_studies(list(by_id), count=STUDIES if images is None else len(images))
        ],
    }


def _predictions(folder: Path, *, metrics: JsonObject) -> tuple[str, JsonObject, list[JsonObject]] | None:
    """`<split>.<generation>`, the header and the predictions of the file to show; None before the first prediction.

    Test is preferred to val. Once there are scores, only scored splits are shown, so that test reports of an older
    checkpoint are not shown while training continues. Within a split, the generation profile that was scored is
    preferred to the newest.
    """
    for split in [name for name in SHOWN_SPLITS if name in (metrics.get("splits") or ())] or SHOWN_SPLITS:
        files = sorted(folder.glob(f"{split}.*.jsonl"), key=lambda path: (path.stat().st_mtime_ns, path.name))
        scored = [path for path in files if path.name == f"{split}.{metrics.get('generation')}.jsonl"]
        for path in scored or files[-1:]:
            lines = read_prediction_lines(path)
            if lines is not None:
                return path.name.removesuffix(".jsonl"), *lines
    return None


def shown_in(page: Path) -> tuple[str, dict[str, list[str]]] | None:
    """The split of an existing page, and its embedded images by study; None if there is no page with studies.

    Pages of earlier versions call the images films.
    """
    studies: Any = content_of(page).get("studies")
    if next(misfits(studies, PageStudies), None) is not None:
        return None
    images = {
        study["id"]: study["images"] if "images" in study else study.get("films", []) for study in studies["rows"]
    }
    return studies["split"], images


def _embedded_before(page: Path) -> dict[str, list[str]] | None:
    shown = shown_in(page)
    return None if shown is None else shown[1]
