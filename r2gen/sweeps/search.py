"""A search: Optuna suggests the values of a sweep's next jobs from the scores of those before. Imports no torch.

The score of a trial is its best validation by evaluate.best, the number that picks a run's best checkpoint. All that
the search knows is in optuna.db in the sweep's folder: the same command goes on from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from omegaconf import DictConfig, OmegaConf

from r2gen.errors import UserError
from r2gen.runs.files import read_jsonl
from r2gen.runs.folder import RunFolder
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
    raise UserError("hydra/sweeper=optuna needs Optuna: pip install -e '.[search]'") from error

LOST = "lost"  # the trials whose command was killed or stopped: their values are tried again
Value = str | int | float


@dataclass(frozen=True)
class Space:
    """What may vary, by the key as Hydra takes it, and the overrides that all trials share."""

    varied: Mapping[str, BaseDistribution]
    fixed: list[str]

    @staticmethod
    def of(overrides: Sequence[Override]) -> Space:
        """Raises UserError where nothing varies, or an interval is none."""
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
                "hydra/sweeper=optuna has nothing to search: give hydra.sweeper.params, or type such as "
                "'trainer.learning_rate=tag(log, interval(1e-4, 1e-2))'"
            )
        return Space({key: found for key, found in varied.items() if key not in fixed}, list(fixed.values()))

    def first(self) -> list[str]:
        """The overrides of some trial, to see whether one can be composed."""
        return _typed({key: _lowest(found) for key, found in self.varied.items()})

    def defaults(self, composed: DictConfig) -> dict[str, Value] | None:
        """The values that a command without the search would have; None where one of them lies outside of the space."""
        found: dict[str, Value] = {}
        for key, distribution in self.varied.items():
            name = key.lstrip("+")
            choices = composed.hydra.runtime.choices
            value = choices[name] if name in choices else OmegaConf.select(composed, name)
            if isinstance(distribution, CategoricalDistribution):
                value = "null" if value is None else str(value)  # as Hydra writes the options of a list
            if value is None or not _holds(distribution, value):
                print(f"no trial has the values of the command without a search: {name}={value} is not in the space")
                return None
            found[key] = value
        return found


def _distribution(override: Override) -> BaseDistribution:
    sweep = override.value()
    try:
        if isinstance(sweep, IntervalSweep):
            return _numbers(sweep.start, sweep.end, log="log" in sweep.tags)
        if isinstance(sweep, RangeSweep):
            steps: list[Any] = sorted(sweep.range())
            if not steps:
                raise ValueError("there is nothing in this range")
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


def _holds(distribution: BaseDistribution, value: Value) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return not isinstance(value, str) and distribution.low <= value <= distribution.high


class Search:
    """A study in its sweep's folder. `next_batch`, the jobs' run, `tell`, and again until there is no batch."""

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
        self.study = optuna.create_study(
            storage=f"sqlite:///{folder / 'optuna.db'}",
            study_name="search",
            load_if_exists=True,
            direction="maximize",
            pruner=pruner if self.prunes else optuna.pruners.NopPruner(),
        )
        self.study.sampler = optuna.samplers.TPESampler(
            seed=seed + len(self.study.trials), n_startup_trials=random_trials, constant_liar=batch > 1
        )
        known = {key: distribution_to_json(found) for key, found in sorted(space.varied.items())}
        if self.study.user_attrs.setdefault("space", known) != known:
            raise UserError(f"{folder} holds a search of another space: give this one a folder, hydra.sweep.dir=DIR")
        self.study.set_user_attr("space", known)
        self.asked: dict[int, Trial] = {}  # by job
        self.reported: dict[int, int] = {}  # validations, by job

    def begin(self, defaults: Mapping[str, Value] | None) -> None:
        """The first trial has the defaults; what a killed command left running is asked for again."""
        if not self.study.trials and defaults is not None:
            self.study.enqueue_trial(dict(defaults), user_attrs={"default": True})
        for trial in self.study.get_trials(states=(TrialState.RUNNING,)):
            self.study.set_user_attr(LOST, [*self._lost(), trial.number])
            self.study.tell(trial.number, state=TrialState.FAIL)
            self.study.enqueue_trial(trial.params, user_attrs=trial.user_attrs)

    def done(self) -> int:
        """How many trials have ended: the number of the next job."""
        return len(self._ended())

    def _ended(self) -> list[FrozenTrial]:
        lost = self._lost()
        return [trial for trial in self.study.trials if trial.state.is_finished() and trial.number not in lost]

    def _lost(self) -> list[int]:
        found: list[int] = self.study.user_attrs.get(LOST, [])
        return found

    def next_batch(self) -> list[list[str]]:
        """The overrides of the next jobs, none where the search has had its trials."""
        first = self.done()
        count = min(self.batch, self.n_trials - first)
        self.asked = {first + index: self.study.ask(dict(self.space.varied)) for index in range(count)}
        return [[*self.space.fixed, *_typed(trial.params)] for trial in self.asked.values()]

    def judge(self, job: JobRecord) -> str | None:
        """Why a running job should end: its validations so far do worse than those of the other trials."""
        validations, news = self._reported(job)
        if not news or validations[-1]["step"] == _last_step(job) or not self.asked[job.number].should_prune():
            return None
        best = max(one["selection"] for one in validations)
        return f"at validation {len(validations)} its score {best:.3f} was below the other trials' median"

    def _reported(self, job: JobRecord) -> tuple[list[dict[str, Any]], bool]:
        """A job's validations so far, handed on to Optuna, and whether some are new."""
        file = Path(job.run_dir or "") / "train.jsonl"
        found = [record for record in read_jsonl(file) if record["event"] == "validation"]
        known, self.reported[job.number] = self.reported.setdefault(job.number, 0), len(found)
        for number in range(known, len(found)):
            self.asked[job.number].report(found[number]["selection"], number)
        return found, len(found) > known

    def tell(self, jobs: Sequence[JobRecord]) -> bool:
        """Keep what became of a batch. False where a signal stopped it: its trials are asked for again next time."""
        for job in jobs:
            trial, (validations, _) = self.asked[job.number], self._reported(job)
            scores = [one["selection"] for one in validations]
            if job.state == "done" and not scores:
                raise UserError("a search compares scores on val, and these runs validate nothing: the split is empty")
            if job.state == "done":
                trial.set_user_attr("run_dir", job.run_dir)
                self.study.tell(trial, max(scores))
            elif job.state in ("pruned", "failed", "skipped"):
                self.study.tell(trial, state=TrialState.PRUNED if job.state == "pruned" else TrialState.FAIL)
        return all(job.state in ("done", "pruned", "failed", "skipped") for job in jobs)

    def result(self) -> str:
        """The best trial so far beside that of the defaults, and how the trials ended."""
        ended = self._ended()
        states = [trial.state for trial in ended]
        counts = ", ".join(f"{states.count(state)} {state.name.lower()}" for state in dict.fromkeys(states))
        lines = [f"search: {len(ended)} of {self.n_trials} trials ({counts})"]
        complete = [trial for trial in ended if trial.state == TrialState.COMPLETE and trial.value is not None]
        if complete:
            best = max(complete, key=lambda trial: float(trial.value or 0))
            lines.append(f"best: {_told(best)}")
            lines += [f"default: {_told(trial)}" for trial in complete if "default" in trial.user_attrs]
        return "\n".join(lines)


def _typed(values: Mapping[str, Any]) -> list[str]:
    """As overrides; four digits of a number are enough to try it."""
    return [f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in values.items()]


def _told(trial: FrozenTrial) -> str:
    return f"{trial.value:.4f} with {' '.join(_typed(trial.params))} ({trial.user_attrs['run_dir']})"


def _last_step(job: JobRecord) -> int:
    steps: int = RunFolder(Path(job.run_dir or "")).facts()["steps"]
    return steps
