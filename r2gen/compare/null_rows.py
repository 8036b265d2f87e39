"""Null rows beside the systems compared: reports that no model wrote, or wrote of another study. Imports no torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from r2gen.compare.source import Source
from r2gen.data.reports import ReportData
from r2gen.errors import UserError
from r2gen.evaluate.baselines import NULL_ROWS, NULL_SEED, random_reports, shuffled_reports
from r2gen.evaluate.nearest import read_nearest

LEAVE_OUT = "compare.null_rows=[constant] leaves it out"


def null_sources(
    names: Sequence[str], sources: Sequence[Source], references: Mapping[str, str], data: ReportData | None
) -> tuple[list[Source], tuple[str, ...]]:
    """A source for each null row asked for, and notes on those that there cannot be.

    `data` has the training reports; without a run there is no constant row, which is chosen with a run's validation.
    Raises UserError where a row is unknown, or needs what is not there.
    """
    rows, notes = list[Source](), list[str]()
    runs = [source for source in sources if source.kind == "run"]
    for name in names:
        match name:
            case "constant":
                given = {source.name: source.constant for source in runs if source.constant is not None}
                if not given:
                    notes.append("no constant row: it comes from a run scored with validation studies; add one to runs")
                    continue
                chosen = next(iter(given))
                rows.append(_row("constant", dict.fromkeys(references, given[chosen]), "one training report for all"))
                if len(set(given.values())) > 1:
                    notes.append(f"the runs chose different constant reports; shown is that of {chosen}")
            case "random":
                train = _train(data, name)
                reports = random_reports(references, list(train.values()), seed=NULL_SEED)
                rows.append(_row("random", reports, "a training report by chance"))
            case "nearest":
                train = _train(data, name)
                nearest = _nearest(runs, references, train)
                lost = next((nearest[id] for id in references if nearest[id] not in train), None)
                if lost is not None:
                    raise UserError(f"compare.null_rows: the nearest study {lost} is not in training: {LEAVE_OUT}")
                rows.append(
                    _row(
                        "nearest",
                        {id: train[nearest[id]] for id in references},
                        "the training report of the most alike images",
                    )
                )
            case "shuffled":
                for source in sources:
                    reports = shuffled_reports(source.reports, seed=NULL_SEED)
                    words = f"the reports of {source.name}, each given to another study"
                    rows.append(_row(f"{source.name} shuffled", reports, words))
            case _:
                raise UserError(f"compare.null_rows={name}: choose of {', '.join(NULL_ROWS)}")
    return rows, tuple(notes)


def _row(name: str, reports: dict[str, str], words: str) -> Source:
    return Source(name=name, kind="null", path=words, reports=reports)


def _train(data: ReportData | None, name: str) -> dict[str, str]:
    train = {study.id: study.report for study in data.studies("train")} if data is not None else {}
    if not train:
        raise UserError(
            f"compare.null_rows: {name} needs the training reports: type data=NAME data.root=DIR; {LEAVE_OUT}"
        )
    return train


def _nearest(runs: Sequence[Source], references: Mapping[str, str], train: Mapping[str, str]) -> dict[str, str]:
    for run in runs:
        assert run.config is not None  # only files have none
        most = run.config.get("evaluate", {}).get("nearest_studies")
        compared = min(most, len(train)) if isinstance(most, int) else 0
        found = read_nearest(Path(run.path) / "nearest.json", data_hash=run.header["data_hash"], compared=compared)
        if references.keys() <= found.keys():
            return found
    raise UserError(
        f"compare.null_rows: no run has looked for the nearest images of these studies (nearest.json): {LEAVE_OUT}"
    )
