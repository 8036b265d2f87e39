"""Scores by subgroup of studies and by finding, and the studies on which the systems differ most."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

import numpy as np

from r2gen.compare.comparison import BASELINE, FindingScore, Stratum, StudyTexts
from r2gen.compare.scored import Scored
from r2gen.compare.source import Source
from r2gen.data.reports import ReportData
from r2gen.errors import UserError
from r2gen.evaluate.clinical_findings import f1_of_each_finding
from r2gen.evaluate.labeler import label_report, stated_findings
from r2gen.evaluate.scores import Metric
from r2gen.evaluate.scoring import score_reports, sums_of_scores
from r2gen.evaluate.statistics import bootstrap_each
from r2gen.evaluate.study_sums import StudySums, of_studies
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
        Stratum(kind, name, len(ids), bootstrap_each({system: _sums(of, ids) for system, of in scored.items()}))
        for kind, name, ids in subgroups
        if ids
    )


def strata_of_sets(
    sets: Sequence[str],
    metrics: Mapping[str, Metric],
    references: Mapping[str, str],
    sources: Sequence[Source],
    scored: Mapping[str, Scored],
) -> tuple[Stratum, ...]:
    """Scores of each data set of a mix as if it had been scored alone, as metrics.json has them."""
    # What stays fixed in the sums of all studies, such as CIDEr's document frequencies, is computed again.
    again = {key: metric for key, metric in metrics.items() if any(spec.interval_note for spec in metric.scores)}
    names = {spec.name for metric in again.values() for spec in metric.scores}
    strata = []
    for name in sets:
        own = {id: text for id, text in references.items() if id.startswith(f"{name}/")}
        sums = {source.name: _sums(scored[source.name], own.keys(), without=names) for source in sources if own}
        for source in sources if own and again else ():
            reports = {id: source.reports[id] for id in own}
            sums[source.name] += sums_of_scores(again, own, reports, score_reports(again, own, reports))
        if own:
            strata.append(Stratum("set", name, len(own), bootstrap_each(sums)))
    return tuple(strata)


def _sums(of_system: Scored, ids: Set[str], *, without: Set[str] = frozenset()) -> list[StudySums]:
    """The sums of some studies, except those of the metrics with the scores in `without`."""
    return [of_studies(sums, ids) for sums in of_system.sums if without.isdisjoint(sums.names)]


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
