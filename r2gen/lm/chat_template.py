"""The chat template that a checkpoint publishes, rendered in transformers' sandbox and split at the image."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from r2gen.errors import UserError
from r2gen.lm.checkpoint import read_json

IMAGE = "{image}"  # where lm.prompt.message has the image
PLACEHOLDER = "\ue000"  # for the image while the template is rendered; a private-use character of Unicode
# A template that prints today's date would make a run depend on its day: this is LLaMA-3.1's default date.
FIXED_DATE = "{%- macro strftime_now(format) -%}26 Jul 2024{%- endmacro -%}"


@dataclass(frozen=True)
class ChatTemplate:
    """A published template (jinja) and the special tokens that it may name, such as bos_token."""

    text: str
    names: dict[str, str]

    def around(self, message: str) -> tuple[str, str]:
        """The text before and after the image of one user message, up to the beginning of the answer.

        `message` has `{image}` once. Raises UserError if the template fails or does not write the message exactly once.
        """
        user = {"role": "user", "content": message.replace(IMAGE, PLACEHOLDER)}
        try:
            render: Any = render_jinja_template  # annotated as str, but returns a tuple of lists
            rendered = render(
                conversations=[[user]],
                chat_template=FIXED_DATE + self.text,
                add_generation_prompt=True,
                enable_thinking=False,
                **self.names,
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise UserError(
                "lm.prompt.chat_template=true: the checkpoint's chat template cannot be rendered for one "
                f"user message ({error}): write the prompt in lm.prompt.before and lm.prompt.after instead"
            ) from error
        text = rendered[0][0]
        if text.count(PLACEHOLDER) != 1:
            raise UserError(
                "lm.prompt.chat_template=true: the checkpoint's chat template writes the user's message "
                f"{text.count(PLACEHOLDER)} times: write the prompt in lm.prompt.before and lm.prompt.after instead"
            )
        before, after = text.split(PLACEHOLDER)
        return before, after


def read_chat_template(folder: Path) -> ChatTemplate | None:
    """The template in chat_template.jinja, chat_template.json or tokenizer_config.json; None if there is none.

    Of several templates it is the one named default.
    """
    config = read_json(folder / "special_tokens_map.json") | read_json(folder / "tokenizer_config.json")
    file = folder / "chat_template.jinja"
    template: Any = file.read_text(encoding="utf-8") if file.is_file() else None
    template = template or read_json(folder / "chat_template.json").get("chat_template") or config.get("chat_template")
    if isinstance(template, list):
        template = {entry["name"]: entry["template"] for entry in template}.get("default")
    if template is None:
        return None
    if not isinstance(template, str):
        raise UserError(f"lm.path: the chat template of {folder} is not a string: {json.dumps(template)[:80]}")
    names = {
        key: value.get("content") if isinstance(value, dict) else value
        for key, value in config.items()
        if key.endswith("_token")
    }
    return ChatTemplate(template, {key: value for key, value in names.items() if isinstance(value, str)})
