"""What the runs of a sweep came to: a row a job with its choices, scores with intervals, and cost. Imports no torch.

Works on any run folders: `jobs_of_runs` makes of them what a sweep's record holds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r2gen.config.plain import canonical, flat, is_under
from r2gen.evaluate.scores import ScoreSpec, specs_from
from r2gen.evaluate.statistics import Interval, join_seeds
from r2gen.runs.folder import RunFolder
from r2gen.runs.identity import PROCESS_ONLY, weight_options
from r2gen.runs.metrics_file import Metrics, metrics_path, read_metrics
from r2gen.sweeps.record import JobRecord
from r2gen.sweeps.view import labels

Scores = dict[str, dict[str, Interval]]  # split to score
SEED = "seed"
NOTHING = "–"  # a choice that a job does not have
SCORED = ("train", "evaluate", "import")  # tasks whose runs have scores


@dataclass(frozen=True)
class Cost:
    """What a run took. None where it was not recorded."""

    device_seconds: float | None = None  # of training: seconds times ranks
    total_seconds: float | None = None  # with the evaluation, by the clock
    peak_memory_gib: float | None = None  # of the rank that took most: GPU memory, or the process's without a GPU
    trainable: int | None = None
    parameters: int | None = None
    device: str = ""


@dataclass(frozen=True)
class SweepRow:
    """One job."""

    name: str  # unique: what tells it from the others
    state: str
    reason: str | None
    run_dir: Path | None
    choices: dict[str, str]  # of every column of the table, `seed` among them
    scores: Scores = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)
    scored_as: str = ""  # recipe and signatures; scores compare where it is the same
    data_hash: str | None = None
    generation: str = ""
    score_specs: tuple[ScoreSpec, ...] = ()  # of the scores: title, column, direction


@dataclass(frozen=True)
class SeedRow:
    """Done jobs that differ in their seed alone: means over the seeds, with Student's interval."""

    choices: dict[str, str]  # without the seed
    seeds: tuple[str, ...]
    rows: tuple[str, ...]  # their names
    scores: Scores


def jobs_of_runs(folders: Sequence[Path]) -> list[JobRecord]:
    """Run folders as jobs. Raises UserError where one is no run folder."""
    jobs = []
    for number, path in enumerate(folders):
        folder = RunFolder(path)
        facts, config = folder.facts(), folder.config()
        left_out = (*PROCESS_ONLY, *weight_options(config))
        told = [text for text in facts["overrides"] if not is_under(text.partition("=")[0], *left_out)]
        jobs.append(
            JobRecord(
                number,
                told,
                config.get("choices") or {},
                facts.get("task"),
                str(path),
                state="done" if facts["status"] == "finished" else facts["status"],
                reason=facts.get("reason"),
            )
        )
    return jobs


def rows_of(jobs: Sequence[JobRecord]) -> list[SweepRow]:
    """The rows of jobs in their order, and nothing of a run but what its own files say."""
    configs = [_config(job) for job in jobs]
    columns = _columns(jobs, configs)
    every = [
        {column: _choice(column, job, config) for column in columns} for job, config in zip(jobs, configs, strict=True)
    ]
    names = _names(jobs)
    return [
        _row(name, job, choices, config) for name, job, choices, config in zip(names, jobs, every, configs, strict=True)
    ]


def joined(rows: Sequence[SweepRow]) -> list[SeedRow]:
    """Rows of several seeds as one; empty where no configuration has more than one."""
    groups: dict[str, list[SweepRow]] = {}
    for row in rows:
        if row.scores:
            groups.setdefault(canonical([_but_seed(row), row.scored_as, row.data_hash]), []).append(row)
    found = [
        SeedRow(
            _but_seed(group[0]),
            tuple(row.choices.get(SEED, NOTHING) for row in group),
            tuple(row.name for row in group),
            _means(group),
        )
        for group in groups.values()
    ]
    return found if any(len(one.rows) > 1 for one in found) else []


def shared_choices(jobs: Sequence[JobRecord]) -> dict[str, str]:
    """The groups whose option is the same in all jobs; one that does not compose has only what was typed."""
    composed = [job.choices for job in jobs if job.choices]
    if not composed:
        return {}
    every = [job.choices or {**composed[0], **_typed(job.overrides)} for job in jobs]
    return {
        group: option
        for group, option in composed[0].items()
        if option is not None and all(choices.get(group) == option for choices in every)
    }


def _but_seed(row: SweepRow) -> dict[str, str]:
    return {column: value for column, value in row.choices.items() if column != SEED}


def _means(group: Sequence[SweepRow]) -> Scores:
    return {
        split: {
            score: join_seeds([row.scores[split][score].value for row in group])
            for score in group[0].scores[split]
            if all(score in row.scores[split] for row in group)
        }
        for split in group[0].scores
        if all(split in row.scores for row in group)
    }


def _config(job: JobRecord) -> dict[str, Any]:
    """The leaves of a job's configuration: of its run folder where there is one, else what was typed."""
    if job.run_dir is not None and (Path(job.run_dir) / "config.yaml").is_file():
        return dict(flat(RunFolder(Path(job.run_dir)).config()))
    return {}


def _typed(overrides: Sequence[str]) -> dict[str, str]:
    pairs = (text.partition("=") for text in overrides)
    return {key.lstrip("+~"): value for key, _, value in pairs}


def _columns(jobs: Sequence[JobRecord], configs: Sequence[dict[str, Any]]) -> list[str]:
    """Groups that differ between the jobs, then options that some command typed and that differ; the seed last.

    A job that does not compose has no choices but those typed: it makes no other group differ.
    """
    groups = {group: None for job in jobs for group in job.choices}
    leaves = {key: None for job in jobs for key in _typed(job.overrides) if key not in groups}
    told = [key for key in leaves if not is_under(key, *PROCESS_ONLY)]
    differ = [
        column
        for column in [*groups, *told]
        if len(
            {
                _choice(column, job, config)
                for job, config in zip(jobs, configs, strict=True)
                if job.choices or column in _typed(job.overrides)
            }
        )
        > 1
    ]
    return sorted(differ, key=lambda column: column == SEED)


def _choice(column: str, job: JobRecord, config: Mapping[str, Any]) -> str:
    typed = _typed(job.overrides)
    value = job.choices.get(column, typed.get(column, config.get(column, NOTHING)))
    return NOTHING if value is None else str(value)


def _names(jobs: Sequence[JobRecord]) -> list[str]:
    """Their labels, told apart where two typed the same."""
    known = labels(jobs)
    told = list(known.values())
    return [name if told.count(name) == 1 else f"{name} #{number}" for number, name in known.items()]


def _row(name: str, job: JobRecord, choices: dict[str, str], config: Mapping[str, Any]) -> SweepRow:
    run_dir = Path(job.run_dir) if job.run_dir is not None else None
    row = SweepRow(name=name, state=job.state, reason=job.reason, run_dir=run_dir, choices=choices)
    if run_dir is None or not (run_dir / "run.json").is_file():
        return row
    facts, metrics = RunFolder(run_dir).facts(), read_metrics_of(run_dir, job.choices.get("generation"))
    same = {"recipe": metrics.get("recipe"), "signatures": metrics.get("signatures")}
    return SweepRow(
        name=name,
        state=job.state,
        reason=job.reason,
        run_dir=run_dir,
        choices=choices,
        scores=_scores(metrics) if job.state == "done" and job.task in SCORED else {},
        cost=_cost(facts, config),
        scored_as=canonical(same) if metrics else "",
        data_hash=facts.get("data_hash"),
        generation=str(metrics.get("generation", "")),
        score_specs=specs_from(metrics),
    )


def read_metrics_of(run_dir: Path, generation: str | None) -> Metrics:
    """A run's scores with this decoding profile where they have a file of their own; empty where nothing is scored."""
    own = metrics_path(run_dir, generation)
    return read_metrics(own if own.is_file() else metrics_path(run_dir))


def _scores(metrics: Mapping[str, Any]) -> Scores:
    """The model's scores; without an interval where the split was not scored in full."""
    found = {}
    for split, entry in (metrics.get("splits") or {}).items():
        known = entry.get("intervals", {}).get("model", {})
        found[split] = {
            score: Interval(
                value,
                known.get(score, {}).get("low"),
                known.get(score, {}).get("high"),
                known.get(score, {}).get("draws", 0),
            )
            for score, value in entry["systems"]["model"].items()
        }
    return found


def _cost(facts: Mapping[str, Any], config: Mapping[str, Any]) -> Cost:
    seconds, parts = facts.get("seconds") or {}, facts.get("parameters") or []
    gpus = (facts.get("hardware") or {}).get("gpus") or []
    ranks = int(config.get("trainer.devices") or 1) * int(config.get("trainer.nodes") or 1)
    return Cost(
        device_seconds=seconds["train"] * ranks if "train" in seconds else None,
        total_seconds=sum(seconds.values()) if seconds else None,
        peak_memory_gib=facts.get("peak_memory_gib"),
        trainable=sum(part["trainable"] for part in parts) if parts else None,
        parameters=sum(part["total"] for part in parts) if parts else None,
        device=f"{ranks} x {gpus[0]}" if gpus else f"{ranks} x CPU",
    )
