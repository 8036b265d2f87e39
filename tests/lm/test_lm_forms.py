"""The forms in which people have a checkpoint: each is read rightly, or one sentence says what it is and what to do."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sentencepiece import SentencePieceTrainer
from transformers import LlamaConfig, LlamaForCausalLM, LlamaTokenizer

from r2gen.errors import Code, UserError
from r2gen.lm import ReportTokenizer, load_lm, read_tokenizer, save_tokenizer
from r2gen.lm.checkpoint import _name_in_cache
from r2gen.lm.codecs import TokenizerJson
from r2gen.lm.tokenizer_files import read_codec
from r2gen.runs.whole_files import refuse_truncated

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"
REPORTS = ("The heart size is normal. No pleural effusion.", "ET tube 4.5 cm above the carina;\nIMPRESSION: 1. stable")


@pytest.fixture
def checkpoint(tokenizer: ReportTokenizer, tmp_path: Path) -> Path:
    """A tiny LLaMA with its tokenizer, in three shards."""
    folder = tmp_path / "lm"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.vocabulary_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder, max_shard_size="60KB")
    save_tokenizer(tokenizer, folder)
    return folder


def message(path: Path, **options: object) -> str:
    with pytest.raises(UserError) as refused:
        load_lm(path, **options)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    "name", ["model-00002-of-00003.safetensors", "tokenizer.json", "config.json", "tokenizer_config.json"]
)
def test_a_pointer_of_git_lfs_is_named_with_its_size(name: str, checkpoint: Path) -> None:
    (checkpoint / name).write_text(LFS.format("a" * 64, 988097824))
    assert f"{name} is a git-LFS pointer to a file of 988.1 MB, not the file: run `git lfs" in message(checkpoint)


def test_a_web_page_and_a_pointer_of_git_annex_are_named(checkpoint: Path) -> None:
    (checkpoint / "tokenizer.json").write_text("\n<!DOCTYPE html>\n<html><body>Sign in</body></html>")
    assert "tokenizer.json is a web page, not the file" in message(checkpoint)
    (checkpoint / "tokenizer.json").write_text("/annex/objects/MD5-s988--0123\n")
    assert "run `git annex get tokenizer.json`" in message(checkpoint)


def in_cache(checkpoint: Path, cache: Path, *commits: str, main: str | None = None) -> Path:
    repository = cache / "models--owner--a-name"
    for commit in commits:
        shutil.copytree(checkpoint, repository / "snapshots" / commit)
    if main is not None:
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(main)
    return repository


def test_a_repository_in_a_hub_cache_is_read_at_its_revision(checkpoint: Path, tmp_path: Path) -> None:
    assert load_lm(in_cache(checkpoint, tmp_path / "one", "abc")).dim == 32
    repository = in_cache(checkpoint, tmp_path / "two", "abc", "def", main="def")
    (repository / "snapshots" / "abc" / "config.json").unlink()
    assert load_lm(repository).dim == 32
    assert "snapshots/abc has no config.json" in message(repository, revision="abc")
    assert "none of revision v2" in message(repository, revision="v2")
    several = in_cache(checkpoint, tmp_path / "three", "abc", "def")
    assert "with the snapshots abc, def and none of revision main" in message(several)
    assert f"pass lm.path={several / 'snapshots' / 'def'}" in message(several)


def test_a_hub_cache_and_a_parent_folder_are_named_with_what_to_pass(checkpoint: Path, tmp_path: Path) -> None:
    repository = in_cache(checkpoint, tmp_path / "home" / "hub", "abc", main="abc")
    for folder in (tmp_path / "home", tmp_path / "home" / "hub"):
        assert message(folder).endswith(f"it is a hub cache: pass lm.path={repository}")
    assert load_lm(repository).dim == 32
    assert f"folders in it have one: pass lm.path={checkpoint}" in message(tmp_path)


def rename(folder: Path, name: str) -> None:
    for file in [*folder.glob("model*")][1:]:
        file.unlink()
    next(folder.glob("model*")).rename(folder / name)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda f: rename(f, "tf_model.h5"), "its weights are in TensorFlow's layout"),
        (lambda f: rename(f, "consolidated.safetensors"), "its weights are in Mistral's own layout"),
        (lambda f: rename(f, "consolidated.00.pth"), "its weights are in Meta's own layout"),
        (lambda f: rename(f, "model.onnx"), "its weights are in ONNX"),
        (lambda f: (f / "model.safetensors.index.json").unlink(), "shards such as model-00001-of-0000"),
    ],
)
@pytest.mark.parametrize("config", [True, False])
def test_weights_in_another_layout_are_named(
    change: Callable[[Path], object], expected: str, config: bool, checkpoint: Path
) -> None:
    change(checkpoint)
    if not config:
        (checkpoint / "config.json").unlink()
    assert expected in message(checkpoint)


def test_a_copy_in_mistrals_layout_next_to_the_shards_is_not_read(checkpoint: Path) -> None:
    (checkpoint / "consolidated.safetensors").write_bytes(b"not read")
    (checkpoint / "params.json").write_text("{}")
    assert load_lm(checkpoint).dim == 32


def test_a_file_a_run_and_an_adapter_are_named(checkpoint: Path, tmp_path: Path) -> None:
    assert f"is a file: give its folder: lm.path={checkpoint}" in message(checkpoint / "config.json")
    adapter = {"base_model_name_or_path": "meta-llama/Llama-2-7b-chat-hf", "peft_type": "LORA"}
    for folder in (checkpoint, tmp_path / "adapter"):
        folder.mkdir(exist_ok=True)
        (folder / "adapter_config.json").write_text(json.dumps(adapter))
        assert "it is a PEFT adapter of meta-llama/Llama-2-7b-chat-hf" in message(folder)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    assert f"the folder of a run of R2Gen; pass it with run_dir={tmp_path / 'run'}" in message(tmp_path / "run")


def test_a_vocabulary_and_merges_are_read_as_the_tokenizer_json_made_of_them(checkpoint: Path) -> None:
    whole = read_tokenizer(checkpoint)
    model = json.loads((checkpoint / "tokenizer.json").read_text())["model"]
    (checkpoint / "vocab.json").write_text(json.dumps(model["vocab"]))
    (checkpoint / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, model["merges"])]) + "\n")
    (checkpoint / "tokenizer.json").unlink()
    names = {"tokenizer_class": "GPT2Tokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "</s>"}
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(names))
    read = load_lm(checkpoint).tokenizer
    assert [read.encode(report) for report in REPORTS] == [whole.encode(report) for report in REPORTS]
    assert (read.bos_id, read.eos_ids, read.pad_id) == (1, (2,), 0)


def tekken(folder: Path, words: tuple[str, ...] = (), **settings: object) -> None:
    import base64

    tokens = [*(bytes([i]) for i in range(256)), *(word.encode() for word in words)]
    vocabulary = [{"rank": i, "token_bytes": base64.b64encode(t).decode()} for i, t in enumerate(tokens)]
    shape = {"pattern": r"\p{L}+| ?[^\p{L}]+", "default_vocab_size": len(tokens) + 20, "default_num_special_tokens": 20}
    (folder / "tekken.json").write_text(json.dumps({"config": shape | settings, "vocab": vocabulary}))


def test_a_tekken_file_has_its_special_tokens_first(checkpoint: Path) -> None:
    for file in checkpoint.glob("tokenizer*"):
        file.unlink()
    tekken(checkpoint, ("he", "rt"))
    tokenizer = read_tokenizer(checkpoint)
    assert tokenizer.encode("heart.") == [256 + 20, 97 + 20, 257 + 20, ord(".") + 20]
    assert tokenizer.codec.encode_with_special_tokens("[INST]he[/INST]") == [3, 276, 4]
    assert tokenizer.decode([1, *tokenizer.encode(REPORTS[1]), 2]) == REPORTS[1]
    assert (tokenizer.bos_id, tokenizer.eos_ids, tokenizer.pad_id) == (1, (2,), 0)
    (checkpoint / "tekken.json").write_text('{"config": {}, "vocab": []}')
    assert "tekken.json is not a tekken tokenizer ('default_num_special_tokens')" in message(checkpoint)


def test_two_files_that_differ_only_at_a_space_in_front_belong_together(tmp_path: Path) -> None:
    """As those of Mistral 7B v0.3 do: no report begins with a space."""
    text = tmp_path / "reports.txt"
    text.write_text("".join(f"{report} {number}\n" for number in range(40) for report in REPORTS))
    SentencePieceTrainer.train(
        input=str(text), model_prefix=str(tmp_path / "tokenizer"), vocab_size=320, model_type="bpe",
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2,
    )  # fmt: skip
    theirs = LlamaTokenizer.from_pretrained(tmp_path)
    theirs.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    codec, fast = read_codec(tmp_path), TokenizerJson.read(tmp_path / "tokenizer.json")
    assert codec.encode("  two spaces") != fast.encode("  two spaces")
    assert [codec.encode(report) for report in REPORTS] == [fast.encode(report) for report in REPORTS]


def add_token(folder: Path, name: str, *, special: bool) -> int:
    """Add a token after the last row of the weights."""
    content = json.loads((folder / "tokenizer.json").read_text())
    number = len(content["model"]["vocab"])
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    content["added_tokens"].append({"id": number, "content": name, "special": special, **flags})
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return number


def name_token(folder: Path, kind: str, token: str) -> None:
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {f"{kind}_token": token}))
    for name in ("config.json", "generation_config.json"):
        config = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(config | {f"{kind}_token_id": None}))


def test_special_tokens_beyond_the_rows_are_accepted_where_no_text_needs_them(checkpoint: Path) -> None:
    add_token(checkpoint, "<image_soft_token>", special=True)
    for kind in ("pad", "bos"):
        name_token(checkpoint, kind, "<image_soft_token>")
    tokenizer = load_lm(checkpoint, stop=["</s>", "<image_soft_token>"]).tokenizer
    assert (tokenizer.bos_id, tokenizer.eos_ids, tokenizer.pad_id) == (None, (2,), 2)


def test_a_token_beyond_the_rows_is_refused_where_a_text_or_an_option_needs_it(checkpoint: Path) -> None:
    number = add_token(checkpoint, "<image_soft_token>", special=True)
    with pytest.raises(UserError, match=rf"lm\.special_tokens\.pad={number} has id {number}, but the weights have"):
        load_lm(checkpoint, special_tokens={"pad": number})
    with pytest.raises(UserError, match=r"the EOS token that ends a report has id .* name another one in lm\.stop"):
        load_lm(checkpoint, stop=["<image_soft_token>"])
    add_token(checkpoint, "effusion", special=False)
    assert f"the tokenizer has ids up to {number + 1}, but the weights have {number} rows" in message(checkpoint)


def test_added_tokens_have_the_ids_of_the_file_where_the_vocabulary_has_gaps(checkpoint: Path) -> None:
    number = add_token(checkpoint, "<image_soft_token>", special=True)
    content = json.loads((checkpoint / "tokenizer.json").read_text())
    content["model"]["vocab"]["<image_soft_token>"] = number + 1
    content["added_tokens"][-1]["id"] = number + 1
    add = {**content["added_tokens"][-1], "content": "<turn>", "id": number}
    content["added_tokens"].insert(-1, add)
    (checkpoint / "tokenizer.json").write_text(json.dumps(content))
    codec = TokenizerJson.read(checkpoint / "tokenizer.json")
    assert (codec.id_of("<turn>"), codec.id_of("<image_soft_token>")) == (number, number + 1)


CUTS = {"header": 100, "first bytes": 5, "tensors": -10}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_truncated_file_is_found_without_torch(name: str, cut: str, checkpoint: Path) -> None:
    file = checkpoint / name
    if name.endswith(".bin"):
        torch.save({"a": torch.zeros(9)}, file)
    else:
        next(checkpoint.glob("model-00001-*")).rename(file)
    refuse_truncated(file, option="lm.path")
    content = file.read_bytes()
    file.write_bytes(content[: CUTS[cut]])
    with pytest.raises(UserError, match=rf"a file is truncated or damaged \({name}: .*download it again"):
        refuse_truncated(file, option="lm.path")


@pytest.fixture
def gguf(checkpoint: Path, tmp_path: Path) -> Path:
    pytest.importorskip("gguf")
    from gguf_file import write_gguf

    file = tmp_path / "files" / "tiny.Q8_0.gguf"
    file.parent.mkdir()
    write_gguf(file, LlamaForCausalLM.from_pretrained(checkpoint), checkpoint, pre="gpt-2")
    return file


def test_a_gguf_file_gives_the_logits_and_ids_of_the_model_it_was_made_from(gguf: Path, checkpoint: Path) -> None:
    expected = load_lm(checkpoint)
    ids_BT = torch.randint(3, 200, (2, 12))
    for path in (gguf, gguf.parent):
        lm = load_lm(path, family="llama")
        with torch.no_grad():
            assert torch.equal(lm.model(ids_BT).logits, expected.model(ids_BT).logits)
        ours, theirs = lm.tokenizer, expected.tokenizer
        assert [ours.encode(report) for report in REPORTS] == [theirs.encode(report) for report in REPORTS]
        assert [ours.decode(ours.encode(report)) for report in REPORTS] == list(REPORTS)
        assert (ours.bos_id, ours.eos_ids, ours.pad_id) == (theirs.bos_id, theirs.eos_ids, theirs.pad_id)
    saved = gguf.parent / "saved"
    lm.model.save_pretrained(saved)
    save_tokenizer(expected.tokenizer, saved)
    assert load_lm(saved).dim == 32


def test_config_and_tokenizer_next_to_a_gguf_file_are_used(gguf: Path, checkpoint: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(checkpoint / name, gguf.parent)
    assert load_lm(gguf.parent).tokenizer.vocabulary_size == load_lm(checkpoint).tokenizer.vocabulary_size


def test_a_gguf_file_that_would_be_read_wrongly_is_refused(gguf: Path, checkpoint: Path) -> None:
    from gguf_file import write_gguf

    model = LlamaForCausalLM.from_pretrained(checkpoint)
    cases = {
        "falcon": ({"arch": "falcon"}, "its architecture is falcon, and those that are read are gemma2"),
        "scaled": ({"extra": {"rope_freqs.weight": np.ones(4, np.float32)}}, "its rotary frequencies are scaled"),
        "more": ({"extra": {"blk.0.attn_sinks.weight": np.ones(4, np.float32)}}, "what transformers makes of it has"),
        "split": ({"pre": "chameleon"}, r"does not read its tokenizer (chameleon) exactly"),
    }
    for name, (changes, expected) in cases.items():
        file = gguf.with_name(f"{name}.gguf")
        write_gguf(file, model, checkpoint, **{"pre": "gpt-2", **changes})
        assert expected in message(file)
    assert f"has 5 GGUF files: pass one of them, such as lm.path={gguf.parent}" in message(gguf.parent)
    for size in (-100, 3000):  # cut in the weights, and in the header
        gguf.write_bytes(gguf.read_bytes()[:size])
        assert "cannot be read as GGUF: it is truncated or damaged" in message(gguf)
    part = gguf.rename(gguf.with_name("a-00001-of-00003.gguf"))
    assert "is one of several parts of a GGUF file: join them" in message(part)


def test_a_gguf_file_is_not_quantised_again(gguf: Path) -> None:
    with pytest.raises(UserError, match="quantised already, and transformers reads it in full precision only"):
        load_lm(gguf, quantization="fp8")


def test_the_package_of_gguf_is_named(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("r2gen.lm.checkpoint_forms.find_spec", lambda _: None)
    monkeypatch.setattr("r2gen.lm.gguf._unpacked", {})
    with pytest.raises(UserError, match=r"needs the package gguf: pip install .*\[gguf\]") as refused:
        load_lm(gguf)
    assert refused.value.code == Code.PACKAGE_MISSING


def test_a_repository_that_has_moved_is_found_under_its_former_name(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "hub"
    shutil.copytree(checkpoint, cache / "models--THUDM--glm-4-9b" / "snapshots" / "abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    assert _name_in_cache("zai-org/glm-4-9b") == "THUDM/glm-4-9b"
    assert _name_in_cache("zai-org/another") == "zai-org/another"
    shutil.copytree(checkpoint, cache / "models--zai-org--glm-4-9b" / "snapshots" / "abc")
    assert _name_in_cache("zai-org/glm-4-9b") == "zai-org/glm-4-9b"
