"""The result of each job of a sweep, read from its run folder: its choices, scores with intervals, and cost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from r2gen.config.overrides import option_name
from r2gen.config.plain import canonical, flat, is_under
from r2gen.config.task_table import TASKS
from r2gen.evaluate.scores import ScoreSpec, specs_from
from r2gen.evaluate.statistics import Interval, join_seeds
from r2gen.runs.folder import RunFolder
from r2gen.runs.identity import PROCESS_ONLY
from r2gen.runs.metrics_file import Metrics, metrics_path, read_metrics
from r2gen.sweeps.record import JobRecord
from r2gen.sweeps.view import labels

Scores = dict[str, dict[str, Interval]]  # split to score
Leaves = Mapping[str, Any]  # a configuration, with dotted keys
SEED = "seed"
BASELINES = ("constant", "nearest", "random")  # those that do not depend on the model
NOTHING = "–"  # the choice of a job that does not have this option
# Tasks whose jobs show the scores of their run folder.
SCORED = tuple(task.name for task in TASKS if task.scores or task.on == "new run")


@dataclass(frozen=True)
class Cost:
    """The cost of a run. None if it was not recorded."""

    device_seconds: float | None = None  # of training: seconds times ranks
    total_seconds: float | None = None  # wall-clock time, with the evaluation
    peak_memory_gib: float | None = None  # highest of all ranks: GPU memory, or that of the process on the CPU
    trainable: int | None = None
    parameters: int | None = None
    device: str = ""


@dataclass(frozen=True)
class JobResult:
    """The result of one job."""

    name: str  # unique: the overrides that other jobs do not have
    state: str
    reason: str | None
    run_dir: Path | None
    choices: dict[str, str]  # for every column of the table, which may include `seed`
    scores: Scores = field(default_factory=dict)
    baselines: dict[str, Scores] = field(default_factory=dict)  # by name
    margins: dict[str, dict[str, Any]] = field(default_factory=dict)  # split to score, over the constant report
    cost: Cost = field(default_factory=Cost)
    scored_as: str = ""  # recipe and signatures: scores are comparable if these are equal
    data_hash: str | None = None
    generation: str = ""
    score_specs: tuple[ScoreSpec, ...] = ()  # title, column and direction of each score


@dataclass(frozen=True)
class SeedMeans:
    """Means over the seeds of jobs that differ only in their seed, with Student's intervals."""

    choices: dict[str, str]  # without the seed
    seeds: tuple[str, ...]
    jobs: tuple[str, ...]  # their names
    scores: Scores


def results_of(jobs: Sequence[JobRecord]) -> list[JobResult]:
    """The results of jobs in their order, read from the files of each run."""
    configs = [_config(job) for job in jobs]
    columns = _columns(jobs, configs)
    return [
        _result(name, job, {column: _choice(column, job, config) for column in columns}, config)
        for name, job, config in zip(_names(jobs), jobs, configs, strict=True)
    ]


def with_recorded_quant(job: JobRecord) -> JobRecord:
    """The job with the quantisation that its run recorded: its checkpoint may have been quantised before."""
    folder = RunFolder(Path(job.run_dir)) if job.run_dir is not None else None
    quant = folder.facts().get("quant") if folder is not None and folder.exists() else None
    return job if quant is None else replace(job, choices={**job.choices, "quant": quant})


def means_over_seeds(results: Sequence[JobResult]) -> list[SeedMeans]:
    """The means of each group of jobs that differ only in their seed; empty if no group has more than one job."""
    groups: dict[str, list[JobResult]] = {}
    for result in results:
        if result.scores:
            key = canonical([_without_seed(result), result.scored_as, result.data_hash])
            groups.setdefault(key, []).append(result)
    if all(len(group) == 1 for group in groups.values()):
        return []
    return [
        SeedMeans(
            choices=_without_seed(group[0]),
            seeds=tuple(result.choices.get(SEED, NOTHING) for result in group),
            jobs=tuple(result.name for result in group),
            scores=_means(group),
        )
        for group in groups.values()
    ]


def shared_choices(jobs: Sequence[JobRecord]) -> dict[str, str]:
    """The groups whose option is the same in all jobs. A job that does not compose counts with its overrides."""
    composed = [job.choices for job in jobs if job.choices]
    if not composed:
        return {}
    of_each_job = [job.choices or {**composed[0], **_values(job.overrides)} for job in jobs]
    return {
        group: option
        for group, option in composed[0].items()
        if option is not None and all(choices.get(group) == option for choices in of_each_job)
    }


def _without_seed(result: JobResult) -> dict[str, str]:
    return {column: value for column, value in result.choices.items() if column != SEED}


def _means(group: Sequence[JobResult]) -> Scores:
    return {
        split: {
            score: join_seeds([result.scores[split][score].value for result in group])
            for score in group[0].scores[split]
            if all(score in result.scores[split] for result in group)
        }
        for split in group[0].scores
        if all(split in result.scores for result in group)
    }


def _config(job: JobRecord) -> Leaves:
    """The configuration in a job's run folder; empty if there is none."""
    folder = RunFolder(Path(job.run_dir)) if job.run_dir is not None else None
    return dict(flat(folder.config())) if folder is not None and folder.config_file.is_file() else {}


def _values(overrides: Sequence[str]) -> dict[str, str]:
    """The value of each option in a list of overrides."""
    return {option_name(override): override.partition("=")[2] for override in overrides}


def _columns(jobs: Sequence[JobRecord], configs: Sequence[Leaves]) -> list[str]:
    """Groups and options of the command line that differ between jobs, in the order of the command; the seed is last.

    A job that does not compose has only the choices in its overrides: it makes no other group differ.
    """
    groups = {group: None for job in jobs for group in job.choices}
    passed = list(dict.fromkeys(key for job in jobs for key in _values(job.overrides)))
    options = [key for key in passed if key not in groups and not is_under(key, *PROCESS_ONLY)]

    def differs(column: str) -> bool:
        values = {
            _choice(column, job, config)
            for job, config in zip(jobs, configs, strict=True)
            if job.choices or column in _values(job.overrides)
        }
        return len(values) > 1

    def place(column: str) -> tuple[bool, int]:
        return column == SEED, passed.index(column) if column in passed else len(passed)

    return sorted(filter(differs, [*groups, *options]), key=place)


def _choice(column: str, job: JobRecord, config: Leaves) -> str:
    value = job.choices.get(column, _values(job.overrides).get(column, config.get(column, NOTHING)))
    return NOTHING if value is None else str(value)


def _names(jobs: Sequence[JobRecord]) -> list[str]:
    """The labels of jobs, with the job's number if two have the same."""
    by_number = labels(jobs)
    names = list(by_number.values())
    return [name if names.count(name) == 1 else f"{name} #{number}" for number, name in by_number.items()]


def _result(name: str, job: JobRecord, choices: dict[str, str], config: Leaves) -> JobResult:
    run_dir = Path(job.run_dir) if job.run_dir is not None else None
    result = JobResult(name=name, state=job.state, reason=job.reason, run_dir=run_dir, choices=choices)
    if run_dir is None or not RunFolder(run_dir).exists():
        return result
    facts, metrics = RunFolder(run_dir).facts(), read_metrics_of(run_dir, job.choices.get("generation"))
    method = {"recipe": metrics.get("recipe"), "signatures": metrics.get("signatures")}
    if job.state == "done" and job.task in SCORED:
        result = replace(
            result,
            scores=_scores(metrics, "model"),
            baselines={name: scores for name in BASELINES if (scores := _scores(metrics, name))},
            margins={split: entry.get("margins", {}) for split, entry in (metrics.get("splits") or {}).items()},
        )
    return replace(
        result,
        cost=_cost(facts, config),
        scored_as=canonical(method) if metrics else "",
        data_hash=facts.get("data_hash"),
        generation=str(metrics.get("generation", "")),
        score_specs=specs_from(metrics),
    )


def read_metrics_of(run_dir: Path, generation: str | None) -> Metrics:
    """A run's scores with this decoding profile, if they have a file of their own; empty if nothing is scored."""
    own = metrics_path(run_dir, generation)
    return read_metrics(own if own.is_file() else metrics_path(run_dir))


def _scores(metrics: Mapping[str, Any], system: str) -> Scores:
    """The scores of the model or a baseline, without intervals in a split that was not scored in full."""
    scores = {}
    for split, entry in (metrics.get("splits") or {}).items():
        if system not in entry["systems"]:
            continue
        intervals = entry.get("intervals", {}).get(system, {})
        scores[split] = {
            score: Interval(
                value,
                intervals.get(score, {}).get("low"),
                intervals.get(score, {}).get("high"),
                intervals.get(score, {}).get("draws", 0),
            )
            for score, value in entry["systems"][system].items()
        }
    return scores


def _cost(facts: Mapping[str, Any], config: Leaves) -> Cost:
    seconds, parts = facts.get("seconds") or {}, facts.get("parameters") or []
    gpus = (facts.get("hardware") or {}).get("gpus") or []
    ranks = math.prod(
        count for name in ("trainer.devices", "trainer.nodes") if isinstance(count := config.get(name), int) and count
    )
    return Cost(
        device_seconds=seconds["train"] * ranks if "train" in seconds else None,
        total_seconds=sum(seconds.values()) if seconds else None,
        peak_memory_gib=facts.get("peak_memory_gib"),
        trainable=sum(part["trainable"] for part in parts) if parts else None,
        parameters=sum(part["total"] for part in parts) if parts else None,
        device=f"{ranks} x {gpus[0]}" if gpus else f"{ranks} x CPU",
    )
