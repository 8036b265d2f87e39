"""lm=auto: prompt, end of a report and LoRA targets from the files of a checkpoint."""

import json
from pathlib import Path

import pytest
from prompt_ids import prompt_ids
from run_in_process import run_in_process
from tokenizers import Tokenizer, processors

from r2gen.config.compose import compose
from r2gen.config.prompt_pieces import MESSAGE
from r2gen.lm import LanguageModel, Prompt, ReportTokenizer, read_tokenizer, save_tokenizer
from r2gen.lm.chat_template import ChatTemplate
from r2gen.model.tune import linear_layers

AUTO = Prompt(before="Human: ", after="Assistant:", bos=None, chat_template=None)
TURNS = "{% for m in messages %}<s>{{ m.role }}:{{ m.content }}</s>\n{% endfor %}<s>assistant:"
CHANNEL = (
    "{% for m in messages %}<|start|>{{ m.role }}{{ '<|channel|>final' if m.role == 'assistant' }}<|message|>"
    "{{ m.content }}{{ '<|return|>' if m.role == 'assistant' else '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
PARTS = "{% for m in messages %}{% for part in m.content %}{{ part.text }}{% endfor %}|{% endfor %}"


@pytest.fixture
def folder(tokenizer: ReportTokenizer, tmp_path: Path) -> Path:
    save_tokenizer(tokenizer, tmp_path)
    return tmp_path


def add_around(folder: Path, single: str) -> None:
    """Let tokenizer.json put special tokens around a text."""
    file = str(folder / "tokenizer.json")
    tokenizer = Tokenizer.from_file(file)
    tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=[("<s>", 1), ("</s>", 2)])
    tokenizer.save(file)


def test_without_a_template_the_prompt_is_plain_words_as_the_tokenizer_begins_them(folder: Path) -> None:
    tokenizer = read_tokenizer(folder, stop=None)
    before, after = tokenizer.encode("Human: "), tokenizer.encode("Assistant:")
    assert prompt_ids(AUTO, tokenizer) == (before, after)
    add_around(folder, "<s> $A </s>")
    tokenizer = read_tokenizer(folder, stop=None)
    assert prompt_ids(AUTO, tokenizer) == ([1, *before], after)
    encoded = prompt_ids(AUTO, tokenizer, encoded=True)
    assert encoded == ([1, *before], [*after, 2])  # as T5 and BART end what they encode
    assert tokenizer.eos_ids == (2,)


def test_with_a_template_it_decides_the_prompt_and_what_ends_an_answer(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(TURNS.replace("</s>", "<pad>"))
    tokenizer = read_tokenizer(folder, stop=None)
    before, after = prompt_ids(AUTO, tokenizer)
    assert before[0] == 1
    assert tokenizer.decode(before + after) == f"user:{MESSAGE.replace('{image}', '')}\nassistant:"
    assert tokenizer.eos_ids == (0, 2)  # <pad> ends a turn here
    assert read_tokenizer(folder).eos_ids == (2,)


@pytest.mark.parametrize(
    ("text", "before", "after", "end"),
    [
        (CHANNEL, "<|start|>user<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>", "<|return|>"),
        (PARTS, "", "|", "|"),
        ("{{ messages[0].content }}!", "", "!", ""),
    ],
)
def test_a_turn_of_a_template(text: str, before: str, after: str, end: str) -> None:
    turn = ChatTemplate(Path("chat_template.jinja"), text, {}).turn("{image}")
    assert (turn.before, turn.after, turn.end) == (before, after, end)


def test_lora_adapts_the_linear_layers_of_the_blocks(sdpa_lm: LanguageModel) -> None:
    attention, feed_forward = ["q_proj", "k_proj", "v_proj", "o_proj"], ["gate_proj", "up_proj", "down_proj"]
    assert linear_layers(sdpa_lm.model) == sorted([*attention, *feed_forward])
    assert compose(["lm=auto", "lm.path=a", "tune/lm=lora"]).plain["lm"]["lora_targets"] is None


@pytest.mark.parametrize("path", ["/weights/llama", "./llama", "~/llama", "Qwen/Qwen2-7B"])
def test_a_path_as_lm_is_answered_with_what_to_type(path: str, tmp_path: Path) -> None:
    status, output = run_in_process(f"lm={path}", cwd=tmp_path)
    assert status == 2
    assert output.count("\n") == 1
    assert "a checkpoint is passed as lm=auto lm.path=" in output
    assert not list(tmp_path.iterdir())


def test_the_special_ids_of_a_text_part_may_be_in_its_own_configuration(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "config.json").write_text(json.dumps({"text_config": {"bos_token_id": 1, "eos_token_id": 2}}))
    tokenizer = read_tokenizer(folder)
    assert (tokenizer.bos_id, tokenizer.eos_ids, tokenizer.pad_id) == (1, (2,), 2)
