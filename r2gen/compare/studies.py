"""Parts of a split, and single studies: where systems are good, and where they differ most. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from r2gen.compare.comparison import FindingScore, Stratum, StudyTexts
from r2gen.compare.scored import Scored
from r2gen.compare.source import Source
from r2gen.data.reports import ReportData
from r2gen.errors import UserError
from r2gen.evaluate.labeler import OBSERVATIONS, Status, label_report
from r2gen.evaluate.statistics import bootstrap_each
from r2gen.evaluate.study_sums import f1_of_each_finding, of_studies

IMAGE_PX = 320  # at least: as large as a page shows them


def strata(references: Mapping[str, str], scored: Mapping[str, Scored]) -> tuple[Stratum, ...]:
    """Studies with a normal and an abnormal reference, and thirds by its length; parts without a study are left out."""
    normal = {id for id, reference in references.items() if label_report(reference).normal}
    words = {id: len(reference.split()) for id, reference in references.items()}
    first, second = (int(cut) for cut in np.quantile(list(words.values()), (1 / 3, 2 / 3), method="lower"))
    parts = [
        ("reference", "normal", normal),
        ("reference", "abnormal", references.keys() - normal),
        ("length", f"up to {first} words", {id for id in words if words[id] <= first}),
        ("length", f"{first + 1} to {second} words", {id for id in words if first < words[id] <= second}),
        ("length", f"over {second} words", {id for id in words if words[id] > second}),
    ]
    return tuple(
        Stratum(
            kind=kind,
            name=name,
            studies=len(ids),
            scores=bootstrap_each(
                {system: [of_studies(one, ids) for one in of_system.sums] for system, of_system in scored.items()}
            ),
        )
        for kind, name, ids in parts
        if ids
    )


def finding_scores(scored: Mapping[str, Scored]) -> dict[str, dict[str, FindingScore]]:
    """Finding to system, from the metric `findings`; empty where it was not asked for."""
    rows = {system: of_system.scores.details.get("findings") for system, of_system in scored.items()}
    sums = {
        system: [f1_of_each_finding(one) for one in of_system.sums if "findings_f1_normal" in one.names]
        for system, of_system in scored.items()
    }
    if not all(rows.values()) or not all(sums.values()):
        return {}
    f1 = bootstrap_each(sums)
    by_system = {
        system: {
            finding: FindingScore(
                support=int(row["support"] or 0),
                stated=int(row["stated"] or 0),
                precision=row["precision"],
                recall=row["recall"],
                f1=f1[system].get(finding),
            )
            for finding, row in (of_system or {}).items()
        }
        for system, of_system in rows.items()
    }
    findings = dict.fromkeys(finding for rows in by_system.values() for finding in rows)
    return {finding: {system: rows[finding] for system, rows in by_system.items()} for finding in findings}


def chosen_score(asked: str | None, scored: Mapping[str, Scored]) -> str:
    """The score by which studies differ: the one asked for, else rouge_l, else the first that has a value a report."""
    known = [
        name
        for name in next(iter(scored.values())).scores.per_report
        if all(name in one.scores.per_report for one in scored.values())
    ]
    if asked is not None and asked not in known:
        raise UserError(
            f"compare.differ_by={asked}: no score of that name has a value a report; choose of {', '.join(known)}"
        )
    if not known:
        raise UserError("metrics: none of them gives a value a report, by which studies differ: compare.studies=0")
    return asked or ("rouge_l" if "rouge_l" in known else known[0])


def differing_studies(
    sources: Sequence[Source], references: Mapping[str, str], scored: Mapping[str, Scored], *, score: str, count: int
) -> tuple[StudyTexts, ...]:
    """The studies with the largest spread of the score over all systems but null rows, without images."""
    compared = [source.name for source in sources if source.kind != "null"]
    values = {name: of_system.scores.per_report for name, of_system in scored.items()}

    def spread(id: str) -> float:
        known = [values[name][score][id] for name in compared if id in values[name][score]]
        return max(known) - min(known) if known else 0.0

    ids = sorted(references, key=lambda id: (-spread(id), id))[:count]
    return tuple(
        StudyTexts(
            id=id,
            spread=spread(id),
            reference=references[id],
            reports={one.name: one.reports[id] for one in sources},
            scores={
                name: {one: of_score[id] for one, of_score in found.items() if id in of_score}
                for name, found in values.items()
            },
            findings={"reference": _stated(references[id])} | {one.name: _stated(one.reports[id]) for one in sources},
        )
        for id in ids
    )


def with_images(studies: Sequence[StudyTexts], data: ReportData, *, split: str) -> tuple[StudyTexts, ...]:
    """The same studies with the images of those that the data set has. Raises UserError naming an image."""
    views = {study.id: study.views for study in data.studies(split)}
    return tuple(
        replace(study, images=tuple(data.image(view, at_least_px=IMAGE_PX) for view in views.get(study.id, ())))
        for study in studies
    )


def _stated(text: str) -> tuple[str, ...]:
    """The findings a text states, uncertain ones marked."""
    status = label_report(text).status
    marks = {Status.POSITIVE: "", Status.UNCERTAIN: " (uncertain)"}
    return tuple(f"{finding}{marks[status[finding]]}" for finding in OBSERVATIONS if status.get(finding) in marks)
