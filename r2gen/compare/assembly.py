"""From reports of several systems to the Comparison of them: score, resample, test, look at parts. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from r2gen.compare import studies
from r2gen.compare.agreement import (
    agreed_recipe,
    agreed_signatures,
    cleaned,
    cleaned_texts,
    references_digest,
    shared_references,
)
from r2gen.compare.comparison import Comparison, System
from r2gen.compare.null_rows import null_sources
from r2gen.compare.scored import intervals, refuse_stale, score_systems
from r2gen.compare.seeds import joined_pairs, joined_seeds
from r2gen.compare.source import Source
from r2gen.data.cleaning import Cleaner
from r2gen.data.reports import ReportData
from r2gen.errors import UserError
from r2gen.evaluate.scores import Metric, Signature
from r2gen.evaluate.statistics import Interval, compare
from r2gen.evaluate.tables import interval_note
from r2gen.runs.provenance import now


@dataclass(frozen=True)
class Settings:
    """The group `compare` of the configuration."""

    rescore: bool
    cleaner: Cleaner | None
    null_rows: list[str]
    join_seeds: bool
    studies: int
    differ_by: str | None


@dataclass(frozen=True)
class DataSet:
    """A data set, and what a signature says of it."""

    data: ReportData
    recipe: Signature
    typed: bool  # else it is that of a run, whose predictions bring the references


def compare_systems(
    given: Sequence[Source], *, split: str, metrics: Mapping[str, Metric], settings: Settings, data: DataSet | None
) -> Comparison:
    """Everything but the images. Raises UserError where the systems cannot stand side by side."""
    rescored = settings.rescore or settings.cleaner is not None
    of_data = {study.id: study.report for study in data.data.studies(split)} if data and data.typed else None
    if settings.cleaner is not None:
        given = [cleaned(source, settings.cleaner) for source in given]
        of_data = cleaned_texts(of_data, settings.cleaner) if of_data is not None else None
    references, notes = shared_references(given, of_data)
    recipe = agreed_recipe(given, rescored=rescored) or (data.recipe if data and data.typed else {})
    rows, null_notes = null_sources(settings.null_rows, given, references, data.data if data else None)
    if settings.cleaner is not None:
        rows = [cleaned(row, settings.cleaner) for row in rows]
        recipe = recipe | {"cleaner": settings.cleaner, "case": "lower"}
    sources = [*given, *rows]
    _refuse_same_names(sources)

    scored = score_systems(metrics, references, sources)
    signatures = agreed_signatures({name: one.scores.signatures for name, one in scored.items()})
    for source in sources:  # after the signatures, since another tokenizer gives other scores too
        refuse_stale(source, scored[source.name])
    corpus = {name: of_system.scores.corpus for name, of_system in scored.items()}
    unavailable = {metric: why for of_system in scored.values() for metric, why in of_system.scores.unavailable.items()}
    joined, seed_notes = joined_seeds(given, corpus) if settings.join_seeds else ((), ())
    scores = intervals(scored)
    # Null rows first: a difference is then that of a system from a row, and not the other way round.
    pairs = compare({source.name: scored[source.name].sums for source in (*rows, *given)})
    differ_by = studies.chosen_score(settings.differ_by, scored) if settings.studies else ""
    return Comparison(
        title=", ".join(source.name for source in given),
        written=now(),
        split=split,
        studies=len(references),
        references=references_digest(references),
        systems=tuple(System(name=one.name, kind=one.kind, source=one.path, about=one.about) for one in sources),
        scores=scores,
        pairs=tuple(pairs),
        joined=joined,
        joined_pairs=joined_pairs(joined, corpus),
        findings=studies.finding_scores(scored),
        strata=studies.strata(references, scored),
        differ_by=differ_by,
        differing=studies.differing_studies(sources, references, scored, score=differ_by, count=settings.studies)
        if settings.studies
        else (),
        recipe=recipe,
        signatures=signatures,
        notes=(
            *(note for source in given for note in source.notes),
            *notes,
            *null_notes,
            *seed_notes,
            *(f"{metric}: unavailable: {why}" for metric, why in unavailable.items()),
            *_statistics(scores),
        ),
    )


def _refuse_same_names(sources: Sequence[Source]) -> None:
    names = [source.name for source in sources]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"runs: {twice[0]} is also the name of a null row: type 'runs=[another=PATH]'")


def _statistics(scores: Mapping[str, Mapping[str, Interval]]) -> list[str]:
    """What the intervals and the p are."""
    of_one = {score: asdict(found) for score, found in next(iter(scores.values())).items()}
    pairs = len(scores) * (len(scores) - 1) // 2
    if not pairs:
        return [interval_note(of_one)]
    corrected = f", corrected for {pairs} pairs of systems (Holm)" if pairs > 1 else ""
    return [
        interval_note(of_one),
        "differences: the paired bootstrap's interval, and p of the test that swaps the two reports of a study"
        f"{corrected}; within noise: p of .05 and more. They are of these very models: what another training seed "
        "would change is seen in means over seeds only",
    ]
