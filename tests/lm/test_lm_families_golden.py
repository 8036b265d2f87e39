"""The tiny checkpoint of every family, in its published layout, gives the logits and tokens of the family's own code.

The checkpoints are in $R2GEN_SHARED/lm/golden; the golden.json of each says how its logits and greedy tokens were made.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_checkpoints import FAMILIES, PUBLISHED, needs_published
from safetensors.torch import load_file
from tiers import fast_only

from r2gen.config.decoding import Decoding
from r2gen.lm import LanguageModel, load_lm
from r2gen.lm.checkpoint import find_checkpoint
from r2gen.lm.weights import read_config, read_model

CHECKPOINTS = {name: json.loads((PUBLISHED / name / "config.json").read_text()) for name in FAMILIES}
SEQ2SEQ = [name for name, config in CHECKPOINTS.items() if config.get("is_encoder_decoder")]
CAUSAL = [name for name in CHECKPOINTS if name not in SEQ2SEQ]
LIMIT = 1e-4
GREEDY = Decoding(max_new_tokens=16, min_new_tokens=16)

pytestmark = needs_published


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("model*.safetensors")):
        tensors |= load_file(file)
    for file in sorted(folder.glob("pytorch_model*.bin")):
        tensors |= torch.load(file, weights_only=True)
    return tensors


@pytest.mark.parametrize("family", fast_only(CAUSAL, "baichuan_7b", "chatglm3", "llama2_spm", "qwen2"))
def test_logits_greedy_tokens_and_saved_tensors_of_decoders(tmp_path: Path, family: str) -> None:
    lm = load_lm(PUBLISHED / family)
    golden = load_file(PUBLISHED / family / "golden.safetensors")
    logits_BTV = check_logits(lm, golden)
    for kind in ("left", "soft"):
        embeds_BTE = lm.embed(golden["left.input_ids"]) if kind == "left" else golden["soft.inputs_embeds"]
        reports = lm.generate(embeds_BTE, golden[f"{kind}.attention_mask"], GREEDY)
        assert [list(report.ids) for report in reports] == golden[f"{kind}.generated"].tolist(), kind
    suppressed = json.loads((PUBLISHED / family / "golden.json").read_text())["eos_ids_suppressed"]
    plain: Any = lm.model
    ids_BG = plain.generate(
        golden["left.input_ids"],
        attention_mask=golden["left.attention_mask"],
        do_sample=False,
        max_new_tokens=16,
        min_new_tokens=16,
        eos_token_id=suppressed,
        pad_token_id=0,
    )
    assert torch.equal(ids_BG[:, -16:], golden["left.generated"])

    plain.save_pretrained(tmp_path)
    published, saved = tensors_of(PUBLISHED / family), tensors_of(tmp_path)
    derived = {name for name in published if name.endswith("inv_freq")}
    tied = {name for name in published if name not in saved and plain.config.tie_word_embeddings}
    assert saved.keys() == published.keys() - derived - tied
    assert all(torch.equal(saved[name], published[name]) for name in saved)
    checkpoint = find_checkpoint(tmp_path, None)
    again: Any = read_model(
        checkpoint, read_config(checkpoint), dtype="float32", attention="auto", quantization=None, device_map=None
    )
    with torch.no_grad():
        assert torch.equal(again(inputs_embeds=golden["embeds.inputs_embeds"]).logits, logits_BTV)


def check_logits(lm: LanguageModel, golden: dict[str, torch.Tensor]) -> torch.Tensor:
    """Compare the logits of right-padded ids and of embeddings with the golden ones; return the latter."""
    model: Any = lm.model
    with torch.no_grad():
        mask_BT = golden["right.attention_mask"]
        right_BTV = model(input_ids=golden["right.input_ids"], attention_mask=mask_BT).logits
        bare_BTV = model(inputs_embeds=golden["embeds.inputs_embeds"]).logits
    assert (right_BTV - golden["right.logits"])[mask_BT.bool()].abs().max() < LIMIT
    assert (bare_BTV - golden["embeds.logits"]).abs().max() < LIMIT
    return bare_BTV


@pytest.mark.parametrize("family", fast_only(SEQ2SEQ, "t5"))
def test_logits_greedy_tokens_and_saved_tensors_of_encoder_decoders(tmp_path: Path, family: str) -> None:
    lm: Any = load_lm(PUBLISHED / family)
    assert lm.model.config._attn_implementation == "eager"
    golden = load_file(PUBLISHED / family / "golden.safetensors")
    suppressed = json.loads((PUBLISHED / family / "golden.json").read_text())["eos_ids_suppressed"]
    for kind, source in (("enc", "input_ids"), ("embeds", "inputs_embeds")):
        given = {source: golden[f"{kind}.{source}"], "attention_mask": golden[f"{kind}.attention_mask"]}
        with torch.no_grad():
            logits = lm.model(**given, decoder_input_ids=golden[f"{kind}.decoder_input_ids"]).logits
        assert (logits - golden[f"{kind}.logits"]).abs().max() < LIMIT
        ids_BG = lm.model.generate(
            **given,
            max_new_tokens=16,
            min_new_tokens=16,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=suppressed,
            decoder_start_token_id=0,
        )
        assert torch.equal(ids_BG[:, -16:], golden[f"{kind}.generated"][:, -16:])
    lm.model.save_pretrained(tmp_path)
    saved, published = tensors_of(tmp_path), tensors_of(PUBLISHED / family)
    assert all(torch.equal(saved[name], published[name]) for name in saved)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ["baichuan_13b", "chatglm3", "internlm2", "qwen"])
def test_both_kinds_of_attention(family: str, attention: str) -> None:
    lm = load_lm(PUBLISHED / family, attention=attention)
    assert lm.model.config._attn_implementation == attention
    check_logits(lm, load_file(PUBLISHED / family / "golden.safetensors"))
