"""Every text round-trips through a trained tokenizer; published tokenizers give their own ids."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prompt_ids import prompt_ids
from smallest_run import ROOT

from r2gen.config.decoding import Decoding
from r2gen.errors import UserError
from r2gen.lm import LanguageModel, Prompt, ReportTokenizer, load_lm, read_tokenizer, save_tokenizer, train_tokenizer

LITERAL = "<s>literal</s> <unk>"
TRAINED = train_tokenizer(["The heart is normal </s>.", "No pneumothorax <s> is seen.\n"] * 20, 320)


@settings(max_examples=300, deadline=None)
@given(st.text() | st.lists(st.sampled_from(["<s>", "</s>", "<pad>", " ", "\n", "heart", "\ufffd", "é"])).map("".join))
def test_every_text_round_trips_without_special_ids(text: str) -> None:
    ids = TRAINED.encode(text)
    assert TRAINED.decode(ids) == text
    assert not {0, 1, 2} & set(ids)


def test_special_ids_come_first_and_are_dropped_from_text() -> None:
    assert (TRAINED.pad_id, TRAINED.bos_id, TRAINED.eos_ids, TRAINED.eos_id) == (0, 1, (2,), 2)
    assert TRAINED.decode([1, *TRAINED.encode("The heart"), 2, 0, 0]) == "The heart"


def test_frequent_words_become_one_token() -> None:
    assert len(TRAINED.encode("The heart is normal")) == 4


def test_a_saved_tokenizer_is_read_back_the_same(tmp_path: Path) -> None:
    save_tokenizer(TRAINED, tmp_path / "tokenizer")
    read = read_tokenizer(tmp_path / "tokenizer")
    assert (read.bos_id, read.eos_ids, read.pad_id, read.vocabulary_size) == (1, (2,), 0, TRAINED.vocabulary_size)
    text = "No </s> pneumothorax. \U0001f600"
    assert read.encode(text) == TRAINED.encode(text)
    assert read.decode(read.encode(text)) == text


def test_the_same_reports_give_the_same_file_in_another_process(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from r2gen.lm.tokenizer import *;"
        "save_tokenizer(train_tokenizer([f'word{i % 7} of {i % 5} apples' for i in range(99)], 400), Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "a"], check=True, cwd=ROOT)
    save_tokenizer(train_tokenizer([f"word{i % 7} of {i % 5} apples" for i in range(99)], 400), tmp_path / "b")
    assert (tmp_path / "a/tokenizer.json").read_bytes() == (tmp_path / "b/tokenizer.json").read_bytes()


def test_a_vocabulary_too_small_for_the_bytes_is_refused() -> None:
    with pytest.raises(UserError, match=r"lm\.vocabulary_size=258: give at least 259"):
        train_tokenizer([], 258)
    assert train_tokenizer([], 259).vocabulary_size == 259


@pytest.mark.parametrize("family", ["llama2_spm", "llama2_json"])
def test_ids_and_texts_are_those_of_the_published_tokenizer(golden_folder: Path, family: str) -> None:
    tokenizer = read_tokenizer(golden_folder / family)
    golden = json.loads((golden_folder / family / "golden.json").read_text())
    texts = [entry for entry in golden["tokenizer"]["texts"] if entry["text"] != LITERAL]
    assert len(texts) == 13
    for entry in texts:
        assert tokenizer.encode(entry["text"]) == entry["ids"]
        assert tokenizer.decode(entry["ids"]) == entry["decoded"]
    assert (tokenizer.bos_id, tokenizer.eos_ids, tokenizer.pad_id, tokenizer.vocabulary_size) == (1, (2,), 0, 420)


@pytest.mark.parametrize("family", ["llama2_spm", "llama2_json"])
def test_special_tokens_written_in_a_report_are_text(golden_folder: Path, family: str) -> None:
    tokenizer = read_tokenizer(golden_folder / family)
    ids = tokenizer.encode(LITERAL)
    assert not {0, 1, 2} & set(ids)
    assert tokenizer.decode(ids) == LITERAL


def test_sentencepiece_text_is_joined_without_a_space_at_special_ids(llama2_spm: LanguageModel) -> None:
    tokenizer = llama2_spm.tokenizer
    heart, lungs = tokenizer.encode("The heart"), tokenizer.encode("the lungs")
    assert tokenizer.decode([1, *heart, 0, *lungs, 2]) == "The heartthe lungs"
    assert tokenizer.decode([*heart, 5000]) == "The heart"  # a padded row of the weights


def test_a_prompt_begins_with_the_bos_token(tokenizer: ReportTokenizer) -> None:
    assert prompt_ids(Prompt("heart", "", True), tokenizer) == ([1, *tokenizer.encode("heart")], [])
    assert prompt_ids(Prompt("", "a", False), tokenizer) == ([], tokenizer.encode("a"))
    nameless = ReportTokenizer(tokenizer.codec, bos_id=None, eos_ids=(2,), pad_id=0)
    with pytest.raises(UserError, match=r"lm\.prompt\.bos=true"):
        prompt_ids(Prompt("", "", True), nameless)


def test_a_stop_is_a_special_token_if_there_is_one_and_else_a_text(golden_folder: Path) -> None:
    tokenizer = read_tokenizer(golden_folder / "llama2_spm", stop=["<unk>", "the", "###", "</s>"])
    assert (tokenizer.eos_ids, tokenizer.eos_id, tokenizer.stop_texts) == ((0, 2), 0, ("the", "###"))
    assert tokenizer.cut("No effusion. ### Human: is the") == ("No effusion. ", True)
    assert tokenizer.cut("No effusion.") == ("No effusion.", False)


def test_files_that_disagree_are_refused(golden_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(golden_folder / "llama2_spm", tmp_path / "mixed")
    shutil.copy(golden_folder / "llama2_json/tokenizer.json", folder)
    with pytest.raises(UserError, match=r"tokenizer\.model and tokenizer\.json .* differently"):
        read_tokenizer(folder)


@pytest.mark.parametrize("content", [b"version https://git-lfs.github.com/spec/v1\n", b""])
@pytest.mark.parametrize("name", ["tokenizer.model", "tokenizer.json", "spiece.model", "qwen.tiktoken"])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        read_tokenizer(tmp_path)


def test_a_checkpoint_without_an_eos_token_is_refused(golden_folder: Path, tmp_path: Path) -> None:
    shutil.copy(golden_folder / "llama2_spm/tokenizer.model", tmp_path)
    with pytest.raises(UserError, match="names no EOS token"):
        read_tokenizer(tmp_path)


def test_a_report_ends_at_a_stop_text(golden_folder: Path) -> None:
    lm = load_lm(golden_folder / "llama2_spm")
    prompt_BTE, decoding = lm.embed(torch.tensor([[1, 300, 301]])), Decoding(max_new_tokens=12, min_new_tokens=12)
    (whole,) = lm.generate(prompt_BTE, torch.ones(1, 3), decoding)
    stop = whole.text[len(whole.text) // 2 :][:3]
    (cut,) = load_lm(golden_folder / "llama2_spm", stop=[stop]).generate(prompt_BTE, torch.ones(1, 3), decoding)
    assert (whole.finish, cut.finish) == ("length", "stop")
    assert cut.text == whole.text.partition(stop)[0].strip()
    assert cut.ids == whole.ids[: len(cut.ids)]
    assert stop in lm.tokenizer.decode(cut.ids)
    assert stop not in lm.tokenizer.decode(cut.ids[:-1])
