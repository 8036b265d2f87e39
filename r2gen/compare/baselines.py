"""Baselines among the systems compared: reports that no model wrote, or that a model wrote for another study."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from r2gen.compare.comparison import BASELINE
from r2gen.compare.source import Source
from r2gen.data.reports import ReportData
from r2gen.errors import UserError
from r2gen.evaluate.baselines import BASELINE_SEED, BASELINES, random_reports, shuffled_reports
from r2gen.evaluate.nearest import read_nearest

_LEAVE_OUT = "or leave it out with compare.null_rows=[constant]."


def baseline_sources(
    names: Sequence[str], sources: Sequence[Source], references: Mapping[str, str], data: ReportData | None
) -> tuple[list[Source], tuple[str, ...]]:
    """The baselines in `names`, and notes on those that are not available.

    `data` provides the training reports. The constant baseline needs a run, since it was chosen on a run's validation
    split. Raises UserError for an unknown name, or if a baseline needs data that is missing.
    """
    baselines, notes = list[Source](), list[str]()
    runs = [source for source in sources if source.kind == "run"]
    for name in names:
        match name:
            case "constant":
                constant, note = _constant(runs, references)
                baselines += constant
                notes += note
            case "random":
                reports = random_reports(references, list(_training_reports(data, name).values()), seed=BASELINE_SEED)
                baselines.append(_baseline("random", reports, "a random training report for each study"))
            case "nearest":
                reports = _nearest_reports(runs, references, _training_reports(data, name))
                baselines.append(_baseline("nearest", reports, "the training report of the most similar images"))
            case "shuffled":
                baselines += [_shuffled(source) for source in sources]
            case _:
                raise UserError(f"compare.null_rows={name}: not a baseline. Choose from {', '.join(BASELINES)}.")
    return baselines, tuple(notes)


def _baseline(name: str, reports: dict[str, str], description: str) -> Source:
    return Source(name=name, kind=BASELINE, path=description, reports=reports)


def _constant(runs: Sequence[Source], references: Mapping[str, str]) -> tuple[list[Source], list[str]]:
    """The constant baseline of the first run that has one, and a note if there is none or runs have different ones."""
    reports = {run.name: run.constant for run in runs if run.constant is not None}
    if not reports:
        return [], ["no constant baseline: it is taken from a run that was scored with validation studies"]
    first, report = next(iter(reports.items()))
    baseline = _baseline("constant", dict.fromkeys(references, report), "one training report for all studies")
    differ = len(set(reports.values())) > 1
    return [baseline], [f"the runs have different constant reports; the baseline is that of {first}"] if differ else []


def _shuffled(source: Source) -> Source:
    reports = shuffled_reports(source.reports, seed=BASELINE_SEED)
    return _baseline(f"{source.name} shuffled", reports, f"the reports of {source.name}, each for another study")


def _training_reports(data: ReportData | None, name: str) -> dict[str, str]:
    train = {study.id: study.report for study in data.studies("train")} if data is not None else {}
    if not train:
        raise UserError(
            f"compare.null_rows: {name} needs the training reports. Set data=NAME data.root=DIR, {_LEAVE_OUT}"
        )
    return train


def _nearest_reports(runs: Sequence[Source], references: Mapping[str, str], train: Mapping[str, str]) -> dict[str, str]:
    nearest = _nearest_studies(runs, references, len(train))
    for id in references:
        if nearest[id] not in train:
            raise UserError(
                f"compare.null_rows: {nearest[id]}, the nearest study of {id}, is not among the training studies. "
                f"Set data to the data set of the runs, {_LEAVE_OUT}"
            )
    return {id: train[nearest[id]] for id in references}


def _nearest_studies(runs: Sequence[Source], references: Mapping[str, str], train_studies: int) -> dict[str, str]:
    """The nearest training study of each study, from the nearest.json of the first run that has all studies."""
    for run in runs:
        assert run.stored is not None  # only files and baselines have none
        compared = min(run.stored.nearest_studies or 0, train_studies)
        nearest = read_nearest(Path(run.path) / "nearest.json", data_hash=run.data_hash, compared=compared)
        if references.keys() <= nearest.keys():
            return nearest
    raise UserError(
        "compare.null_rows: no run has the nearest images of these studies (nearest.json). "
        f"Evaluate a run with evaluate.nearest_studies above 0, {_LEAVE_OUT}"
    )
