"""The words around the image: tokenised apart from each other and from the report, as R2GenGPT does."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from r2gen.config.prompt_pieces import MESSAGE, pieces
from r2gen.errors import UserError
from r2gen.lm.tokenizer import ReportTokenizer

Written = str | Sequence[str | dict[str, Any]]  # see prompt_pieces


@dataclass(frozen=True)
class Prompt:
    """What stands before and after the image; `bos` puts the beginning sign first.

    With `chat_template` the checkpoint's own template is put around `message`, which holds `{image}` once.
    """

    before: Written
    after: Written
    bos: bool
    chat_template: bool = False
    message: str = MESSAGE

    def ids(self, tokenizer: ReportTokenizer, *, rows: int | None = None) -> tuple[list[int], list[int]]:
        """Token ids before the image (the beginning sign first) and after it.

        `rows` is how many ids the weights have. Raises UserError where a special token is not there, a beginning sign
        is asked for and the checkpoint has none, it has no chat template, or an id is beyond its rows.
        """
        before, after = (
            self._templated(tokenizer)
            if self.chat_template
            else (_ids(self.before, tokenizer, "lm.prompt.before"), _ids(self.after, tokenizer, "lm.prompt.after"))
        )
        if self.bos:
            if tokenizer.bos_id is None:
                raise UserError(
                    "lm.prompt.bos=true, but this checkpoint names no beginning sign: set lm.prompt.bos=false"
                )
            before = [tokenizer.bos_id, *before]
        wrong = [i for i in (*before, *after) if i < 0 or (rows is not None and i >= rows)]
        if wrong:
            raise UserError(f"lm.prompt: id {wrong[0]} has no row in the weights, which have {rows}")
        return before, after

    def _templated(self, tokenizer: ReportTokenizer) -> tuple[list[int], list[int]]:
        if tokenizer.chat_template is None:
            raise UserError(
                "lm.prompt.chat_template=true, but this checkpoint publishes no chat template "
                "(chat_template in tokenizer_config.json, chat_template.jinja): write the prompt out in "
                "lm.prompt.before and lm.prompt.after"
            )
        before, after = tokenizer.chat_template.around(self.message)
        return tokenizer.codec.encode_marked(before), tokenizer.codec.encode_marked(after)


def _ids(written: Written, tokenizer: ReportTokenizer, name: str) -> list[int]:
    ids: list[int] = []
    for kind, value in pieces(written, name):
        if kind == "text":
            ids += tokenizer.encode(value)
        elif kind == "marked":
            ids += tokenizer.codec.encode_marked(value)
        elif kind == "id":
            ids.append(value)
        else:
            found = tokenizer.codec.id_of(value)
            if found is None:
                raise UserError(f"{name}: {value!r} is not one token of this checkpoint")
            ids.append(found)
    return ids
