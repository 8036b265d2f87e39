"""Builds the Comparison of several systems from their reports: scores, differences, subgroups and single studies."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import cast

from r2gen.compare import studies
from r2gen.compare.agreement import (
    agreed_recipe,
    agreed_signatures,
    cleaned,
    cleaned_texts,
    references_digest,
    shared_references,
)
from r2gen.compare.baselines import baseline_sources
from r2gen.compare.comparison import Comparison, StudyTexts, System
from r2gen.compare.scored import Scored, intervals, refuse_stale, score_systems
from r2gen.compare.seeds import joined_pairs, joined_seeds
from r2gen.compare.source import Source
from r2gen.config.schema import CompareConfig
from r2gen.data.cleaning import Cleaner
from r2gen.data.reports import ReportData
from r2gen.errors import UserError
from r2gen.evaluate.scores import Metric, ScoreSpec, Signature
from r2gen.evaluate.statistics import Interval, compare
from r2gen.evaluate.tables import interval_note, no_interval_note
from r2gen.runs.provenance import now


@dataclass(frozen=True)
class DataSet:
    """The data set of the studies compared."""

    data: ReportData
    recipe: Signature  # of its texts
    requested: bool  # by data=NAME; otherwise it is that of a run, whose predictions have the references


@dataclass(frozen=True)
class _Texts:
    """The reports of all systems and the references, cleaned in the same way."""

    given: list[Source]  # the entries of `runs`
    baselines: list[Source]
    references: dict[str, str]
    recipe: Signature
    notes: tuple[str, ...]


def compare_systems(
    given: Sequence[Source], *, split: str, metrics: Mapping[str, Metric], settings: CompareConfig, data: DataSet | None
) -> Comparison:
    """The Comparison without images. Raises UserError where the systems cannot be compared."""
    texts = _texts(given, split=split, settings=settings, data=data)
    sources = [*texts.given, *texts.baselines]
    scored = score_systems(metrics, texts.references, sources)
    # Signatures are checked first: another tokenizer, for example, is the reason why recorded scores differ.
    signatures = agreed_signatures({name: system.scores.signatures for name, system in scored.items()})
    for source in sources:
        refuse_stale(source, scored[source.name])
    corpus = {name: system.scores.corpus for name, system in scored.items()}
    joined, seed_notes = joined_seeds(texts.given, corpus) if settings.join_seeds else ((), ())
    scores = intervals(scored)
    specs = tuple(spec for metric in metrics.values() for spec in metric.scores)
    # Baselines are first in their pairs, so that a difference is system - baseline.
    pairs = compare({source.name: scored[source.name].sums for source in (*texts.baselines, *texts.given)})
    differ_by, differing = _differing(sources, texts.references, scored, settings)
    sets = next((source.sets for source in texts.given if source.sets), ())
    unavailable = {metric: why for system in scored.values() for metric, why in system.scores.unavailable.items()}
    unavailable_notes = [f"{metric}: unavailable: {why}" for metric, why in unavailable.items()]
    return Comparison(
        title=", ".join(source.name for source in given),
        written=now(),
        split=split,
        studies=len(texts.references),
        references=references_digest(texts.references),
        systems=tuple(
            System(name=source.name, kind=source.kind, source=source.path, about=source.about) for source in sources
        ),
        scores=scores,
        score_specs=specs,
        pairs=tuple(pairs),
        joined=joined,
        joined_pairs=joined_pairs(joined, corpus),
        findings=studies.finding_scores(scored),
        strata=(
            *studies.strata(texts.references, scored),
            *studies.strata_of_sets(sets, metrics, texts.references, sources, scored),
        ),
        differ_by=differ_by,
        differing=differing,
        recipe=texts.recipe,
        signatures=signatures,
        notes=(*texts.notes, *seed_notes, *unavailable_notes, *_statistics(scores, specs)),
    )


def _differing(
    sources: Sequence[Source], references: Mapping[str, str], scored: Mapping[str, Scored], settings: CompareConfig
) -> tuple[str, tuple[StudyTexts, ...]]:
    """The score by which studies are ranked, and the studies on which the systems differ most."""
    if not settings.studies:
        return "", ()
    score = studies.chosen_score(settings.differ_by, scored)
    return score, studies.differing_studies(sources, references, scored, score=score, count=settings.studies)


def _texts(given: Sequence[Source], *, split: str, settings: CompareConfig, data: DataSet | None) -> _Texts:
    """All texts to compare. Raises UserError where references, recipes or names of systems do not agree."""
    cleaner = cast("Cleaner | None", settings.cleaner)  # its option accepts no other value
    of_data = {study.id: study.report for study in data.data.studies(split)} if data and data.requested else None
    if cleaner is not None:
        given = [cleaned(source, cleaner) for source in given]
        of_data = cleaned_texts(of_data, cleaner) if of_data is not None else None
    references, reference_notes = shared_references(given, of_data)
    recipe = agreed_recipe(given, rescored=settings.rescore or cleaner is not None)
    if not recipe and data and data.requested:
        recipe = data.recipe
    baselines, baseline_notes = baseline_sources(settings.null_rows, given, references, data.data if data else None)
    if cleaner is not None:
        baselines = [cleaned(baseline, cleaner) for baseline in baselines]
        recipe = recipe | {"cleaner": cleaner, "case": "lower"}
    names = [source.name for source in (*given, *baselines)]
    for baseline in baselines:
        if names.count(baseline.name) > 1:
            raise UserError(
                f"runs: {baseline.name} is also the name of a baseline. Give another name with 'runs=[another=PATH]'."
            )
    own_notes = [note for source in given for note in source.notes]
    return _Texts(
        given=list(given),
        baselines=baselines,
        references=references,
        recipe=recipe,
        notes=(*own_notes, *reference_notes, *baseline_notes),
    )


def _statistics(scores: Mapping[str, Mapping[str, Interval]], specs: Sequence[ScoreSpec]) -> list[str]:
    """Notes on how intervals and p were computed."""
    of_one = next(iter(scores.values()))
    drawn = {score: asdict(interval) for score, interval in of_one.items() if interval.draws}
    notes = [interval_note(drawn, specs)] if drawn else []
    notes += no_interval_note((score for score in of_one if score not in drawn), specs)
    pairs = len(scores) * (len(scores) - 1) // 2
    if not pairs:
        return notes
    corrected = f", Holm-corrected over {pairs} pairs of systems" if pairs > 1 else ""
    return [
        *notes,
        "differences: 95 % interval of a paired bootstrap; p of a paired randomisation test, which swaps the two "
        f"reports of a study{corrected}; within noise: p is .05 or more. They hold for these trained models; how much "
        "another training seed changes a score is seen in means over seeds only",
    ]
