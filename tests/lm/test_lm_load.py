"""A checkpoint gives the logits of the family's own code, or it is refused with a fix."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from composed import composed
from omegaconf import OmegaConf
from prompt_ids import prompt_ids
from safetensors.torch import load_file, save_file
from transformers import BloomConfig, BloomForCausalLM, GPT2Config, GPT2LMHeadModel

from r2gen.config import lm_rules
from r2gen.config.decoding import Decoding
from r2gen.errors import UserError
from r2gen.lm import LanguageModel, Prompt, ReportTokenizer, load_lm, random_lm, save_tokenizer, train_tokenizer

CONF = Path(__file__).parents[2] / "conf"
INT8 = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}
SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ["llama2_spm", "llama2_json"])
def test_logits_and_greedy_tokens_are_the_golden_ones(golden_folder: Path, family: str, attention: str) -> None:
    lm = load_lm(golden_folder / family, attention=attention)
    assert lm.model.config._attn_implementation == attention
    assert not lm.model.training
    golden = load_file(golden_folder / family / "golden.safetensors")
    with torch.no_grad():
        soft = lm.model(inputs_embeds=golden["embeds.inputs_embeds"]).logits
        mask_BT = golden["right.attention_mask"]
        right = lm.model(inputs_embeds=lm.embed(golden["right.input_ids"]), attention_mask=mask_BT).logits
    assert (soft - golden["embeds.logits"]).abs().max() < 1e-4
    assert (right - golden["right.logits"])[mask_BT.bool()].abs().max() < 1e-4
    profile = Decoding(max_new_tokens=16, min_new_tokens=16)
    for kind in ("left", "soft"):
        embeds_BTE = lm.embed(golden["left.input_ids"]) if kind == "left" else golden["soft.inputs_embeds"]
        reports = lm.generate(embeds_BTE, golden[f"{kind}.attention_mask"], profile)
        assert [list(report.ids) for report in reports] == golden[f"{kind}.generated"].tolist()


def test_random_weights_depend_on_the_seed_and_the_random_state_is_kept(tokenizer: ReportTokenizer) -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    first, again, other = (random_lm(tokenizer=tokenizer, seed=seed, **SHAPE) for seed in (4, 4, 5))
    assert torch.equal(torch.rand(3), expected)
    weights = [torch.cat([p.flatten() for p in lm.model.parameters()]) for lm in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert first.dim == 32
    assert first.embed(torch.tensor([[0, 5]])).shape == (1, 2, 32)


def test_in_half_precision_weights_are_rounded_and_rotary_frequencies_are_not(tokenizer: ReportTokenizer) -> None:
    full = random_lm(tokenizer=tokenizer, seed=4, **SHAPE)
    half = random_lm(tokenizer=tokenizer, seed=4, dtype="bfloat16", **SHAPE)
    for (name, wide), narrow in zip(full.model.named_parameters(), half.model.parameters(), strict=True):
        assert torch.equal(wide.bfloat16(), narrow), name
    assert {buffer.dtype for buffer in half.model.buffers()} == {torch.float32}


def drop(folder: Path, pattern: str) -> None:
    for file in folder.glob(pattern):
        file.unlink()


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def claim(folder: Path, **fields: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def index_a_lost_shard(folder: Path) -> None:
    first, lost = (f"model-0000{i}-of-00002.safetensors" for i in (1, 2))
    names = list(load_file(folder / "model.safetensors"))
    (folder / "model.safetensors").rename(folder / first)
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, first) | {names[-1]: lost}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


LOST, EXTRA = "model.layers.1.mlp.up_proj.weight", "model.layers.0.self_attn.q_proj.bias"
BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda folder: drop(folder, "config.json"), "has no config.json"),
    "damaged config": (lambda folder: (folder / "config.json").write_text("{"), r"config\.json is not a JSON"),
    "list as config": (lambda folder: (folder / "config.json").write_text("[]"), r"config\.json is not a JSON"),
    "no weights": (lambda folder: drop(folder, "*.safetensors"), "has no weights"),
    "no tokenizer": (lambda folder: drop(folder, "tokenizer.*"), "neither tokenizer.model nor tokenizer.json"),
    "unknown type": (lambda folder: claim(folder, model_type="gpt99"), "says model_type=gpt99, which is no language"),
    "missing tensor": (lambda folder: rewrite(folder, lambda t: t.pop(LOST)), f"1 missing tensors: {LOST}"),
    "unexpected tensor": (
        lambda folder: rewrite(folder, lambda t: t.update({EXTRA: torch.zeros(64)})),
        f"1 unexpected tensors: {EXTRA}",
    ),
    "other shape": (lambda folder: claim(folder, intermediate_size=96), "6 mismatched tensors: .*mlp"),
    "cut weights": (
        lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:9999]),
        "cannot be read",
    ),
    "odd heads": (lambda folder: claim(folder, num_attention_heads=5), r"cannot build what .*config\.json describes"),
    "odd activation": (lambda folder: claim(folder, hidden_act="nope"), r"cannot build what .*config\.json describes"),
    "lost shard": (lambda folder: index_a_lost_shard(folder), "1 of 2 weight files .* missing: model-00002-of"),
    "damaged pickle": (
        lambda folder: (drop(folder, "*.safetensors"), (folder / "pytorch_model.bin").write_bytes(b"version git-lfs")),
        r"a \*\.bin file is damaged",
    ),
    "cut pickle": (
        lambda folder: (
            drop(folder, "*.safetensors"),
            torch.save({"a": torch.zeros(9999)}, folder / "pytorch_model.bin"),
            (folder / "pytorch_model.bin").write_bytes((folder / "pytorch_model.bin").read_bytes()[:-999]),
        ),
        "a file is truncated or damaged",
    ),
    "index without a map": (
        lambda folder: (drop(folder, "*.safetensors"), (folder / "model.safetensors.index.json").write_text("{}")),
        "has no weight_map",
    ),
    "adapter": (lambda folder: (folder / "adapter_config.json").write_text("{}"), "adapters are not read"),
    "too few rows": (
        lambda folder: (
            claim(folder, vocab_size=400),
            rewrite(folder, lambda t: t.update({k: v[:400].clone() for k, v in t.items() if v.shape[0] == 420})),
        ),
        "ids up to 419, but the weights have 400 rows",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_checkpoint_is_refused(golden_folder: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(golden_folder / "llama2_spm", tmp_path / "checkpoint")
    breaking, message = BROKEN[name]
    breaking(folder)
    with pytest.raises(UserError, match=message) as refusal:
        load_lm(folder)
    assert "lm.path" in str(refusal.value)


def test_a_checkpoint_of_another_family_is_refused(golden_folder: Path) -> None:
    with pytest.raises(UserError, match=r"lm\.family=chatglm, but .* model_type=llama: .*lm\.family=llama"):
        load_lm(golden_folder / "llama2_spm", family="chatglm")
    load_lm(golden_folder / "llama2_spm", family="llama")


def test_rotary_frequencies_in_old_files_are_ignored(golden_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(golden_folder / "llama2_spm", tmp_path / "old")
    rewrite(folder, lambda t: t.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}))
    load_lm(folder)


class Touch:
    """Creates a file if it is unpickled without restrictions."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_pickled_weights_is_never_run(
    golden_folder: Path, tmp_path: Path, llama2_spm: LanguageModel, zipped: bool
) -> None:
    folder, canary = shutil.copytree(golden_folder / "llama2_spm", tmp_path / "pickled"), tmp_path / "canary"
    tensors, file = load_file(folder / "model.safetensors"), folder / "pytorch_model.bin"
    drop(folder, "*.safetensors")
    torch.save(tensors, file, _use_new_zipfile_serialization=zipped)
    for ours, theirs in zip(load_lm(folder).model.parameters(), llama2_spm.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    torch.save(tensors | {"run": Touch(canary)}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"lm\.path: .* holds more than tensors"):
        load_lm(folder)
    assert not canary.exists()
    torch.load(file, weights_only=False)  # the file is what it is meant to be
    assert canary.exists()


def test_an_unreadable_config_is_refused_before_tokenizer_and_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "chatglm", "position_encoding_2d": True}))
    with pytest.raises(UserError, match=r"lm\.path: .*config\.json: this is ChatGLM-6B \(v1\)"):
        load_lm(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mpt"}))
    with pytest.raises(UserError, match=r"lm\.family=chatglm, but .* says model_type=mpt"):
        load_lm(tmp_path, family="chatglm")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"config\.json has no model_type: .* download the checkpoint's own"):
        load_lm(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}), encoding="utf-8-sig")
    with pytest.raises(UserError, match=r"transformers cannot build what .* not a valid JSON file"):
        load_lm(tmp_path)


def test_a_native_family_without_an_lm_config_is_read(tokenizer: ReportTokenizer, tmp_path: Path) -> None:
    config = GPT2Config(
        vocab_size=tokenizer.vocabulary_size,
        n_embd=32,
        n_layer=1,
        n_head=2,
        n_positions=64,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = GPT2LMHeadModel(config)
    model.save_pretrained(tmp_path)
    save_tokenizer(tokenizer, tmp_path)
    with pytest.raises(UserError, match=r"lm\.family=llama.* says model_type=gpt2: .*lm=auto, or use lm\.family=gpt2"):
        load_lm(tmp_path, family="llama")
    lm = load_lm(tmp_path)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(lm.model(inputs_embeds=lm.embed(ids)).logits, model.eval()(ids).logits)


def test_attention_is_that_of_the_option(golden_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(golden_folder / "llama2_spm", tmp_path / "a")
    claim(folder, attn_implementation="eager", _attn_implementation="flash_attention_2")
    assert load_lm(folder).model.config._attn_implementation == "sdpa"
    assert load_lm(folder, attention="eager").model.config._attn_implementation == "eager"
    save_tokenizer(train_tokenizer(["The heart is large."], 300), tmp_path / "b")
    BloomForCausalLM(BloomConfig(vocab_size=300, hidden_size=32, n_layer=1, n_head=2)).save_pretrained(tmp_path / "b")
    assert load_lm(tmp_path / "b").model.config._attn_implementation == "eager"
    with pytest.raises(UserError, match=r"lm\.attention=sdpa: BloomForCausalLM supports eager attention only"):
        load_lm(tmp_path / "b", attention="sdpa")


LM_RULES = {
    "contrastive search": ({"model_type": "t5"}, ["generation=contrastive"], "contrastive search.*decoder-only"),
    "quantised twice": ({"model_type": "llama", **INT8}, ["quant=nf4"], "lm.path: .*quantised already.*use quant=none"),
    "full": ({"model_type": "llama", **INT8}, ["tune/lm=full"], "quantised language model cannot be trained in full"),
    "zero3": ({"model_type": "llama", **INT8}, ["trainer=zero3"], "trainer=zero3.*use trainer=zero2"),
}


@pytest.mark.parametrize("name", LM_RULES)
def test_rules_about_the_language_model_are_checked_before_weights_are_read(tmp_path: Path, name: str) -> None:
    """The folder has only a config.json, which has facts that the options do not."""
    fields, options, message = LM_RULES[name]
    (tmp_path / "config.json").write_text(json.dumps(fields))
    config = composed("lm=llama2", "lm.family=null", *options)
    with pytest.raises(UserError, match=message):
        load_lm(tmp_path, check=partial(lm_rules.check, config))
    with pytest.raises(UserError, match="has no weights"):
        load_lm(tmp_path, check=partial(lm_rules.check, composed("lm=llama2")))


@pytest.mark.parametrize("path", ["/nowhere/llama", "./llama", "a/b/c", "llama"])
def test_a_missing_folder_is_refused(path: str) -> None:
    with pytest.raises(UserError, match=r"lm\.path=.* there is no such folder"):
        load_lm(path)


def test_a_hub_id_that_was_never_fetched_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"lm\.path=nobody/nothing .*hub=online"):
        load_lm("nobody/nothing")


def test_the_prompts_of_llama2_and_tiny_have_their_lengths(
    llama2_spm: LanguageModel, tokenizer: ReportTokenizer
) -> None:
    prompts = {name: Prompt(**OmegaConf.load(CONF / f"lm/{name}.yaml").prompt) for name in ("llama2", "tiny")}
    before, after = prompt_ids(prompts["llama2"], llama2_spm.tokenizer)
    assert (before[0], len(before), len(after)) == (1, 13, 70)
    assert prompt_ids(prompts["tiny"], tokenizer) == ([1], [])


def test_every_decoding_profile_is_valid() -> None:
    files = sorted((CONF / "generation").glob("*.yaml"))
    assert files
    for file in files:
        Decoding(**OmegaConf.to_container(OmegaConf.load(file)))  # type: ignore[arg-type]
