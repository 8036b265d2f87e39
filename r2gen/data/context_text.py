"""What the prompt of a study has besides its images, as text."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from r2gen.config.context import PRIOR_IMAGES, TEXT, ContextConfig
from r2gen.data.reports import Study
from r2gen.errors import UserError

WORD_OR_PUNCTUATION = re.compile(r"\w+(?:[-']\w+|\.\d+)*|[^\w\s]")  # 55-year-old and 1.5 are words
SEXES = {"F": "female", "M": "male"}


@dataclass(frozen=True)
class Piece:
    """A text that is tokenised apart; `is_after` says that it is behind the images of the prior study."""

    field: str
    text: str
    is_after: bool


def context_text(study: Study, options: ContextConfig, *, words: bool = False) -> str:
    """The whole context of a study as one text, for its length, and for a vocabulary."""
    return " ".join(piece.text for piece in written(study, options, words=words))


def written(study: Study, options: ContextConfig, *, words: bool = False) -> list[Piece]:
    """The text of each field, in their order; that of PRIOR_IMAGES in two pieces, around the images.

    With `words`, for a vocabulary of words.
    """
    study = in_words(study) if words else study
    pieces: list[Piece] = []
    is_after = False
    for field in options.fields:
        value, text = value_of(study, field), options.texts[field]
        if value is None:
            pieces += [Piece(field, options.missing[field], is_after)] if field in options.missing else []
        elif field == PRIOR_IMAGES:
            first, _, second = text.partition(TEXT)
            pieces += [Piece(field, first, is_after=False), Piece(field, second, is_after=True)]
            is_after = True
        else:
            pieces.append(Piece(field, text.replace(TEXT, value), is_after))
    return pieces


def value_of(study: Study, field: str) -> str | None:
    """A field of a study as text; empty for the images of a prior study; None if the study lacks it."""
    prior = study.prior
    match field:
        case "age":
            return None if study.age is None else f"{round(study.age, 1):g}"
        case "sex":
            return None if study.sex is None else SEXES[study.sex]
        case "prior_images":
            return "" if prior is not None and prior.views else None
        case "prior_days":
            return None if prior is None or prior.days is None else _days(prior.days)
        case "prior_report":
            text = None if prior is None else prior.report
        case _:
            text = getattr(study, field)
    return (text or "").strip() or None


def shown_context(study: Study, options: ContextConfig) -> dict[str, str]:
    """What a prompt with these options has of a study besides its images, by title, for a page."""
    values = {field: value_of(study, field) for field in options.fields}
    if study.prior is not None and values.get(PRIOR_IMAGES) is not None:
        values[PRIOR_IMAGES] = str(len(study.prior.views))
    if options.image_embeddings and study.positions:
        values["positions"] = ", ".join(position or "unknown" for position in study.positions)
    return {field.replace("_", " ").capitalize(): value for field, value in values.items() if value is not None}


def context_counts(studies: Sequence[Study], fields: Sequence[str]) -> dict[str, int]:
    """How many of the studies have each of the fields; `positions` and `prior` count as fields."""
    return {field: sum(_has(study, field) for study in studies) for field in fields}


def _has(study: Study, field: str) -> bool:
    match field:
        case "positions":
            return bool(study.positions)
        case "prior":
            return study.prior is not None
    return value_of(study, field) is not None


def in_words(study: Study) -> Study:
    """The study with its texts in lower case and punctuation apart, for a vocabulary of words.

    The report of its prior study stays, since it is cleaned as those of the data set are.
    """

    def apart(text: str | None) -> str | None:
        return None if text is None else " ".join(WORD_OR_PUNCTUATION.findall(text.lower()))

    return replace(
        study,
        indication=apart(study.indication),
        technique=apart(study.technique),
        comparison=apart(study.comparison),
    )


def _days(days: float) -> str:
    return "less than 1" if days < 1 else str(round(days))


def refuse_without_fields(options: ContextConfig, studies: Sequence[Study]) -> None:
    """Raise UserError if no training study has any of the fields, so that the context would change nothing."""
    fields = options.fields
    if fields and not any(_has(study, field) for field in fields for study in studies):
        raise UserError(
            f"context.fields=[{','.join(fields)}]: no training study of this data set has any of them: use "
            "context=none, add them with task=prepare prepare.context_from=TABLE (docs/data.md), or use data that have "
            "them, such as data=phantom_story"
        )
