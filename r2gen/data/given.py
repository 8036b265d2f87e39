"""A study of which the images and, as far as the user gives it, the context is known, but no report."""

import math
from dataclasses import fields
from typing import get_type_hints

from r2gen.config.context import OF_PRIOR, ContextConfig, GivenConfig
from r2gen.config.fields import check_bounds
from r2gen.config.hints import accepts, describe
from r2gen.data.annotation_fault import has_surrogate
from r2gen.data.context_text import value_of
from r2gen.data.positions import position_of, spellings
from r2gen.data.reports import Prior, Study
from r2gen.errors import UserError, shown


def given_study(images: int, given: GivenConfig) -> Study:
    """A study with so many images, whose views have no name. Raises UserError naming a value that is not valid."""
    _check(given)
    if given.sex not in ("F", "M", None):
        raise UserError(f"sex={shown(given.sex)}: give F or M")
    prior, prior_positions = None, _positions("prior_positions", given.prior_positions, len(given.prior_images))
    if any(getattr(given, name) not in (None, []) for name in OF_PRIOR):
        prior = Prior(
            id="prior",
            views=("",) * len(given.prior_images),
            report=given.prior_report,
            days=given.prior_days,
            positions=prior_positions,
        )
    return Study(
        id="study",
        views=("",) * images,
        report="",
        positions=_positions("positions", given.positions, images),
        indication=_on_one_line(given.indication),
        technique=_on_one_line(given.technique),
        comparison=_on_one_line(given.comparison),
        age=given.age,
        sex=given.sex,  # type: ignore[arg-type]  # checked above
        prior=prior,
    )


def not_used(study: Study, context: ContextConfig) -> str:
    """A line that names what is known of a study and not used by a run with this context; empty if nothing is."""
    fields = context.fields
    names = ("indication", "technique", "comparison", "age", "sex", *OF_PRIOR)
    unused = [name for name in names if name not in fields and value_of(study, name) is not None]
    if study.positions and not context.image_embeddings:
        unused.append("positions")
    if not unused:
        return ""
    uses = f"context.fields=[{','.join(fields)}]" if fields else "context=none"
    return f"not used, since the run was trained with {uses}: {', '.join(unused)}"


def _check(given: GivenConfig) -> None:
    """Raise UserError naming a value of another type, outside its bounds, or that is no text."""
    hints = get_type_hints(GivenConfig)
    for spec in fields(GivenConfig):
        value = getattr(given, spec.name)
        if spec.name == "prior_images":  # paths, or images in memory
            continue
        if not accepts(value, hints[spec.name]) or (isinstance(value, float) and not math.isfinite(value)):
            raise UserError(f"{spec.name}={shown(value)}: give {describe(hints[spec.name])}")
        if isinstance(value, str) and has_surrogate(value):
            raise UserError(f"{spec.name}={shown(value)}: half of a surrogate pair is no character: correct it")
        check_bounds(spec.name, value, spec)


def _on_one_line(text: str | None) -> str | None:
    """The text as that of an annotation is read."""
    return None if text is None else " ".join(text.split())


def _positions(name: str, positions: list[str], images: int) -> tuple[str, ...]:
    if positions and len(positions) != images:
        raise UserError(
            f"{name}: {len(positions)} given, of {images} image(s): give one for each, such as PA or LATERAL"
        )
    for position in positions:
        if position.strip() and not position_of(position):
            raise UserError(
                f"{name}: {shown(position)} is not known as the position of an image. Write one of {spellings()}, or "
                "'' where it is unknown"
            )
    return tuple(map(position_of, positions))
