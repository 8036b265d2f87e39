"""The prompt of every LM config, as text and ids, and how a prompt may be written."""

from pathlib import Path
from typing import Any

import pytest
from golden_checkpoints import FAMILIES, PUBLISHED, ROOT, golden, needs_published
from golden_prompts import (
    CONTEXTS_FILE,
    FILE,
    GOLDEN_CONTEXTS,
    GOLDEN_PROMPTS,
    LM_CONFIGS,
    STUDY,
    golden_context,
    golden_prompt,
    lm_config,
    options_of,
    text_of,
    tokenizer_of,
    written,
)
from prompt_ids import prompt_ids

from r2gen.config.prompt_pieces import MESSAGE, check
from r2gen.config.schema import PromptConfig
from r2gen.data.context import StudyContext
from r2gen.data.context_text import written as context_pieces
from r2gen.errors import UserError
from r2gen.lm import Prompt, ReportTokenizer, read_tokenizer
from r2gen.lm.prompt import Place, PromptIds

CHECKPOINT_OF = {name: prompt["checkpoint"] for name, prompt in GOLDEN_PROMPTS.items() if prompt["checkpoint"]}
INSTRUCTION = MESSAGE.partition("{image}")[2]
QUERY = "Describe the chest x-ray."


@pytest.mark.parametrize("name", LM_CONFIGS)
def test_an_lm_config_has_its_keys_and_its_golden_text(name: str) -> None:
    config = lm_config(name)
    assert config["path"].count("/") == 1
    assert {"family", "revision", "prompt", "stop", "dtype", "lora_targets", "generation"} <= set(config)
    header = (ROOT / f"conf/lm/{name}.yaml").read_text(encoding="utf-8").partition("\npath:")[0]
    assert "Access: " in header
    if name not in GOLDEN_PROMPTS:  # .ci/run refuses it
        pytest.skip("it has no golden prompt: run python tests/support/golden_prompts.py")
    prompt = {"before": "", "after": "", **config["prompt"]}
    text = {side: text_of(prompt[side]) for side in ("before", "after")}
    assert text == {side: GOLDEN_PROMPTS[name][side] for side in text}


def test_the_golden_prompts_are_those_of_lm_configs_and_golden_checkpoints() -> None:
    assert set(GOLDEN_PROMPTS) <= set(LM_CONFIGS)
    assert set(CHECKPOINT_OF.values()) <= set(FAMILIES) or not FAMILIES
    assert written(GOLDEN_PROMPTS) == FILE.read_text(encoding="utf-8")
    assert set(GOLDEN_CONTEXTS) == set(GOLDEN_PROMPTS)
    assert written(GOLDEN_CONTEXTS) == CONTEXTS_FILE.read_text(encoding="utf-8")


@needs_published
@pytest.mark.parametrize("name", CHECKPOINT_OF)
def test_the_ids_of_a_prompt_are_the_golden_ones(name: str) -> None:
    prompt = GOLDEN_PROMPTS[name]
    assert golden_prompt(name, prompt["checkpoint"]) == prompt
    if not lm_config(name)["prompt"].get("chat_template"):
        assert prompt["before"].endswith("<Img>")
        assert prompt["after"].startswith(INSTRUCTION)


@needs_published
@pytest.mark.parametrize("name", CHECKPOINT_OF)
def test_the_context_of_a_study_has_the_golden_ids_at_the_golden_place(name: str) -> None:
    context = GOLDEN_CONTEXTS[name]
    assert golden_context(name, CHECKPOINT_OF[name]) == context
    tokenizer, ids_of = tokenizer_of(name, CHECKPOINT_OF[name]), dict(context["texts"])
    for choice in ("indication", "indication_prior", "all"):
        study, pieces = StudyContext(options_of(choice), tokenizer.encode), context_pieces(STUDY, options_of(choice))
        tokens = study.tokens(STUDY)
        assert tokens.before + tokens.after == [i for piece in pieces for i in ids_of[piece.text]]
        assert len(tokens.before) == sum(len(ids_of[piece.text]) for piece in pieces if not piece.is_after)
    # in front of the tag of the image, which is whole
    around = context.get("before_ids", GOLDEN_PROMPTS[name]["before_ids"])
    assert context["side"] == "before"
    assert around[context["index"] :] == tokenizer.encode("<Img>")


@needs_published
def test_a_prompt_may_say_where_the_context_goes() -> None:
    tokenizer = tokenizer_of("llama3", "llama3")
    encode, id_of = tokenizer.encode, tokenizer.codec.id_of
    inside = Prompt("a <Img>", ["</Img> b", {"marked": "{context}<|eot_id|>"}, "c"], True)
    assert prompt_ids(inside, tokenizer)[1] == [*encode("</Img> b"), id_of("<|eot_id|>"), *encode("c")]
    divided = inside.around(tokenizer, context=True)
    assert divided.context == Place("after", len(encode("</Img> b")))
    assert divided.after == prompt_ids(inside, tokenizer)[1]
    first = Prompt("a{context} b", "", True).around(tokenizer, context=True)
    assert first == PromptIds(
        [tokenizer.bos_id, *encode("a"), *encode(" b")], [], Place("before", 1 + len(encode("a")))
    )
    assert prompt_ids(Prompt("a{context} b", "", True), tokenizer)[0] == [tokenizer.bos_id, *encode("a b")]
    assert Prompt("", "", True).around(tokenizer, context=True) == PromptIds([tokenizer.bos_id], [], Place("before", 1))


@needs_published
def test_the_context_goes_into_a_chat_template(tmp_path: Path) -> None:
    tokenizer = with_template(tmp_path, GOOD)
    encode, id_of = tokenizer.encode, tokenizer.codec.id_of
    head = [tokenizer.bos_id, id_of("<|start_header_id|>"), *encode("26 Jul 2024 ")]
    divided = TEMPLATED.around(tokenizer, context=True)
    assert divided == PromptIds(
        [*head, *encode("<Img>")], [*encode(INSTRUCTION), id_of("<|eot_id|>")], Place("before", len(head))
    )
    after = Prompt("", "", False, True, message="{image} Why: {context}.")
    assert after.around(tokenizer, context=True) == PromptIds(
        head, [*encode(" Why: "), *encode("."), id_of("<|eot_id|>")], Place("after", len(encode(" Why: ")))
    )
    assert prompt_ids(after, tokenizer) == (head, [*encode(" Why: ."), id_of("<|eot_id|>")])


@needs_published
@pytest.mark.parametrize("name", CHECKPOINT_OF)
def test_training_reports_end_as_the_turns_of_the_family(name: str) -> None:
    """They end with the first stop of the YAML file, or with the checkpoint's EOS token if the first stop is text."""
    checkpoint, stop = CHECKPOINT_OF[name], lm_config(name)["stop"] or ["</s>"]
    tokenizer = tokenizer_of(name, checkpoint)
    if stop[0] not in tokenizer.stop_texts:
        assert tokenizer.eos_id == tokenizer.codec.id_of(stop[0])
    assert set(tokenizer.eos_ids) >= set(golden(checkpoint)["eos"])
    assert tokenizer.pad_id == golden(checkpoint)["pad"]


def with_query(prompt: dict[str, Any]) -> Prompt:
    """The turn of a config around the query of golden.json instead of image and instruction."""
    before, after = ([side] if isinstance(side, str) else list(side) for side in (prompt["before"], prompt["after"]))
    seam = before.pop().removesuffix("<Img>") + QUERY + after.pop(0).removeprefix(INSTRUCTION)
    return Prompt(before=[*before, seam], after=after, bos=prompt["bos"])


@needs_published
@pytest.mark.parametrize("name", ["chatglm2", "chatglm3", "internlm", "internlm2", "qwen"])
def test_a_turn_is_that_of_the_code_of_the_family(name: str) -> None:
    facts = golden(CHECKPOINT_OF[name])
    before, after = prompt_ids(with_query(lm_config(name)["prompt"]), tokenizer_of(name, CHECKPOINT_OF[name]))
    assert before + after == (facts.get("chat") or facts["prompt"]).get("ids")


@needs_published
def test_a_published_chat_template_is_rendered_around_the_image() -> None:
    tokenizer = tokenizer_of("internlm2", "internlm2")
    prompt = Prompt(before="", after="", bos=False, chat_template=True, message="{image}" + QUERY)
    before, after = prompt_ids(prompt, tokenizer)
    assert before + after == golden("internlm2")["chat"]["ids"]
    assert before[-1] == tokenizer.encode("\n")[-1]
    for name in ("internlm2", "glm4"):
        tokenizer = tokenizer_of(name, CHECKPOINT_OF[name])
        assert prompt_ids(TEMPLATED, tokenizer) == prompt_ids(Prompt(**lm_config(name)["prompt"]), tokenizer)


def with_template(folder: Path, template: str) -> ReportTokenizer:
    """A LLaMA-3 whose checkpoint publishes this template in chat_template.jinja."""
    for file in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        (folder / file).write_bytes((PUBLISHED / "llama3" / file).read_bytes())
    (folder / "chat_template.jinja").write_text(template)
    return read_tokenizer(folder)


TEMPLATED = Prompt(before="", after="", bos=False, chat_template=True)
GOOD = "{{ bos_token }}<|start_header_id|>{{ strftime_now('%d') }} {{ messages[0].content | trim }}<|eot_id|>"


@needs_published
def test_a_template_gets_the_special_tokens_and_a_fixed_date(tmp_path: Path) -> None:
    tokenizer = with_template(tmp_path, GOOD)
    encode, id_of = tokenizer.encode, tokenizer.codec.id_of
    before, after = prompt_ids(TEMPLATED, tokenizer)
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
def test_a_template_without_the_message_or_with_errors_is_refused(tmp_path: Path, name: str) -> None:
    template, message = BAD_TEMPLATES[name]
    with pytest.raises(UserError, match=message):
        prompt_ids(TEMPLATED, with_template(tmp_path, template))


@needs_published
def test_a_prompt_that_the_checkpoint_lacks_tokens_for_is_refused() -> None:
    tokenizer = tokenizer_of("qwen2", "qwen2")
    with pytest.raises(UserError, match="publishes no chat template"):
        prompt_ids(TEMPLATED, tokenizer)
    with pytest.raises(UserError, match=r"lm\.prompt\.before: '<\|user\|>' is not one token"):
        prompt_ids(Prompt(before=[{"token": "<|user|>"}], after="", bos=False), tokenizer)
    with pytest.raises(UserError, match="id 416 exceeds the embedding matrix, which has 416 rows"):
        prompt_ids(Prompt(before=[{"id": 415}, {"id": 416}], after="", bos=False), tokenizer, rows=416)
    assert prompt_ids(Prompt(before=[{"id": 415}], after="", bos=False), tokenizer, rows=416) == ([415], [])


@needs_published
def test_names_in_a_marked_text_are_special_tokens_if_the_vocabulary_has_them() -> None:
    tokenizer = tokenizer_of("qwen2", "qwen2")
    before, after = prompt_ids(
        Prompt(before=[{"marked": "<|im_start|>a"}], after=[{"marked": "<|user|>"}], bos=False), tokenizer
    )
    assert before == [tokenizer.codec.id_of("<|im_start|>"), *tokenizer.encode("a")]
    assert after == tokenizer.encode("<|user|>")


PLAIN: dict[str, Any] = {"before": "", "after": "", "bos": False, "chat_template": False, "message": MESSAGE}
MALFORMED: dict[str, tuple[dict[str, Any], str]] = {
    "number": ({"before": [3]}, r"lm\.prompt\.before: 3 is not a piece"),
    "unknown kind": ({"after": [{"word": "a"}]}, r"lm\.prompt\.after: \{'word': 'a'\} is not a piece"),
    "two at once": ({"after": [{"token": "a", "id": 3}]}, "is not a piece"),
    "name as id": ({"after": [{"id": "3"}]}, "is not a piece"),
    "truth as id": ({"after": [{"id": True}]}, "is not a piece"),
    "nothing": ({"before": None}, "None is not a piece"),
    "no image": ({"message": "Describe."}, "write {image} once"),
    "two places": ({"before": "{context}", "after": ["{context}"]}, "write it once"),
    "template and words": ({"chat_template": True, "before": "Human: "}, r"lm\.prompt\.before='' and"),
    "template and bos": ({"chat_template": True, "bos": True}, r"set lm\.prompt\.bos=false"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_prompt_is_refused_before_anything_is_loaded(name: str) -> None:
    change, message = MALFORMED[name]
    check(PromptConfig(**PLAIN))
    with pytest.raises(UserError, match=message):
        check(PromptConfig(**(PLAIN | change)))
