"""The options of the groups `context`, what a prompt has besides the images of the study, and `given`.

The fields of a study (data/reports.py) that a prompt can have are FIELDS. `prior_images` is where the images of the
prior study go.
"""

from dataclasses import dataclass
from typing import Any

from r2gen.config.fields import option
from r2gen.config.names import suggest
from r2gen.config.plain import Plain
from r2gen.errors import UserError, shown

PRIOR_IMAGES = "prior_images"
OF_PRIOR = (PRIOR_IMAGES, "prior_days", "prior_report")
FIELDS = ("age", "sex", "indication", "technique", "comparison", *OF_PRIOR)
OLDEST_YEARS = 130  # an age, and the time since a prior study
OLDEST_DAYS = OLDEST_YEARS * 366
TEXT = "{text}"  # in context.texts: the value of the field


@dataclass
class ContextConfig:
    """What is written into the prompt about a study besides its images (docs/context.md)."""

    fields: list[str] = option(f"of {', '.join(FIELDS)}, in the order of the prompt; empty: none")
    texts: Plain = option("by field: what is written, with its value as {text}")
    missing: Plain = option("by field: what is written where a study lacks it; a field without an entry is left out")
    image_embeddings: bool = option("learn an embedding of the position of each image and of the age of a prior image")
    max_tokens: int = option("of all fields together; the prior report is cut first", more_than=0, at_most=100_000)

    @property
    def is_used(self) -> bool:
        return bool(self.fields) or self.image_embeddings


@dataclass
class GivenConfig:
    """What is known about the study of task=generate besides its images, as its run reads it (docs/context.md)."""

    indication: str | None = option("why the images were taken, or the history")
    technique: str | None = option()
    comparison: str | None = option("the section, such as 'Chest radiograph of last year.'")
    age: float | None = option("in years", at_least=0, at_most=OLDEST_YEARS)
    sex: str | None = option(choices=("F", "M"))
    positions: list[str] = option("of each image: PA, AP, FRONTAL, LATERAL or OTHER")
    prior_images: list[str] = option("the images of the prior study")
    prior_positions: list[str] = option("of each of those")
    prior_days: float | None = option(
        f"from the prior study to this one; at most {OLDEST_YEARS} years", more_than=0, at_most=OLDEST_DAYS
    )
    prior_report: str | None = option("the report on the prior study")


def check(context: ContextConfig) -> None:
    """Raise UserError naming the option where a context is not valid."""
    for field in context.fields:
        _refuse_unknown(field, f"context.fields={shown(','.join(context.fields))}")
        written = context.texts.get(field)
        if not isinstance(written, str) or written.count(TEXT) != 1:
            raise UserError(f"context.texts.{field}={shown(written)}: write a text with {TEXT} once, for the value")
    if len(set(context.fields)) != len(context.fields):
        raise UserError(f"context.fields={shown(','.join(context.fields))}: name each field once")
    for name, texts in (("texts", context.texts), ("missing", context.missing)):
        for field, text in texts.items():
            _refuse_unknown(field, f"context.{name}")
            if not isinstance(text, str):
                raise UserError(f"context.{name}.{field}={shown(text)}: give a text")


def _refuse_unknown(field: Any, where: str) -> None:
    if field not in FIELDS:
        raise UserError(f"{where}: {shown(field)} is no field: choose of {', '.join(FIELDS)}{suggest(field, FIELDS)}")


def counted(leaves: Plain) -> Plain:
    """The options of a configuration (by dotted name) without those of the context that change nothing."""
    fields = leaves.get("context.fields") or []
    unused = {"context.texts", "context.missing"} | (set() if fields else {"context.max_tokens"})

    def counts(name: str) -> bool:
        group, field = name.rpartition(".")[::2]
        of_field = group in ("context.texts", "context.missing")
        return name not in unused and not (of_field and isinstance(fields, list) and field not in fields)

    return {name: value for name, value in leaves.items() if counts(name)}
