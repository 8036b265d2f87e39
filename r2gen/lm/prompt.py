"""The prompt around the image. Its pieces and the report are tokenised separately, as R2GenGPT does."""

from collections.abc import Sequence
from dataclasses import dataclass

from r2gen.config.plain import Plain
from r2gen.config.prompt_pieces import MESSAGE, pieces
from r2gen.errors import UserError
from r2gen.lm.tokenizer import ReportTokenizer
from r2gen.runs.trial import attempt

Written = str | Sequence[str | Plain]  # see r2gen/config/prompt_pieces.py


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

    def ids(
        self, tokenizer: ReportTokenizer, *, rows: int | None = None, encoded: bool = False
    ) -> tuple[list[int], list[int]]:
        """Token ids before the image, with the BOS token, and after it.

        `rows` is the number of rows of the embedding matrix, and `encoded` says that an encoder reads the prompt, which
        then ends as the tokenizer's files end a text, if `bos` is None. Raises UserError if the checkpoint lacks a
        special token, the BOS token or the chat template that the prompt needs, or if an id exceeds the embedding
        matrix.
        """
        if self.uses_template(tokenizer):
            before, after = self._templated(tokenizer)
        else:
            before, after = (
                _ids(self.before, tokenizer, "lm.prompt.before"),
                _ids(self.after, tokenizer, "lm.prompt.after"),
            )
            if self.bos is None:
                beginning, end = tokenizer.around_text
                before, after = [*beginning, *before], [*after, *(end if encoded else ())]
        if self.bos:
            if tokenizer.bos_id is None:
                raise UserError("lm.prompt.bos=true, but this checkpoint names no BOS token: set lm.prompt.bos=false")
            before = [tokenizer.bos_id, *before]
        wrong = [i for i in (*before, *after) if i < 0 or (rows is not None and i >= rows)]
        if wrong:
            raise UserError(
                f"lm.prompt: id {wrong[0]} exceeds the embedding matrix, which has {rows} rows: use a smaller id"
            )
        return before, after

    def uses_template(self, tokenizer: ReportTokenizer) -> bool:
        """Whether the prompt is written by the checkpoint's chat template."""
        return tokenizer.chat_template is not None if self.chat_template is None else self.chat_template

    def _templated(self, tokenizer: ReportTokenizer) -> tuple[list[int], list[int]]:
        if tokenizer.chat_template is None:
            raise UserError(
                "lm.prompt.chat_template=true, but this checkpoint publishes no chat template "
                "(chat_template in tokenizer_config.json, chat_template.jinja): write the prompt in lm.prompt.before "
                "and lm.prompt.after"
            )
        template = tokenizer.chat_template

        def work() -> list[list[int]]:
            turn = template.turn(self.message)
            return [tokenizer.codec.encode_with_special_tokens(text) for text in (turn.before, turn.after)]

        before, after = attempt(work, template.refusal)
        return before, after


def _ids(written: Written, tokenizer: ReportTokenizer, name: str) -> list[int]:
    ids: list[int] = []
    for kind, value in pieces(written, name):
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
