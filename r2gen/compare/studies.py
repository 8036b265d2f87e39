"""Scores by subgroup of studies and by finding, and the studies on which the systems differ most."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from r2gen.compare.comparison import BASELINE, FindingScore, Stratum, StudyTexts
from r2gen.compare.scored import Scored
from r2gen.compare.source import Source
from r2gen.data.reports import ReportData
from r2gen.errors import UserError
from r2gen.evaluate.clinical_findings import f1_of_each_finding
from r2gen.evaluate.labeler import label_report, stated_findings
from r2gen.evaluate.statistics import bootstrap_each
from r2gen.evaluate.study_sums import of_studies
from r2gen.pages.images import IMAGE_SIZES_PX


def strata(references: Mapping[str, str], scored: Mapping[str, Scored]) -> tuple[Stratum, ...]:
    """Scores of the studies with a normal or an abnormal reference, and of thirds by length; no subgroup is empty."""
    normal = {id for id, reference in references.items() if label_report(reference).normal}
    words = {id: len(reference.split()) for id, reference in references.items()}
    first, second = (int(bound) for bound in np.quantile(list(words.values()), (1 / 3, 2 / 3), method="lower"))
    subgroups = [
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
                {
                    system: [of_studies(of_metric, ids) for of_metric in of_system.sums]
                    for system, of_system in scored.items()
                }
            ),
        )
        for kind, name, ids in subgroups
        if ids
    )


def finding_scores(scored: Mapping[str, Scored]) -> dict[str, dict[str, FindingScore]]:
    """The scores of each finding by system, from the metric `findings`; empty if it was not computed."""
    details = {system: of_system.scores.details.get("findings") for system, of_system in scored.items()}
    sums = {
        system: [
            f1_of_each_finding(of_metric) for of_metric in of_system.sums if "findings_f1_normal" in of_metric.names
        ]
        for system, of_system in scored.items()
    }
    if not all(details.values()) or not all(sums.values()):
        return {}
    f1 = bootstrap_each(sums)
    by_finding: dict[str, dict[str, FindingScore]] = {}
    for system, of_system in details.items():
        for finding, values in (of_system or {}).items():
            by_finding.setdefault(finding, {})[system] = FindingScore(
                support=int(values["support"] or 0),
                stated=int(values["stated"] or 0),
                precision=values["precision"],
                recall=values["recall"],
                f1=f1[system].get(finding),
            )
    return by_finding


def chosen_score(requested: str | None, scored: Mapping[str, Scored]) -> str:
    """The score by which the studies are ranked: the requested one, else rouge_l, else the first scored per report."""
    names = [
        name
        for name in next(iter(scored.values())).scores.per_report
        if all(name in system.scores.per_report for system in scored.values())
    ]
    if requested is not None and requested not in names:
        raise UserError(
            f"compare.differ_by={requested}: not a score that each report has. Choose from {', '.join(names)}."
        )
    if not names:
        raise UserError(
            "metrics: none of them scores each report, so the studies that differ most cannot be found. Add another "
            "metric, or set compare.studies=0."
        )
    return requested or ("rouge_l" if "rouge_l" in names else names[0])


def differing_studies(
    sources: Sequence[Source], references: Mapping[str, str], scored: Mapping[str, Scored], *, score: str, count: int
) -> tuple[StudyTexts, ...]:
    """The studies with the largest spread of the score over all systems but the baselines, without images."""
    compared = [source.name for source in sources if source.kind != BASELINE]
    values = {name: of_system.scores.per_report for name, of_system in scored.items()}

    def spread(id: str) -> float:
        of_study = [values[name][score][id] for name in compared if id in values[name][score]]
        return max(of_study) - min(of_study) if of_study else 0.0

    ids = sorted(references, key=lambda id: (-spread(id), id))[:count]
    return tuple(
        StudyTexts(
            id=id,
            spread=spread(id),
            reference=references[id],
            reports={source.name: source.reports[id] for source in sources},
            scores={
                name: {key: of_score[id] for key, of_score in of_system.items() if id in of_score}
                for name, of_system in values.items()
            },
            findings={"reference": stated_findings(references[id])}
            | {source.name: stated_findings(source.reports[id]) for source in sources},
        )
        for id in ids
    )


def with_images(studies: Sequence[StudyTexts], data: ReportData, *, split: str) -> tuple[StudyTexts, ...]:
    """The same studies with their images in the data set. Raises UserError naming an image that cannot be read."""
    views, largest = {study.id: study.views for study in data.studies(split)}, IMAGE_SIZES_PX[0]
    return tuple(
        replace(study, images=tuple(data.image(view, at_least_px=largest) for view in views.get(study.id, ())))
        for study in studies
    )
