"""A search: Optuna suggests the values of a sweep's next jobs from the scores of earlier ones.

The score of a trial is its best validation by evaluate.best, which also picks a run's best checkpoint. The search is
stored in optuna.db in the sweep's folder, from which the same command resumes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from omegaconf import DictConfig, OmegaConf

from r2gen.errors import Code, UserError
from r2gen.runs.files import refuse_second_name
from r2gen.runs.folder import RunFolder
from r2gen.runs.train_log import read_train_log
from r2gen.sweeps.record import JobRecord

try:
    import optuna
    from optuna.distributions import (
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
        distribution_to_json,
    )
    from optuna.trial import FrozenTrial, Trial, TrialState
except ModuleNotFoundError as error:
    raise UserError(
        "hydra/sweeper=optuna needs Optuna: pip install -e '.[search]'", code=Code.PACKAGE_MISSING
    ) from error

LOST = "lost"  # study attribute: trials whose command was killed or stopped, and whose values are tried again
Value = str | int | float


@dataclass(frozen=True)
class Space:
    """The distribution of each key that varies, and the overrides that all trials share."""

    varied: Mapping[str, BaseDistribution]
    fixed: list[str]

    @staticmethod
    def of(overrides: Sequence[Override]) -> Space:
        """Raises UserError if nothing varies, or an interval or range is empty."""
        varied: dict[str, BaseDistribution] = {}
        fixed: dict[str, str] = {}
        for override in overrides:
            key = override.get_key_element()
            if override.is_sweep_override():
                varied[key] = _distribution(override)
            else:
                fixed[key] = f"{key}={override.get_value_element_as_str()}"
        if not varied:
            raise UserError(
                "hydra/sweeper=optuna has nothing to search: give hydra.sweeper.params, or an option with an interval "
                "such as 'trainer.learning_rate=tag(log, interval(1e-4, 1e-2))'"
            )
        return Space({key: values for key, values in varied.items() if key not in fixed}, list(fixed.values()))

    def first(self) -> list[str]:
        """The overrides of one possible trial, to check that the space can be composed."""
        return _overrides({key: _lowest(distribution) for key, distribution in self.varied.items()})

    def defaults(self, composed: DictConfig) -> dict[str, Value] | None:
        """The values of the command without a search; None if one of them is outside the space."""
        values: dict[str, Value] = {}
        for key, distribution in self.varied.items():
            name = key.lstrip("+")
            choices = composed.hydra.runtime.choices
            value = choices[name] if name in choices else OmegaConf.select(composed, name)
            if isinstance(distribution, CategoricalDistribution):
                value = "null" if value is None else str(value)  # as Hydra writes the options of a list
            if value is None or not _contains(distribution, value):
                print(f"no trial has the values of the command without a search: {name}={value} is not in the space")
                return None
            values[key] = value
        return values


def _distribution(override: Override) -> BaseDistribution:
    sweep = override.value()
    try:
        if isinstance(sweep, IntervalSweep):
            return _numbers(sweep.start, sweep.end, log="log" in sweep.tags)
        if isinstance(sweep, RangeSweep):
            steps: list[Any] = sorted(sweep.range())
            if not steps:
                raise ValueError("this range is empty")
            return _numbers(steps[0], steps[-1], step=abs(sweep.step))
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    except ValueError as error:
        raise UserError(f"{override.input_line}: {error}") from error


def _numbers(low: Any, high: Any, *, log: bool = False, step: Any = None) -> BaseDistribution:
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log, step=step or 1)
    return FloatDistribution(low, high, log=log, step=step)


def _lowest(distribution: BaseDistribution) -> Value:
    if isinstance(distribution, CategoricalDistribution):
        return str(distribution.choices[0])
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return distribution.low


def _contains(distribution: BaseDistribution, value: Value) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return not isinstance(value, str) and distribution.low <= value <= distribution.high


class Search:
    """An Optuna study in its sweep's folder. Call `next_batch`, run its jobs, `record` them, until no batch is left."""

    def __init__(
        self,
        folder: Path,
        space: Space,
        *,
        n_trials: int,
        batch: int,
        seed: int,
        random_trials: int,
        prune_after: int | None,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.space, self.n_trials, self.batch, self.prunes = space, n_trials, batch, prune_after is not None
        pruner = optuna.pruners.MedianPruner(n_startup_trials=random_trials, n_warmup_steps=prune_after or 0)
        file = folder / "optuna.db"
        refuse_second_name(file)  # SQLite writes into the file that is there
        try:
            self.study = optuna.create_study(
                storage=f"sqlite:///{file}",
                study_name="search",
                load_if_exists=True,
                direction="maximize",
                pruner=pruner if self.prunes else optuna.pruners.NopPruner(),
            )
        except Exception as error:  # SQLite, SQLAlchemy and Optuna raise many types on a damaged file
            raise UserError(
                f"{file} cannot be read: {str(error).partition(chr(10))[0][:200]}. Put back what the search wrote, or "
                "give another folder, hydra.sweep.dir=DIR"
            ) from error
        self.study.sampler = optuna.samplers.TPESampler(
            seed=seed + len(self.study.trials), n_startup_trials=random_trials, constant_liar=batch > 1
        )
        stored = {key: distribution_to_json(values) for key, values in sorted(space.varied.items())}
        if self.study.user_attrs.setdefault("space", stored) != stored:
            raise UserError(f"{folder} holds a search of another space: give this one a folder, hydra.sweep.dir=DIR")
        self.study.set_user_attr("space", stored)
        self.trials: dict[int, Trial] = {}  # of the current batch, by job number
        self.reported: dict[int, int] = {}  # number of validations that Optuna has, by job number

    def begin(self, defaults: Mapping[str, Value] | None) -> None:
        """Queue the defaults as the first trial, and again each trial that a killed command left running."""
        if not self.study.trials and defaults is not None:
            self.study.enqueue_trial(dict(defaults), user_attrs={"default": True})
        for trial in self.study.get_trials(states=(TrialState.RUNNING,)):
            self.study.set_user_attr(LOST, [*self._lost(), trial.number])
            self.study.tell(trial.number, state=TrialState.FAIL)
            self.study.enqueue_trial(trial.params, user_attrs=trial.user_attrs)

    def count_ended(self) -> int:
        """The number of trials that have ended, which is the number of the next job."""
        return len(self._ended())

    def _ended(self) -> list[FrozenTrial]:
        lost = self._lost()
        return [trial for trial in self.study.trials if trial.state.is_finished() and trial.number not in lost]

    def _lost(self) -> list[int]:
        lost: list[int] = self.study.user_attrs.get(LOST, [])
        return lost

    def next_batch(self) -> list[list[str]]:
        """The overrides of the next jobs; empty once the search has had its trials."""
        first = self.count_ended()
        count = min(self.batch, self.n_trials - first)
        self.trials = {first + index: self.study.ask(dict(self.space.varied)) for index in range(count)}
        return [[*self.space.fixed, *_overrides(trial.params)] for trial in self.trials.values()]

    def prune_reason(self, job: JobRecord) -> str | None:
        """Why a running job is to be pruned: its validations are worse than those of other trials. None: continue."""
        validations, has_new = self._report(job)
        if not has_new or validations[-1]["step"] == _last_step(job) or not self.trials[job.number].should_prune():
            return None
        best = max(validation["selection"] for validation in validations)
        return f"at validation {len(validations)} its score {best:.3f} was below the other trials' median"

    def _report(self, job: JobRecord) -> tuple[list[dict[str, Any]], bool]:
        """Pass a job's new validations on to Optuna. Returns all of them, and whether some are new."""
        file = Path(job.run_dir or "") / "train.jsonl"
        validations = [
            record for record in read_train_log(file) if record["event"] == "validation" and "selection" in record
        ]
        before, self.reported[job.number] = self.reported.setdefault(job.number, 0), len(validations)
        for number in range(before, len(validations)):
            self.trials[job.number].report(validations[number]["selection"], number)
        return validations, len(validations) > before

    def record(self, jobs: Sequence[JobRecord]) -> bool:
        """Record how the jobs of a batch ended. False if a signal stopped one: the next command tries it again."""
        for job in jobs:
            trial, (validations, _) = self.trials[job.number], self._report(job)
            scores = [validation["selection"] for validation in validations]
            if job.state == "done" and not scores:
                raise UserError("a search compares scores on val, and these runs validate nothing: the split is empty")
            if job.state == "done":
                trial.set_user_attr("run_dir", job.run_dir)
                self.study.tell(trial, max(scores))
            elif job.state in ("pruned", "failed", "skipped"):
                self.study.tell(trial, state=TrialState.PRUNED if job.state == "pruned" else TrialState.FAIL)
        return all(job.state in ("done", "pruned", "failed", "skipped") for job in jobs)

    def result(self) -> str:
        """The best trial so far next to that of the defaults, and how the trials ended."""
        ended = self._ended()
        states = [trial.state for trial in ended]
        counts = ", ".join(f"{states.count(state)} {state.name.lower()}" for state in dict.fromkeys(states))
        lines = [f"search: {len(ended)} of {self.n_trials} trials ({counts})"]
        complete = [trial for trial in ended if trial.state == TrialState.COMPLETE and trial.value is not None]
        if complete:
            best = max(complete, key=lambda trial: float(trial.value or 0))
            lines.append(f"best: {_describe(best)}")
            lines += [f"default: {_describe(trial)}" for trial in complete if "default" in trial.user_attrs]
        return "\n".join(lines)


def _overrides(values: Mapping[str, Any]) -> list[str]:
    """The values as overrides; numbers are rounded to four digits."""
    return [f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in values.items()]


def _describe(trial: FrozenTrial) -> str:
    return f"{trial.value:.4f} with {' '.join(_overrides(trial.params))} ({trial.user_attrs['run_dir']})"


def _last_step(job: JobRecord) -> int:
    steps: int = RunFolder(Path(job.run_dir or "")).facts()["steps"]
    return steps
