"""sweep.html: a self-contained page of many runs, made from their folders.

It shows the same studies of every run. Images are copied from the runs' own pages, so that no data set is opened.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from r2gen.config.plain import canonical
from r2gen.evaluate.labeler import stated_findings
from r2gen.evaluate.predictions import predictions_file
from r2gen.pages.curves import curves_of
from r2gen.pages.document import JsonObject, write_document
from r2gen.pages.links import href, links_of
from r2gen.pages.run import chosen_studies, short, shown_in
from r2gen.runs.prediction_lines import read_prediction_lines
from r2gen.runs.provenance import now
from r2gen.sweeps.job_results import BASELINES, JobResult, means_over_seeds, read_metrics_of
from r2gen.sweeps.table import COSTS, score_names, specs_of, splits_of

SCRIPTS = ("sweep/state", "sweep/runs", "sweep/parallel", "sweep/cost", "sweep/page")
CURVE_POINTS = 160  # per run
STUDIES = 12
TEXT_BYTES = 1_500_000  # of all reports together; longer reports mean fewer studies


@dataclass(frozen=True)
class SplitReports:
    """The reports of one job in one split, by study."""

    result: JobResult
    split: str
    texts: dict[str, JsonObject]


def write_sweep_page(
    path: Path,
    results: Sequence[JobResult],
    *,
    title: str,
    command: str | None = None,
    shared: dict[str, str] | None = None,
) -> Path:
    """Write the page of these jobs atomically, readable by its owner only, and return its path.

    `command` starts the sweep again; `shared` are the choices that all jobs have in common. Raises UserError that names
    a broken file of a run.
    """
    splits = splits_of(results)
    content = {
        "title": title,
        "written": now(),
        "command": command,
        "shared": dict(shared or {}),
        "columns": list(results[0].choices) if results else [],
        "costs": [cost for cost in COSTS if any(getattr(result.cost, cost) is not None for result in results)],
        "splits": {split: score_names(results, split) for split in splits},
        "score_specs": [asdict(spec) for spec in specs_of(results)],
        "alike": len({result.scored_as for result in results if result.scores}) <= 1,
        "rows": [_job(result, path.parent) for result in results],
        "baselines": _baselines(results),
        "links": links_of(path.parent, [result.run_dir for result in results if result.run_dir is not None]),
        "joined": [asdict(means) for means in means_over_seeds(results)],
        "studies": _fitting(_studies(results)),
    }
    return write_document(path, title=title, scripts=SCRIPTS, content=content)


def _job(result: JobResult, folder: Path) -> JsonObject:
    """A job as the page's script reads it."""
    page = result.run_dir / "report.html" if result.run_dir is not None else None
    link = href(page, folder=folder) if page is not None and page.is_file() else None
    log = result.run_dir / "train.jsonl" if result.run_dir is not None else None
    curves = (
        curves_of(log, most=CURVE_POINTS) if log is not None and log.is_file() else {"steps": [], "validations": []}
    )
    return {
        "name": result.name,
        "state": result.state,
        "reason": result.reason,
        "link": link,
        "choices": result.choices,
        "folder": str(result.run_dir) if result.run_dir is not None else None,
        "scores": asdict(result)["scores"],
        "margins": result.margins,
        "cost": asdict(result.cost),
        "scored_as": result.scored_as,
        "losses": [[step["step"], short(step.get("loss"))] for step in curves["steps"]],
        "validations": [
            [validation["step"], {score: short(value) for score, value in (validation.get("scores") or {}).items()}]
            for validation in curves["validations"]
        ],
    }


def _baselines(results: Sequence[JobResult]) -> list[JsonObject]:
    """The scores of each baseline, with the names of the jobs that have it; jobs on other data have another."""
    groups: dict[str, JsonObject] = {}
    for result in results:
        for name, scores in asdict(result)["baselines"].items():
            key = canonical([name, result.scored_as, scores])
            groups.setdefault(key, {"name": name, "scores": scores, "jobs": []})["jobs"].append(result.name)
    return sorted(groups.values(), key=lambda baseline: BASELINES.index(baseline["name"]))


def _studies(results: Sequence[JobResult]) -> list[JsonObject]:
    """Studies of all jobs that were scored on the same references, the same ones for each job."""
    groups: dict[str, list[SplitReports]] = {}
    for result in results:
        split = next((split for split in ("test", "val") if split in result.scores), None)
        if split is None or result.run_dir is None:
            continue
        lines = read_prediction_lines(predictions_file(result.run_dir, split, result.generation))
        if lines is not None:
            texts = {line["id"]: line for line in lines[1]}
            references = canonical(sorted((id, line["reference"]) for id, line in texts.items()))
            groups.setdefault(split + references, []).append(SplitReports(result, split, texts))
    return [study for group in groups.values() for study in _studies_of(group, count=max(1, STUDIES // len(groups)))]


def _studies_of(group: Sequence[SplitReports], *, count: int) -> list[JsonObject]:
    first, images = group[0], _images(group)
    scores = {reports.result.name: _scores_per_report(reports) for reports in group}
    return [
        {
            "id": id,
            "split": first.split,
            "images": images.get(id, []),
            "reference": first.texts[id]["reference"],
            "reports": {reports.result.name: reports.texts[id]["report"] for reports in group},
            "findings": {
                "reference": list(stated_findings(first.texts[id]["reference"])),
                **{reports.result.name: list(stated_findings(reports.texts[id]["report"])) for reports in group},
            },
            "scores": {
                name: {score: short(values[id]) for score, values in per_report.items() if id in values}
                for name, per_report in scores.items()
            },
        }
        for id in chosen_studies([id for id in first.texts if id in images] or list(first.texts), count=count)
    ]


def _scores_per_report(reports: SplitReports) -> dict[str, dict[str, float]]:
    assert reports.result.run_dir is not None
    per_report = read_metrics_of(reports.result.run_dir, reports.result.generation).get("per_report") or {}
    scores: dict[str, dict[str, float]] = per_report.get(reports.split) or {}
    return scores


def _images(group: Sequence[SplitReports]) -> dict[str, list[str]]:
    """Images by study, from the page of the first run that shows images of this split."""
    for reports in group:
        page = reports.result.run_dir / "report.html" if reports.result.run_dir is not None else None
        shown = shown_in(page) if page is not None else None
        if shown is not None and shown[0] == reports.split and any(shown[1].values()):
            return shown[1]
    return {}


def _fitting(studies: list[JsonObject]) -> list[JsonObject]:
    """The studies that fit into TEXT_BYTES together; a study with a huge report is left out."""
    fitting, room = [], TEXT_BYTES
    for study in studies:
        size = len(json.dumps({**study, "images": []}))
        if size <= room:
            fitting.append(study)
            room -= size
    return fitting
