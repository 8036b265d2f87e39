"""table.md and table.csv of a sweep: scores with 95 % intervals and cost of each job."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from r2gen.evaluate.scores import ScoreSpec
from r2gen.evaluate.statistics import Interval
from r2gen.evaluate.tables import shown_scores
from r2gen.pages.csv_text import csv_text
from r2gen.runs.files import write_whole
from r2gen.sweeps.job_results import JobResult, means_over_seeds

COSTS = ("device_seconds", "total_seconds", "peak_memory_gib", "trainable", "parameters")
HEADINGS = {"device_seconds": "device s", "total_seconds": "total s", "peak_memory_gib": "peak GiB"}


def write_tables(folder: Path, results: Sequence[JobResult], *, title: str) -> list[Path]:
    """Write table.md and table.csv into the folder, each atomically, and return their paths."""
    paths = [folder / "table.md", folder / "table.csv"]
    write_whole(paths[0], markdown(results, title=title))
    write_whole(paths[1], comma_separated(results))
    return paths


def score_names(results: Sequence[JobResult], split: str) -> list[str]:
    """The scores that a table shows, in the order of its columns."""
    return shown_scores((score for result in results for score in result.scores.get(split, {})), specs_of(results))


def specs_of(results: Sequence[JobResult]) -> list[ScoreSpec]:
    """The specifications of all scores in these results."""
    return list({spec.name: spec for result in results for spec in result.score_specs}.values())


def splits_of(results: Sequence[JobResult]) -> list[str]:
    splits = dict.fromkeys(split for result in results for split in result.scores)
    return sorted(splits, key=lambda split: ("val", "test").index(split) if split in ("val", "test") else 2)


def markdown(results: Sequence[JobResult], *, title: str) -> str:
    """For each split the scores of jobs and their means over seeds; then the jobs without scores."""
    parts = [f"# {_cell(title)}"]
    for split in splits_of(results):
        parts += [f"## {_cell(split)}", *_scores_of_jobs(results, split), *_means_over_seeds(results, split)]
    if len({result.scored_as for result in results if result.scores}) > 1:
        parts.append("The jobs were not all scored alike (see the signatures in metrics.json): do not compare them.")
    unscored = [[result.name, result.state, result.reason or ""] for result in results if not result.scores]
    if unscored:
        parts += ["## Without scores", _table(["job", "state", "reason"], unscored)]
    return "\n\n".join(parts) + "\n"


def _scores_of_jobs(results: Sequence[JobResult], split: str) -> list[str]:
    scores, scored = score_names(results, split), [result for result in results if split in result.scores]
    costs = [cost for cost in COSTS if any(getattr(result.cost, cost) is not None for result in scored)]
    lines = [
        [
            *result.choices.values(),
            *(_interval(result.scores[split].get(score)) for score in scores),
            *(_number(getattr(result.cost, cost)) for cost in costs),
        ]
        for result in scored
    ]
    heads = [*results[0].choices, *scores, *(HEADINGS.get(cost, cost) for cost in costs)]
    return ["Scores with 95 % intervals over studies.", _table(heads, lines)]


def _means_over_seeds(results: Sequence[JobResult], split: str) -> list[str]:
    means, scores = [mean for mean in means_over_seeds(results) if split in mean.scores], score_names(results, split)
    lines = [
        [
            *mean.choices.values(),
            ", ".join(mean.seeds),
            *(_interval(mean.scores[split].get(score)) for score in scores),
        ]
        for mean in means
    ]
    if not means:
        return []
    heads = [*means[0].choices, "seeds", *scores]
    return ["Means over seeds, with Student's 95 % intervals over seeds.", _table(heads, lines)]


def comma_separated(results: Sequence[JobResult]) -> str:
    """A line for each job and split; a job without scores has one line."""
    columns = list(results[0].choices) if results else []
    scores = list(dict.fromkeys(score for split in splits_of(results) for score in score_names(results, split)))
    heads = [f"{score}{bound}" for score in scores for bound in ("", "_low", "_high")]
    lines: list[list[object]] = []
    for result in results:
        cost = asdict(result.cost)
        of_job = [
            result.name,
            *result.choices.values(),
            result.state,
            result.reason or "",
            str(result.run_dir or ""),
            *(cost[name] for name in (*COSTS, "device")),
        ]
        for split in result.scores or [""]:
            of_split = result.scores.get(split, {})
            bounds = [_bounds(of_split.get(score)) for score in scores]
            lines.append([*of_job, split, *itertools.chain(*bounds)])
    return csv_text(["job", *columns, "state", "reason", "run_dir", *COSTS, "device", "split", *heads], lines)


def _bounds(score: Interval | None) -> tuple[object, object, object]:
    return ("", "", "") if score is None else (score.value, score.low, score.high)


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    cells = [[_cell(head) for head in heads], ["---"] * len(heads), *([_cell(text) for text in line] for line in lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _cell(text: str) -> str:
    """Escape text so that it stays in its cell and is not markup."""
    line = " ".join(str(text).split())
    return line.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _interval(score: Interval | None) -> str:
    if score is None:
        return "-"
    has_bounds = score.low is not None and score.high is not None
    return f"{score.value:.3f}" + (f" [{score.low:.3f}, {score.high:.3f}]" if has_bounds else "")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
