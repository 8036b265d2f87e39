"""Scores of groups of studies: by view, sex, age and whether the reference is normal. Small groups have none."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise

from r2gen.config.plain import Plain
from r2gen.data.context_text import SEXES
from r2gen.data.reports import Study
from r2gen.evaluate.labeler import label_report
from r2gen.evaluate.statistics import bootstrap
from r2gen.evaluate.study_sums import StudySums, of_studies

Groups = Mapping[str, Mapping[str, Sequence[str]]]  # by attribute and value: the ids of the studies
FEWEST = 20  # studies of a group that is shown
RESAMPLES = 2_000  # of each group; their ends are shown to three decimals
AGES = (18, 40, 60, 80)  # the first ages of bands


def groups_of(studies: Sequence[Study]) -> Groups:
    """The groups with at least FEWEST studies, of attributes by which the studies differ."""
    groups: dict[str, dict[str, list[str]]] = {}
    for study in studies:
        for attribute, value in _attributes(study):
            groups.setdefault(attribute, {}).setdefault(value, []).append(study.id)
    large = {
        attribute: {value: ids for value, ids in sorted(of_value.items()) if FEWEST <= len(ids) < len(studies)}
        for attribute, of_value in groups.items()
    }
    return {attribute: of_value for attribute, of_value in large.items() if of_value}


def subgroup_scores(groups: Groups, sums: Sequence[StudySums], shown: set[str]) -> Plain:
    """By attribute and value: the number of studies, and the scores that are shown, with bootstrap intervals."""
    return {
        attribute: {
            value: {
                "studies": len(ids),
                "scores": {
                    score: asdict(interval)
                    for score, interval in bootstrap(
                        [of_studies(of_metric, set(ids)) for of_metric in sums], resamples=RESAMPLES
                    ).items()
                    if score in shown
                },
            }
            for value, ids in of_value.items()
        }
        for attribute, of_value in groups.items()
    }


def _attributes(study: Study) -> Iterator[tuple[str, str]]:
    """What is known of a study. A study with several frontal images belongs to each of their views."""
    positions = {position for position in study.positions if position}
    for position in sorted(positions & {"AP", "PA"}):
        yield "view", position
    if positions:
        yield "lateral image", "with" if "LATERAL" in positions else "without"
    if study.sex is not None:
        yield "sex", SEXES[study.sex]
    if study.age is not None:
        yield "age", _band(study.age)
    yield "reference", "normal" if label_report(study.report).normal else "abnormal"


def _band(age: float) -> str:
    bands = ["under 18", *(f"{first} to {last - 1}" for first, last in pairwise(AGES))]
    return [*bands, f"{AGES[-1]} and over"][sum(age >= first for first in AGES)]
