"""The prompt of every row of conf/lm, as text and ids, and what a prompt may be written as."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from golden_checkpoints import PUBLISHED, ROOT, golden, needs_published

from r2gen.config.prompt_pieces import MESSAGE, check, pieces
from r2gen.errors import UserError
from r2gen.lm import Prompt, ReportTokenizer, read_tokenizer

# Text and ids of each row around the image, on the tiny checkpoint of its family. Made without r2gen: by sentencepiece,
# tokenizers and tiktoken from the published files, with golden.json's table of special ids.
PINS: dict[str, dict[str, Any]] = json.loads((ROOT / "tests/golden/prompts.json").read_text(encoding="utf-8"))
TINY = [name for name, pin in PINS.items() if pin["checkpoint"]]  # those whose ids are pinned too
ROWS = sorted(file.stem for file in (ROOT / "conf/lm").glob("*.yaml"))
INSTRUCTION = MESSAGE.partition("{image}")[2]
QUERY = "Describe the chest x-ray."


def row(name: str) -> dict[str, Any]:
    facts: dict[str, Any] = yaml.safe_load((ROOT / f"conf/lm/{name}.yaml").read_text(encoding="utf-8"))
    return facts


def tokenizer_of(name: str) -> ReportTokenizer:
    facts = row(name)
    folder = PUBLISHED / PINS[name]["checkpoint"]
    return read_tokenizer(folder, stop=facts["stop"], special_tokens=facts.get("special_tokens"))


def written(side: Any) -> str:
    return "".join(str(value) for _, value in pieces(side, ""))


def test_every_row_of_the_table_is_there() -> None:
    """tests/test_command.py composes them."""
    assert len(ROWS) == 31
    assert set(ROWS) == set(PINS) | {"tiny"}
    for name in PINS:
        facts = row(name)
        assert facts["path"].count("/") == 1
        assert {"family", "revision", "prompt", "stop", "dtype", "lora_targets", "generation"} <= set(facts)
        header = (ROOT / f"conf/lm/{name}.yaml").read_text(encoding="utf-8").partition("\npath:")[0]
        assert "Access: " in header
        prompt = {"before": "", "after": "", **facts["prompt"]}
        assert (written(prompt["before"]), written(prompt["after"])) == (PINS[name]["before"], PINS[name]["after"])


@needs_published
@pytest.mark.parametrize("name", TINY)
def test_the_ids_of_a_prompt_are_the_pinned_ones(name: str) -> None:
    pin = PINS[name]
    before, after = Prompt(**row(name)["prompt"]).ids(tokenizer_of(name))
    assert (before, after) == (pin["before_ids"], pin["after_ids"])
    assert pin["before"].endswith("<Img>")
    assert pin["after"].startswith(INSTRUCTION)


@needs_published
@pytest.mark.parametrize("name", TINY)
def test_a_report_ends_as_the_families_turns_do(name: str) -> None:
    """The first stop is what a report is trained to end with, where the tiny vocabulary has it."""
    tokenizer, facts = tokenizer_of(name), row(name)
    first = facts["stop"][0] if facts["stop"] else "</s>"
    if first in tokenizer.stop_texts:
        assert name in ("internlm3", "phi3")  # ChatML's and Phi-3's marks are not in these tiny files
    elif name not in ("chatglm2", "chatglm3"):
        assert tokenizer.eos_id == tokenizer.codec.id_of(first)
    else:
        assert tokenizer.eos_id == 2
    assert set(tokenizer.eos_ids) >= set(golden(PINS[name]["checkpoint"])["eos"])
    assert tokenizer.pad_id == golden(PINS[name]["checkpoint"])["pad"]


def with_query(prompt: dict[str, Any]) -> Prompt:
    """The row's turn around the query of golden.json in place of image and instruction."""
    before, after = ([side] if isinstance(side, str) else list(side) for side in (prompt["before"], prompt["after"]))
    seam = before.pop().removesuffix("<Img>") + QUERY + after.pop(0).removeprefix(INSTRUCTION)
    return Prompt(before=[*before, seam], after=after, bos=prompt["bos"])


@needs_published
@pytest.mark.parametrize("name", ["chatglm2", "chatglm3", "internlm", "internlm2", "qwen"])
def test_a_turn_is_what_the_familys_own_code_builds(name: str) -> None:
    facts = golden(row(name)["path"] and PINS[name]["checkpoint"])
    before, after = with_query(row(name)["prompt"]).ids(tokenizer_of(name))
    assert before + after == (facts.get("chat") or facts["prompt"]).get("ids")


@needs_published
def test_a_published_chat_template_is_rendered_around_the_image() -> None:
    tokenizer = tokenizer_of("internlm2")
    prompt = Prompt(before="", after="", bos=False, chat_template=True, message="{image}" + QUERY)
    before, after = prompt.ids(tokenizer)
    assert before + after == golden("internlm2")["chat"]["ids"]
    assert before[-1] == tokenizer.encode("\n")[-1]
    for name in ("internlm2", "glm4"):
        by_hand = Prompt(**row(name)["prompt"]).ids(tokenizer_of(name))
        assert Prompt(before="", after="", bos=False, chat_template=True).ids(tokenizer_of(name)) == by_hand


def with_template(folder: Path, template: str) -> ReportTokenizer:
    """A LLaMA-3 whose checkpoint publishes this template in chat_template.jinja."""
    for file in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        (folder / file).write_bytes((PUBLISHED / "llama3" / file).read_bytes())
    (folder / "chat_template.jinja").write_text(template)
    return read_tokenizer(folder)


TEMPLATED = Prompt(before="", after="", bos=False, chat_template=True)
GOOD = "{{ bos_token }}<|start_header_id|>{{ strftime_now('%d') }} {{ messages[0].content | trim }}<|eot_id|>"


@needs_published
def test_a_template_knows_the_special_tokens_and_no_date(tmp_path: Path) -> None:
    tokenizer = with_template(tmp_path, GOOD)
    encode, id_of = tokenizer.encode, tokenizer.codec.id_of
    before, after = TEMPLATED.ids(tokenizer)
    assert before == [tokenizer.bos_id, id_of("<|start_header_id|>"), *encode("26 Jul 2024 <Img>")]
    assert after == [*encode(INSTRUCTION), id_of("<|eot_id|>")]


BAD_TEMPLATES = {
    "no message": ("{{ bos_token }}", "message 0 times"),
    "twice": ("{{ messages[0].content }}{{ messages[0].content }}", "message 2 times"),
    "its own refusal": ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
    "syntax": ("{% for %}", "cannot be rendered"),
    "way out of the sandbox": ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "cannot be rendered"),
}


@needs_published
@pytest.mark.parametrize("name", BAD_TEMPLATES)
def test_a_template_that_does_not_serve_is_refused(tmp_path: Path, name: str) -> None:
    template, message = BAD_TEMPLATES[name]
    with pytest.raises(UserError, match=message):
        TEMPLATED.ids(with_template(tmp_path, template))


@needs_published
def test_what_a_checkpoint_does_not_have_is_refused() -> None:
    tokenizer = tokenizer_of("qwen2")
    with pytest.raises(UserError, match="publishes no chat template"):
        TEMPLATED.ids(tokenizer)
    with pytest.raises(UserError, match=r"lm\.prompt\.before: '<\|user\|>' is not one token"):
        Prompt(before=[{"token": "<|user|>"}], after="", bos=False).ids(tokenizer)
    with pytest.raises(UserError, match="id 416 exceeds the embedding matrix, which has 416 rows"):
        Prompt(before=[{"id": 415}, {"id": 416}], after="", bos=False).ids(tokenizer, rows=416)
    assert Prompt(before=[{"id": 415}], after="", bos=False).ids(tokenizer, rows=416) == ([415], [])


@needs_published
def test_marks_are_special_where_the_vocabulary_has_them_and_else_text() -> None:
    tokenizer = tokenizer_of("qwen2")
    before, after = Prompt(before=[{"marked": "<|im_start|>a"}], after=[{"marked": "<|user|>"}], bos=False).ids(
        tokenizer
    )
    assert before == [tokenizer.codec.id_of("<|im_start|>"), *tokenizer.encode("a")]
    assert after == tokenizer.encode("<|user|>")


PLAIN: dict[str, Any] = {"before": "", "after": "", "bos": False, "chat_template": False, "message": MESSAGE}
MISWRITTEN: dict[str, tuple[dict[str, Any], str]] = {
    "number": ({"before": [3]}, r"lm\.prompt\.before: 3 is no piece"),
    "unknown kind": ({"after": [{"word": "a"}]}, r"lm\.prompt\.after: \{'word': 'a'\} is no piece"),
    "two at once": ({"after": [{"token": "a", "id": 3}]}, "is no piece"),
    "name as id": ({"after": [{"id": "3"}]}, "is no piece"),
    "truth as id": ({"after": [{"id": True}]}, "is no piece"),
    "nothing": ({"before": None}, "None is no piece"),
    "no image": ({"message": "Describe."}, "write {image} once"),
    "template and words": ({"chat_template": True, "before": "Human: "}, r"lm\.prompt\.before='' and"),
    "template and bos": ({"chat_template": True, "bos": True}, r"set lm\.prompt\.bos=false"),
}


@pytest.mark.parametrize("name", MISWRITTEN)
def test_a_miswritten_prompt_is_refused_before_anything_is_loaded(name: str) -> None:
    change, message = MISWRITTEN[name]
    check(PLAIN)
    with pytest.raises(UserError, match=message):
        check(PLAIN | change)
