"""Studies with an input withheld, or with that of another patient: what evaluate.drop gives a model at test time."""

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle

from r2gen.config.drop import OTHER
from r2gen.data.reports import Study

LATERAL = "LATERAL"
_SEED = 0  # of who gets whose input, which is the same for every run


def dropped(studies: Sequence[Study], drop: str) -> list[Study]:
    """The studies with the input withheld (`prior`), or exchanged among those that have it (`other_prior`).

    A study that lacks the input is unchanged. The comparison section belongs to the prior study.
    """
    name = drop.removeprefix(OTHER)
    if not drop.startswith(OTHER):
        return [_without(study, name) for study in studies]
    having = [study for study in studies if _without(study, name) != study]
    random.Random(_SEED).shuffle(having)
    givers = {study.id: giver for study, giver in zip(having, having[1:] + having[:1], strict=True)}
    return [_with_other(study, givers[study.id], name) if study.id in givers else study for study in studies]


def _without(study: Study, name: str) -> Study:
    if name == "lateral":
        return _without_lateral(study)
    if name == "prior":
        return study if study.prior is None else replace(study, prior=None, comparison=None)
    return replace(study, **{name: None})  # type: ignore[arg-type]


def _with_other(study: Study, giver: Study, name: str) -> Study:
    if name == "lateral":
        given = cycle(view for view, position in zip(giver.views, giver.positions, strict=True) if position == LATERAL)
        views = (
            next(given) if position == LATERAL else view
            for view, position in zip(study.views, study.positions, strict=True)
        )
        return replace(study, views=tuple(views))
    if name == "prior":
        return replace(study, prior=giver.prior, comparison=giver.comparison)
    return replace(study, **{name: getattr(giver, name)})


def _without_lateral(study: Study) -> Study:
    """Unchanged if no image would remain, or if their positions are unknown."""
    remaining = [pair for pair in zip(study.views, study.positions, strict=False) if pair[1] != LATERAL]
    if not remaining or len(study.positions) != len(study.views):
        return study
    views, positions = zip(*remaining, strict=True)
    return replace(study, views=views, positions=positions)
