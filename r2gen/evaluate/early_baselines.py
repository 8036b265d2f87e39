"""The baselines of an evaluation, prepared and scored by other processes while the model writes."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property, partial
from typing import Any, Self, TypeVar

from r2gen.evaluate.baseline_reports import BaselineReports
from r2gen.evaluate.baselines import BASELINE_SEED, shuffled_reports
from r2gen.evaluate.predictions import Prediction
from r2gen.evaluate.split_scores import EarlyScores, Scorer, reports_of
from r2gen.ranks.forked import Forked
from r2gen.runs.progress import wait_for

Result = TypeVar("Result")


class EarlyBaselines:
    """The baselines of some splits. Their processes end with the `with` block.

    `constant` and `nearest` have values after `finish`.
    """

    def __init__(self, reports: BaselineReports, scorer: Scorer, splits: Sequence[str]) -> None:
        self.baselines, self.scorer = reports, scorer
        self.constant: str | None = None
        self.nearest: dict[str, str] = {}
        self._references = {
            split: {study.id: study.report for study in reports.datasets[split].studies} for split in splits
        }
        self._receivers = {split: _receivers(references) for split, references in self._references.items()}
        self._reports: dict[str, dict[str, dict[str, str]]] = {}  # by split and baseline
        self._written: dict[str, dict[str, tuple[dict[str, str], Forked[EarlyScores]]]] = {}  # by split and system
        self._forked = ExitStack()
        self._steps = self._prepare()
        self._step: Forked[Any] | None = next(self._steps, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._forked.close()

    def finished(self, split: str, predictions: Sequence[Prediction]) -> None:
        """Let metrics score these reports of the model, and the same reports of other studies, in the background."""
        references, receivers = self._references[split], self._receivers[split]
        reports = reports_of(predictions)
        self.scorer.start(references, reports)
        self.scorer.start(references, {receivers[id]: text for id, text in reports.items() if id in receivers})
        self._continue(wait=False)

    def written(self, split: str, predictions: Sequence[Prediction]) -> None:
        """Score all reports of the model, and the same reports of other studies, in other processes."""
        references, model = self._references[split], reports_of(predictions)
        reports = {"model": model}
        if len(model) > 1:
            reports["shuffled"] = shuffled_reports(model, seed=BASELINE_SEED)
        self._written[split] = {
            system: (texts, self.fork(partial(self.scorer.score_early, references, texts)))
            for system, texts in reports.items()
        }

    def of(self, split: str) -> tuple[dict[str, dict[str, str]], dict[str, EarlyScores]]:
        """The reports of each baseline; and the scores of baselines and of the model that exist by now.

        `written` must have been called before.
        """
        self.finish()
        written = self._written[split]
        shuffled = {system: texts for system, (texts, _) in written.items() if system != "model"}
        scores = {system: scored.result() for system, (_, scored) in written.items()}
        return self._reports[split] | shuffled, self._scores[split] | scores

    def fork(self, work: Callable[[], Result]) -> Forked[Result]:
        """Start a function in a process that ends with the `with` block."""
        forked = Forked(work)
        self._forked.callback(forked.close)
        return forked

    def finish(self) -> None:
        """Wait for the reports of the baselines."""
        self._continue(wait=True)

    def _continue(self, *, wait: bool) -> None:
        """Take the steps of which the process before has ended."""
        while self._step is not None and (wait or self._step.ready()):
            wait_for("preparing the baselines", self._step.wait)
            self._step = next(self._steps, None)

    def _prepare(self) -> Generator[Forked[Any], None, None]:
        """The work, step by step. Each yield is a process that the next step needs."""
        constant: Forked[str | None] | None = None
        if self.scorer.selects_early:
            constant = self.fork(partial(self.baselines.constant, self.scorer.selection_of))
        else:
            self.constant = self.baselines.constant(self.scorer.selection_of)
        self._start_scoring()  # of random reports: they wait for nothing
        self.nearest = yield from self.baselines.nearest(list(self._references), fork=self.fork)
        if constant is not None:
            yield constant
            self.constant = constant.result()
        self._start_scoring()
        self._scored = self.fork(self._score)

    def _start_scoring(self) -> None:
        """Let metrics score, in the background, the baselines that can be made by now."""
        for split, references in self._references.items():
            made = self.baselines.reports(references, constant=self.constant, nearest=self.nearest)
            for name in [name for name in made if name not in self._reports.get(split, {})]:
                self.scorer.start(references, made[name])
            self._reports[split] = made

    @cached_property
    def _scores(self) -> dict[str, dict[str, EarlyScores]]:
        wait_for("scoring the baselines", self._scored.wait)
        return self._scored.result()

    def _score(self) -> dict[str, dict[str, EarlyScores]]:
        return {
            split: {name: self.scorer.score_early(self._references[split], texts) for name, texts in reports.items()}
            for split, reports in self._reports.items()
        }


def _receivers(references: Mapping[str, str]) -> dict[str, str]:
    """The study that gets each study's report in the baseline "shuffled"."""
    givers = shuffled_reports({id: id for id in references}, seed=BASELINE_SEED) if len(references) > 1 else {}
    return {giver: id for id, giver in givers.items()}
