"""Writes report.html, the page of a run, from the files of the run folder.

The page contains patient text: it stays in the run folder (mode 0700), loads nothing, and shows reports as plain text.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Required, TypedDict

from PIL import Image

from r2gen.pages.curves import curves_of
from r2gen.pages.document import JsonObject, content_of, write_document
from r2gen.pages.images import IMAGE_SIZES_PX, embedded
from r2gen.pages.links import links_of
from r2gen.runs.folder import RunFolder
from r2gen.runs.metrics_file import external_metrics, metrics_path, read_metrics
from r2gen.runs.prediction_lines import read_prediction_lines
from r2gen.runs.provenance import now
from r2gen.runs.untrusted import misfits, read_text
from r2gen.runs.verdict import verdict

SCRIPTS = ("run/masthead", "run/scores", "run/inputs", "run/curves", "run/studies", "run/details", "run/page")
PAGE = "report.html"
STUDIES = 24
TEXT_BYTES = 8_000_000  # of all texts of studies together; of more studies, an even share is shown
SHOWN_SPLITS = ("test", "val")
CURVE_POINTS = 1600


FindingsOf = Callable[[str], Sequence[str]]  # the findings that a text states
ContextsOf = Callable[[str], Mapping[str, Mapping[str, str]]]  # of a split, by study and title
ImagesOf = Callable[[str, Sequence[str]], dict[str, list[str]]]  # data URIs of studies of a split, by study


class PageStudy(TypedDict, total=False):
    id: Required[str]
    images: list[str]
    films: list[str]
    report: str
    reference: str
    findings: dict[str, list[str]]
    context: dict[str, str]


class PageStudies(TypedDict):
    """The types of the studies in a page."""

    split: str
    rows: list[PageStudy]


_Predictions = tuple[str, JsonObject, list[JsonObject]]  # `<split>.<generation>`, header, predictions


@dataclass(frozen=True)
class _Before:
    """What an existing page shows."""

    images: dict[str, list[str]] = field(default_factory=dict)  # by study
    findings: dict[tuple[str, str], dict[str, list[str]]] = field(default_factory=dict)  # by report and reference
    contexts: dict[str, dict[str, str]] = field(default_factory=dict)  # by study
    shows_none: bool = False  # it was written without studies
    split: str | None = None
    image_px: int | None = None  # the largest size of its images


def write_page(
    run_dir: Path,
    *,
    images: Mapping[str, Sequence[Image.Image]] | None = None,
    images_of: ImagesOf | None = None,
    count: int = STUDIES,
    findings_of: FindingsOf | None = None,
    contexts_of: ContextsOf | None = None,
) -> Path:
    """Write run_dir/report.html atomically from the files of the run and return its path.

    The page has the texts of all studies. `images` maps the ids of `shown_studies` to their images (mode L); if it is
    empty, the page shows no study. `images_of` reads those of at most `count` studies instead, unless the existing page
    has them. With neither the images are those of the existing page, and without `findings_of` and `contexts_of` the
    findings and contexts too: this is how the launcher updates the status of a run that ended.

    Only run.json and config.yaml are required. Raises UserError naming a broken file, and the line if there is one.
    """
    page, folder = run_dir / PAGE, RunFolder(run_dir)
    run, metrics = folder.facts(), read_metrics(metrics_path(run_dir))
    choices, external = folder.config()["choices"], external_metrics(run_dir)
    before, shown = _before(page), _predictions(run_dir / "predictions", metrics=metrics)
    if images is not None:
        before = replace(before, images=embedded(images), shows_none=not images)
    elif images_of is not None:
        split, ids = _shown_studies(shown, count=count) if shown is not None else ("", [])
        if not _has_images(before, split, ids):
            uris = images_of(split, ids) if ids else {}
            before = replace(before, images=uris, shows_none=not uris)
    content = {
        "written": now(),
        "folder": run_dir.name,
        "run": run,
        "config": read_text(folder.config_file),
        "choices": choices,
        "curves": curves_of(run_dir / "train.jsonl", most=CURVE_POINTS),
        "metrics": _shown_metrics(metrics),
        "external": {
            name: {key: scores.get(key) for key in ("recipe", "signatures")} | {"splits": _with_verdicts(scores)}
            for name, scores in external.items()
        },
        "score_specs": _score_specs([*external.values(), metrics]),
        "studies": _studies(
            shown,
            metrics=metrics,
            before=before,
            findings_of=findings_of,
            contexts_of=contexts_of or (lambda _: before.contexts),
        ),
        "links": links_of(run_dir),
        "image_px": IMAGE_SIZES_PX[0],
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
        if "sets" in entry:
            of_sets = entry["sets"].items()
            splits[split]["sets"] = {name: of_set | {"verdict": verdict(of_set, specs)} for name, of_set in of_sets}
        if "truncated" in entry:
            splits[split]["truncated"] = entry["truncated"] | {"verdict": verdict(entry["truncated"], specs)}
    return splits


def _score_specs(metrics: Sequence[JsonObject]) -> list[JsonObject]:
    """What is known of each score; the last of several specifications of a score counts."""
    return list({spec["name"]: spec for of_data in metrics for spec in of_data.get("score_specs", [])}.values())


def shown_studies(run_dir: Path, *, count: int = STUDIES) -> tuple[str, list[str]] | None:
    """The split and the ids of the studies that will have images; None before the first prediction."""
    shown = _predictions(run_dir / "predictions", metrics=read_metrics(metrics_path(run_dir)))
    return None if shown is None else _shown_studies(shown, count=count)


def _shown_studies(shown: _Predictions, *, count: int) -> tuple[str, list[str]]:
    name, _, predictions = shown
    return name.split(".", 1)[0], chosen_studies([str(prediction["id"]) for prediction in predictions], count=count)


def _has_images(before: _Before, split: str, ids: Sequence[str]) -> bool:
    """Whether an existing page has the images that it would get, since reading takes seconds."""
    return before.image_px == IMAGE_SIZES_PX[0] and before.split == split and set(before.images) == set(ids) != set()


def chosen_studies(ids: Sequence[str], *, count: int = STUDIES) -> list[str]:
    """Up to `count` studies, spaced evenly over the sorted ids, so that every update of a page shows the same ones."""
    ordered = sorted(set(ids))
    if len(ordered) <= count:
        return ordered
    return [ordered[index * len(ordered) // count] for index in range(count)]


# ---------------------------------------------------------------------------------------------- studies on the page


def _studies(
    shown: _Predictions | None,
    *,
    metrics: JsonObject,
    before: _Before,
    findings_of: FindingsOf | None,
    contexts_of: ContextsOf,
) -> JsonObject | None:
    """The studies with their texts, findings, contexts, images and scores; None before the first prediction."""
    if shown is None:
        return None
    name, header, predictions = shown
    split, generation = name.split(".", 1)
    contexts = contexts_of(split)
    by_id = {id: line | {"context": contexts.get(id) or {}} for line in predictions for id in [str(line["id"])]}
    per_report: dict[str, dict[str, float]] = (metrics.get("per_report") or {}).get(split) or {}
    return {
        "split": split,
        "generation": generation,
        "header": header,
        "total": len(by_id),
        "distinct": len({prediction["report"] for prediction in predictions}),
        "cut": sum(prediction.get("finish") == "length" for prediction in predictions),
        "rows": []
        if before.shows_none
        else [
            {
                **by_id[study],
                "images": before.images.get(study, []),
                "scores": {score: short(values[study]) for score, values in per_report.items() if study in values},
                "findings": _findings(by_id[study], before, findings_of),
            }
            for study in _fitting(by_id, first=before.images)
        ],
    }


def _findings(line: JsonObject, before: _Before, findings_of: FindingsOf | None) -> JsonObject:
    """The findings of a study's report and reference; empty if they are not known."""
    if findings_of is None:
        return dict(before.findings.get((line["report"], line["reference"]), {}))
    return {text: list(findings_of(line[text])) for text in ("reference", "report")}


def _fitting(by_id: Mapping[str, JsonObject], *, first: Mapping[str, object]) -> list[str]:
    """The ids of all studies, or of as many as fit into TEXT_BYTES, those in `first` among them."""
    size = sum(len(json.dumps(line)) for line in by_id.values())
    if size <= TEXT_BYTES:
        return sorted(by_id)
    count = max(1, len(by_id) * TEXT_BYTES // size)
    return sorted({*chosen_studies(list(by_id), count=count), *(study for study in first if study in by_id)})


def short(value: object) -> object:
    """A number with the five digits that a page can show at most, since thousands of them are in a page."""
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _predictions(folder: Path, *, metrics: JsonObject) -> _Predictions | None:
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
    """The split of an existing page, and its embedded images by study; None if there is no page with studies."""
    before = _before(page)
    return None if before.split is None else (before.split, before.images)


def _before(page: Path) -> _Before:
    """What an existing page shows. In pages of earlier versions the images of a study have the key `films`."""
    content = content_of(page)
    studies: Any = content.get("studies")
    if next(misfits(studies, PageStudies), None) is not None:
        return _Before()
    rows = studies["rows"]
    images = {row["id"]: row.get("images") or row.get("films") or [] for row in rows}
    return _Before(
        images={study: uris for study, uris in images.items() if uris},
        findings={(row.get("report", ""), row.get("reference", "")): row.get("findings", {}) for row in rows},
        contexts={row["id"]: row.get("context", {}) for row in rows},
        shows_none=not rows,
        split=studies["split"],
        image_px=content.get("image_px"),
    )
