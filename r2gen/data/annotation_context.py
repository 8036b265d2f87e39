"""What an entry of an annotation may have besides images and report: positions, texts, age, sex and a prior study.

docs/data.md describes the keys. All are optional.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from r2gen.config.context import OLDEST_DAYS, OLDEST_YEARS
from r2gen.data.age_and_sex import age_of, is_missing, sex_of
from r2gen.data.annotation_fault import Fault, image_name, refuse_surrogate
from r2gen.data.cleaning import Cleaner, clean_report, is_empty
from r2gen.data.positions import position_of
from r2gen.data.reports import Prior, Study
from r2gen.errors import shown

KEYS = ("views", "indication", "context", "technique", "comparison", "age", "sex", "prior", "subject_id")


def with_context(study: Study, entry: Mapping[str, Any], cleaner: Cleaner) -> Study:
    """The study with what its entry tells. `cleaner` is that of the prior's report. Raises Fault."""
    if all(entry.get(key) is None for key in KEYS):
        return study
    patient = entry.get("subject_id")
    return replace(
        study,
        positions=_positions(entry, len(study.views)),
        indication=_text(entry, "indication") or _text(entry, "context"),
        technique=_shared(_text(entry, "technique")),
        comparison=_shared(_text(entry, "comparison")),
        age=_value(entry, "age", age_of),
        sex=_value(entry, "sex", sex_of),
        prior=_prior(entry.get("prior"), cleaner),
        patient=_shared(str(patient)) if isinstance(patient, str | int) else None,
    )


def resolve_priors(studies: Mapping[str, list[Study]]) -> list[str]:
    """Give the priors that are other entries the images and report of these; return the faults.

    The prior and the other study share their tuples and texts.
    """
    if not any(_is_entry(study.prior) for some in studies.values() for study in some):
        return []
    by_id = {study.id: study for some in studies.values() for study in some}
    faults = []
    for split, some in studies.items():
        for index, study in enumerate(some):
            if (prior := study.prior) is None or not _is_entry(prior):
                continue
            if (other := by_id.get(prior.id)) is None:
                faults.append(
                    f"{split}[{index}] (id {shown(study.id)}): the prior {shown(prior.id)} is no entry of the "
                    "annotation: correct its id, or write its image_path or report out"
                )
                continue
            some[index] = replace(
                study, prior=Prior(other.id, other.views, other.report or None, prior.days, positions=other.positions)
            )
    return faults


def _is_entry(prior: Prior | None) -> bool:
    """Whether the prior only names another entry."""
    return prior is not None and not prior.views and prior.report is None


def _text(entry: Mapping[str, Any], key: str) -> str | None:
    """A text on one line; the placeholders of de-identification (`___`, XXXX) stay. None if it is missing or empty."""
    text = entry.get(key)
    if text is None:
        return None
    if not isinstance(text, str):
        raise Fault(f"{key} {text!r:.40} is not a string")
    refuse_surrogate(text)
    return " ".join(text.split()) or None


def _shared(text: str | None) -> str | None:
    """The text as one object for all studies that have it."""
    return None if text is None else sys.intern(text)


def _value(entry: Mapping[str, Any], key: str, read: Callable[[Any], Any]) -> Any:
    try:
        return read(entry.get(key))
    except ValueError as error:
        raise Fault(f"{key} {entry[key]!r:.40} {error}: correct it, or leave it out") from error


def _positions(entry: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """The position of each image; empty if none is known."""
    views = entry.get("views")
    if not views:
        return ()
    if not isinstance(views, list) or not all(isinstance(view, str | None) for view in views):
        raise Fault(f'views {views!r:.40} is not a list of texts such as ["PA", "LATERAL"]')
    if len(views) != count:
        raise Fault(f"views has {len(views)} items and image_path {count}: give one for each image, or leave it out")
    return _mapped(tuple(view or "" for view in views))


@lru_cache(maxsize=4096)
def _mapped(views: tuple[str, ...]) -> tuple[str, ...]:
    """The positions, shared by all studies that spell theirs in the same way."""
    positions = tuple(map(position_of, views))
    return positions if any(positions) else ()


def _prior(prior: Any, cleaner: Cleaner) -> Prior | None:
    if prior is None:
        return None
    if not isinstance(prior, dict):
        raise Fault(f'prior {prior!r:.40} is not an object such as {{"id": "s1", "days": 30}}')
    id, days, images, report = (prior.get(key) for key in ("id", "days", "image_path", "report"))
    if not isinstance(id, str) or not id:
        raise Fault(f"the prior has no usable id: {id!r:.40} is not a string: write it in quotes")
    refuse_surrogate(id)
    if is_missing(days):
        days = None
    elif isinstance(days, bool) or not isinstance(days, int | float):
        raise Fault(f"prior {shown(id)}: days {days!r:.40} is not a number")
    elif not abs(days) <= OLDEST_DAYS:
        raise Fault(f"prior {shown(id)}: days {days!r:.40} is more than {OLDEST_YEARS} years: correct it")
    if images is not None and not isinstance(images, list):
        raise Fault(f"prior {shown(id)}: image_path {images!r:.40} must be a list of images")
    if report is not None and not isinstance(report, str):
        raise Fault(f"prior {shown(id)}: report {report!r:.40} is not a string")
    refuse_surrogate(report or "")
    cleaned = clean_report(report, cleaner) if report else ""
    try:
        views = tuple(image_name(image) for image in images or [])
        positions = _positions(prior, len(views)) if views else ()
    except Fault as fault:
        raise Fault(f"prior {shown(id)}: {fault}") from fault
    return Prior(
        id=id,
        views=views,
        report=None if is_empty(cleaned) else cleaned,
        days=None if days is None else float(days),
        positions=positions,
    )
