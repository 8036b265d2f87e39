"""The chat template that a checkpoint publishes, rendered in transformers' sandbox and split at the image."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.utils.chat_template_utils import render_jinja_template

from r2gen.config.prompt_pieces import CONTEXT, IMAGE
from r2gen.errors import UserError
from r2gen.lm.checkpoint import read_json
from r2gen.runs.untrusted import read_text, reason

# for image, answer and context while a template is rendered: private-use characters
PLACEHOLDER, ANSWER, CONTEXT_PLACEHOLDER = "\ue000", "\ue001", "\ue002"
LARGEST = 2**20  # bytes of a file
LONGEST = 100_000  # characters of a prompt
# A template that prints today's date would make a run depend on its day: this is LLaMA-3.1's default date.
FIXED_DATE = "{%- macro strftime_now(format) -%}26 Jul 2024{%- endmacro -%}"


@dataclass(frozen=True)
class ChatTemplate:
    """A published template (jinja) with its file, and the special tokens that it may name, such as bos_token."""

    file: Path
    text: str
    names: dict[str, str]

    def refusal(self, why: str) -> UserError:
        return UserError(
            f"lm.prompt.chat_template=true: the chat template in {self.file} cannot be used ({why}): write the prompt "
            "in lm.prompt.before and lm.prompt.after instead"
        )

    def turn(self, message: str) -> "Turn":
        """The text around the image of one user message and around its answer.

        `message` has `{image}` once; a `{context}` in it becomes CONTEXT_PLACEHOLDER. Raises UserError if the template
        fails or does not write the message exactly once.
        """
        text, errors = "", []
        for as_parts in (False, True):  # templates of models for images want a list of parts
            try:
                text = self._render(message, answer=None, as_parts=as_parts)
            except _RenderError as error:
                errors.append(str(error))
                continue
            if text.count(PLACEHOLDER) == 1:
                break
            errors.append(f"it writes the user's message {text.count(PLACEHOLDER)} times")
        else:
            raise self.refusal(errors[0])
        before, after = text.split(PLACEHOLDER)
        try:
            parts = self._render(message, answer=ANSWER, as_parts=as_parts).split(PLACEHOLDER)
        except _RenderError:
            return Turn(before, after, "")
        answered = parts[1].split(ANSWER) if len(parts) == 2 and parts[0] == before else []
        if len(answered) != 2:
            return Turn(before, after, "")
        opened = answered[0].rstrip()  # of gpt-oss, whose generation prompt leaves the channel to the model
        longer = opened.startswith(after) and opened != after.rstrip()
        return Turn(before, opened if longer else after, answered[1])

    def _render(self, message: str, *, answer: str | None, as_parts: bool) -> str:
        def content(text: str) -> Any:
            return [{"type": "text", "text": text}] if as_parts else text

        marked = message.replace(IMAGE, PLACEHOLDER).replace(CONTEXT, CONTEXT_PLACEHOLDER)
        turns = [{"role": "user", "content": content(marked)}]
        turns += [] if answer is None else [{"role": "assistant", "content": content(answer)}]
        try:
            render: Any = render_jinja_template  # annotated as str, but returns a tuple of lists
            rendered = render(
                conversations=[turns],
                chat_template=FIXED_DATE + self.text,
                add_generation_prompt=answer is None,
                enable_thinking=False,
                **self.names,
            )
        except (MemoryError, RecursionError):
            raise
        except Exception as error:  # a template computes: it may divide by zero, for example
            raise _RenderError(
                f"it cannot be rendered for one user message: {' '.join(str(error).split())[:200]}"
            ) from error
        text: str = rendered[0][0]
        if len(text) > LONGEST:
            raise self.refusal(f"it writes {len(text):,} characters for one user message")
        return text


class _RenderError(Exception):
    """Why a template cannot be rendered."""


@dataclass(frozen=True)
class Turn:
    """What a template writes before and after the image, up to the answer, and after the answer."""

    before: str
    after: str
    end: str


def _text(file: Path) -> str | None:
    try:
        return read_text(file, most=LARGEST)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"lm.path: {file} cannot be read: {reason(error)}") from error


def _is_named(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("name"), str) and isinstance(entry.get("template"), str)


def read_chat_template(folder: Path) -> ChatTemplate | None:
    """The template in chat_template.jinja, chat_template.json or tokenizer_config.json; None if there is none.

    Of several templates it is the one named default.
    """
    config_file = folder / "tokenizer_config.json"
    config = read_json(folder / "special_tokens_map.json") | read_json(config_file)
    file = folder / "chat_template.jinja"
    template: Any = _text(file)
    if not template:
        file, template = next(
            (
                (file, template)
                for file, template in (
                    (folder / "chat_template.json", read_json(folder / "chat_template.json").get("chat_template")),
                    (config_file, config.get("chat_template")),
                )
                if template
            ),
            (config_file, None),
        )
    if isinstance(template, list):
        named = [entry for entry in template if isinstance(entry, dict) and entry.get("name") == "default"]
        template = named[-1].get("template", 0) if named else None if all(map(_is_named, template)) else template
    if template is None:
        return None
    if not isinstance(template, str):
        raise UserError(f"lm.path: the chat template in {file} is not a text: {json.dumps(template)[:80]}")
    names = {
        key: value.get("content") if isinstance(value, dict) else value
        for key, value in config.items()
        if key.endswith("_token")
    }
    return ChatTemplate(file, template, {key: value for key, value in names.items() if isinstance(value, str)})
