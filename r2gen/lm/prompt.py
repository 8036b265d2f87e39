"""The prompt around the image. Its pieces and the report are tokenised separately, as R2GenGPT does."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from r2gen.config.plain import Plain
from r2gen.config.prompt_pieces import CONTEXT, IMAGE, MESSAGE, pieces
from r2gen.errors import UserError
from r2gen.lm.chat_template import CONTEXT_PLACEHOLDER
from r2gen.lm.tokenizer import ReportTokenizer
from r2gen.runs.trial import attempt

Written = str | Sequence[str | Plain]  # see r2gen/config/prompt_pieces.py
Side = Literal["before", "after"]
SIDES: tuple[Side, ...] = ("before", "after")
Piece = tuple[str, Any]  # as prompt_pieces.pieces gives it
TAG = "<Img>"  # in front of an image, as in R2GenGPT


@dataclass(frozen=True)
class Place:
    """Where the context of a study goes: in the ids before or after the image, in front of number `index`."""

    side: Side
    index: int


@dataclass(frozen=True)
class PromptIds:
    """Token ids before the image, with the BOS token, and after it."""

    before: list[int]
    after: list[int]
    context: Place | None  # None: the prompt has no context

    @property
    def opening(self) -> list[int]:
        """The ids that the prompts of all studies begin with."""
        return self.before[: self.context.index] if self.context and self.context.side == "before" else self.before


@dataclass(frozen=True)
class Prompt:
    """The prompt before and after the image; with `bos` it begins with the BOS token.

    With `chat_template` it is `message`, which has `{image}` once, in the chat template of the checkpoint. None means
    there: if the checkpoint publishes one; and of `bos`: if the tokenizer's files put it before a text.
    """

    before: Written
    after: Written
    bos: bool | None
    chat_template: bool | None = False
    message: str = MESSAGE

    def around(
        self, tokenizer: ReportTokenizer, *, context: bool, rows: int | None = None, encoded: bool = False
    ) -> PromptIds:
        """The token ids around the image; with `context`, texts are tokenised apart before and after its place.

        `rows` is the number of rows of the embedding matrix, and `encoded` says that an encoder reads the prompt, which
        then ends as the tokenizer's files end a text, if `bos` is None. Raises UserError if the checkpoint lacks a
        special token, the BOS token or the chat template that the prompt needs, or if an id exceeds the embedding
        matrix.
        """
        if self.uses_template(tokenizer):
            parts = self._templated(tokenizer, context=context)
        else:
            names = ("lm.prompt.before", "lm.prompt.after")
            sides = around_context(pieces(self.before, names[0]), pieces(self.after, names[1]), context=context)
            parts = [[_ids(some, tokenizer, name) for some in side] for side, name in zip(sides, names, strict=True)]
            if self.bos is None:
                beginning, end = tokenizer.around_text
                parts[0][0] = [*beginning, *parts[0][0]]
                parts[1][-1] = [*parts[1][-1], *(end if encoded else ())]
        if self.bos:
            if tokenizer.bos_id is None:
                raise UserError("lm.prompt.bos=true, but this checkpoint names no BOS token: set lm.prompt.bos=false")
            parts[0][0] = [tokenizer.bos_id, *parts[0][0]]
        before, after = ([i for part in side for i in part] for side in parts)
        wrong = [i for i in (*before, *after) if i < 0 or (rows is not None and i >= rows)]
        if wrong:
            raise UserError(
                f"lm.prompt: id {wrong[0]} exceeds the embedding matrix, which has {rows} rows: use a smaller id"
            )
        place = next((Place(side, len(parts[n][0])) for n, side in enumerate(SIDES) if len(parts[n]) > 1), None)
        return PromptIds(before, after, place)

    def uses_template(self, tokenizer: ReportTokenizer) -> bool:
        """Whether the prompt is written by the checkpoint's chat template."""
        return tokenizer.chat_template is not None if self.chat_template is None else self.chat_template

    def _templated(self, tokenizer: ReportTokenizer, *, context: bool) -> list[list[list[int]]]:
        """The ids before and after the image, each in two parts where the context goes between them."""
        if tokenizer.chat_template is None:
            raise UserError(
                "lm.prompt.chat_template=true, but this checkpoint publishes no chat template "
                "(chat_template in tokenizer_config.json, chat_template.jinja): write the prompt in lm.prompt.before "
                "and lm.prompt.after"
            )
        template, image = tokenizer.chat_template, self.message.partition(IMAGE)
        sides = around_context([("text", image[0])], [("text", image[2])], context=context)
        before, after = (CONTEXT.join(text for some in side for _, text in some) for side in sides)

        def work() -> list[list[list[int]]]:
            turn = template.turn(f"{before}{IMAGE}{after}")
            encode = tokenizer.codec.encode_with_special_tokens
            return [[encode(text) for text in side.split(CONTEXT_PLACEHOLDER)] for side in (turn.before, turn.after)]

        return attempt(work, template.refusal)


def around_context(before: list[Piece], after: list[Piece], *, context: bool) -> list[list[list[Piece]]]:
    """The pieces of both sides of the image, those of one side in two parts: before and after the context.

    Without `context` no side is divided, and the word for its place is left out of the texts.
    """
    sides = [before, after]
    if not context:
        return [[[(kind, _without_place(value)) for kind, value in side]] for side in sides]
    divided = [_divided(side) for side in sides]
    if len(divided[0]) == len(divided[1]) == 1:  # no place is written
        divided[0] = _before_tag(before)
    return divided


def _without_place(value: Any) -> Any:
    return value.replace(CONTEXT, "") if isinstance(value, str) else value


def _divided(side: list[Piece]) -> list[list[Piece]]:
    for number, (kind, value) in enumerate(side):
        if kind in ("text", "marked") and CONTEXT in value:
            first, _, second = value.partition(CONTEXT)
            return [[*side[:number], (kind, first)], [(kind, second), *side[number + 1 :]]]
    return [side]


def _before_tag(side: list[Piece]) -> list[list[Piece]]:
    """The pieces before the image, divided in front of the tag that is directly before it, or else at their end."""
    kind, value = side[-1] if side else ("", "")
    if kind in ("text", "marked") and value.endswith(TAG):
        return [[*side[:-1], (kind, value.removesuffix(TAG).rstrip(" "))], [(kind, TAG)]]
    return [side, []]


def _ids(some: list[Piece], tokenizer: ReportTokenizer, name: str) -> list[int]:
    ids: list[int] = []
    for kind, value in some:
        if kind == "text":
            ids += tokenizer.encode(value)
        elif kind == "marked":
            ids += tokenizer.codec.encode_with_special_tokens(value)
        elif kind == "id":
            ids.append(value)
        else:
            token_id = tokenizer.codec.id_of(value)
            if token_id is None:
                raise UserError(f"{name}: {value!r} is not one token of this checkpoint: write it as text")
            ids.append(token_id)
    return ids
