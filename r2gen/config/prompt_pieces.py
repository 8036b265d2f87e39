"""How a prompt is written in a YAML, and its check before anything is loaded.

`before` and `after` are a text, or a list of pieces that are tokenised separately: a text without special tokens,
`{marked: TEXT}` in which the names of special tokens mean these tokens, `{token: NAME}` for one special token that must
exist, `{id: NUMBER}` for an id. `chat_template: true` uses the template that the checkpoint publishes around `message`;
null does so where there is one, and else writes `before` and `after`.

A text of them may have `{context}` once, where the context of the study goes (config/context.py). By default it goes
before the image and an `<Img>` that is directly in front of it. A run with context=none leaves the word out.
"""

from typing import Any, Protocol

from r2gen.errors import UserError

# R2GenGPT, models/R2GenGPT.py prompt_wrap
MESSAGE = "<Img>{image}</Img> Generate a comprehensive and detailed diagnosis report for this chest xray image."
IMAGE, CONTEXT = "{image}", "{context}"  # where the image and the context go
KINDS: dict[str, type] = {"token": str, "marked": str, "id": int}
ADVICE = "a piece is a text, {token: NAME}, {marked: TEXT with special tokens} or {id: NUMBER}"


class Prompt(Protocol):
    """The group lm.prompt (schema.PromptConfig)."""

    before: Any
    after: Any
    bos: bool | None
    chat_template: bool | None
    message: str


def check(prompt: Prompt) -> None:
    """Raise UserError naming the option where a prompt is not valid."""
    written = pieces(prompt.before, "lm.prompt.before") + pieces(prompt.after, "lm.prompt.after")
    if sum(str(value).count(CONTEXT) for _, value in written) > 1 or prompt.message.count(CONTEXT) > 1:
        raise UserError(f"lm.prompt: {CONTEXT} is where the context goes: write it once")
    if prompt.message.count(IMAGE) != 1:
        raise UserError(f"lm.prompt.message={prompt.message!r}: write {{image}} once, where the image goes")
    if not prompt.chat_template:
        return
    if prompt.before or prompt.after:
        raise UserError(
            "lm.prompt.chat_template=true takes the text around the message from the checkpoint: set "
            "lm.prompt.before='' and lm.prompt.after='', or lm.prompt.chat_template=false"
        )
    if prompt.bos:
        raise UserError(
            "lm.prompt.chat_template=true: the template writes the BOS token itself where there is one: set "
            "lm.prompt.bos=false"
        )


def pieces(written: Any, name: str) -> list[tuple[str, Any]]:
    """(kind, value) of each piece; a bare text has the kind `text`. Raises UserError naming the option."""
    parsed: list[tuple[str, Any]] = []
    for piece in written if isinstance(written, list | tuple) else [written]:
        if isinstance(piece, str):
            parsed.append(("text", piece))
            continue
        kind, value = next(iter(piece.items())) if isinstance(piece, dict) and len(piece) == 1 else ("", None)
        if kind not in KINDS or not isinstance(value, KINDS[kind]) or isinstance(value, bool):
            raise UserError(f"{name}: {piece!r} is not a piece of a prompt: {ADVICE}")
        parsed.append((kind, value))
    return parsed
