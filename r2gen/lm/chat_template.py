"""The chat template that a checkpoint publishes, rendered by transformers' own sandbox, split where the image goes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from r2gen.errors import UserError
from r2gen.lm.marks import read_json

IMAGE = "{image}"  # the image's place in lm.prompt.message
PLACE = "\ue000"  # of Unicode's private use: stands for the image while the template is rendered
# Templates that print today's date would make a run depend on its day; LLaMA-3.1's own default date instead.
FIXED_DATE = "{%- macro strftime_now(format) -%}26 Jul 2024{%- endmacro -%}"


@dataclass(frozen=True)
class ChatTemplate:
    """A published template (jinja) and the special tokens it may name, such as bos_token."""

    text: str
    names: dict[str, str]

    def around(self, message: str) -> tuple[str, str]:
        """What stands before and after the image of one user message, up to where the answer begins.

        `message` holds `{image}` once. Raises UserError where the template fails, or does not write the message once.
        """
        user = {"role": "user", "content": message.replace(IMAGE, PLACE)}
        try:
            render: Any = render_jinja_template  # its type says str, it gives a tuple of lists
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
                f"user message: {error}"
            ) from error
        text = rendered[0][0]
        if text.count(PLACE) != 1:
            raise UserError(
                "lm.prompt.chat_template=true: the checkpoint's chat template writes the user's message "
                f"{text.count(PLACE)} times: write lm.prompt.before and after instead"
            )
        before, after = text.split(PLACE)
        return before, after


def read_chat_template(folder: Path) -> ChatTemplate | None:
    """The template of chat_template.jinja, chat_template.json or tokenizer_config.json (of several the one named
    default); None where the checkpoint has none."""
    config = read_json(folder / "special_tokens_map.json") | read_json(folder / "tokenizer_config.json")
    file = folder / "chat_template.jinja"
    found: Any = file.read_text(encoding="utf-8") if file.is_file() else None
    found = found or read_json(folder / "chat_template.json").get("chat_template") or config.get("chat_template")
    if isinstance(found, list):
        found = {entry["name"]: entry["template"] for entry in found}.get("default")
    if found is None:
        return None
    if not isinstance(found, str):
        raise UserError(f"lm.path: the chat template of {folder} is not a text: {json.dumps(found)[:80]}")
    names = {
        key: value.get("content") if isinstance(value, dict) else value
        for key, value in config.items()
        if key.endswith("_token")
    }
    return ChatTemplate(found, {key: value for key, value in names.items() if isinstance(value, str)})
