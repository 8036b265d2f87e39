"""The text part of a multimodal checkpoint, and the classes that are refused because they cannot read an image."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from current_families import BASE, VISION, write
from safetensors.torch import load_file, save_file
from transformers import (
    FalconH1Config,
    FalconH1ForCausalLM,
    FSMTConfig,
    FSMTForConditionalGeneration,
    Gemma3nForCausalLM,
    Gemma3nTextConfig,
    Gemma4ForCausalLM,
    Gemma4TextConfig,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    RwkvConfig,
    RwkvForCausalLM,
)

from r2gen.errors import UserError
from r2gen.lm import ReportTokenizer, load_lm, save_tokenizer
from r2gen.lm.precise import double_precision

# B batch, T tokens


@pytest.fixture
def gemma(tmp_path: Path, tokenizer: ReportTokenizer) -> Path:
    write(tmp_path, "medgemma")
    save_tokenizer(tokenizer, tmp_path)
    return tmp_path


def test_other_parts_are_counted_and_save_pretrained_writes_the_text_part(
    gemma: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    lm: Any = load_lm(gemma)
    files = load_file(gemma / "model.safetensors")
    vision = sum(name.startswith("vision_tower") for name in files)
    assert (
        f"the text part (gemma3_text) of a multimodal model (gemma3): {len(files) - vision - 2} tensors are read, "
        f"{vision + 2} of other parts are not: vision_tower {vision}, multi_modal_projector 2\n"
    ) in capsys.readouterr().out
    saved = tmp_path_factory.mktemp("saved")
    lm.model.save_pretrained(saved)
    assert {name.split(".")[0] for name in load_file(saved / "model.safetensors")} == {"model"}
    assert json.loads((saved / "config.json").read_text())["model_type"] == "gemma3_text"


@pytest.mark.parametrize(
    ("name", "new", "message"),
    [
        ("model.norm.weight", None, r"1 missing tensors: model\.norm\.weight"),
        (None, "language_model.model.layers.0.extra.weight", r"1 unexpected tensors: model\.layers\.0\.extra"),
    ],
)
def test_every_tensor_of_the_text_part_must_be_there_and_no_other(
    gemma: Path, name: str | None, new: str | None, message: str
) -> None:
    tensors = load_file(gemma / "model.safetensors")
    if name is not None:
        del tensors[f"language_model.{name}"]
    if new is not None:
        tensors[new] = torch.zeros(1)
    save_file(tensors, gemma / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=message):
        load_lm(gemma)


def test_a_layout_with_other_names_is_no_incomplete_download(gemma: Path) -> None:
    tensors = load_file(gemma / "model.safetensors")
    others = {name.replace("layers", "blocks"): tensor for name, tensor in tensors.items()}
    save_file(others, gemma / "model.safetensors", metadata={"format": "pt"})
    message = r"text part \(gemma3_text\) under names which R2Gen does not read: .* are missing"
    with pytest.raises(UserError, match=message):
        load_lm(gemma)


@pytest.mark.parametrize("family", ["gemma3", "gemma3_text"])
def test_the_family_may_be_that_of_the_whole_or_of_the_text_part(gemma: Path, family: str) -> None:
    assert load_lm(gemma, family=family).model.config.model_type == "gemma3_text"
    with pytest.raises(
        UserError, match=r"model_type=gemma3, a multimodal model, whose text part is gemma3_text: .*lm="
    ):
        load_lm(gemma, family="llama")


def test_qwen2_5_vl_without_an_image_is_qwen2(tmp_path: Path, tokenizer: ReportTokenizer) -> None:
    text = BASE | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}}
    vision = VISION | {"depth": 1, "num_heads": 2, "out_hidden_size": 32, "fullatt_block_indexes": [0]}
    torch.manual_seed(0)
    whole: Any = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision)).eval()
    whole.save_pretrained(tmp_path)
    save_tokenizer(tokenizer, tmp_path)
    lm: Any = load_lm(tmp_path, family="qwen2")
    ids_BT = torch.arange(3, 23)[None]
    with torch.no_grad():
        assert torch.allclose(lm.model(ids_BT).logits, whole(input_ids=ids_BT).logits, atol=1e-6)


def test_a_text_part_without_a_class_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "glm4v"}))
    with pytest.raises(UserError, match=r"model_type=glm4v, a multimodal model, and transformers .* \(glm4v.*\)"):
        load_lm(tmp_path)


SHAPE = {name: value for name, value in BASE.items() if name not in ("dtype", "rms_norm_eps")}
KINDS = ["sliding_attention", "full_attention"] * 2
PER_LAYER = {"num_hidden_layers": 4, "layer_types": KINDS, "num_kv_shared_layers": 2, "head_dim": 8}
PER_LAYER |= {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 300}


@pytest.mark.parametrize(
    ("model", "config", "further"),
    [
        (Gemma4ForCausalLM, Gemma4TextConfig, {"global_head_dim": 8}),
        (Gemma3nForCausalLM, Gemma3nTextConfig, {"activation_sparsity_pattern": [0.0] * 4, "laurel_rank": 4}),
    ],
)
def test_layers_get_the_inputs_of_their_tokens_and_at_an_image_those_of_padding(
    model: Any, config: Any, further: Any, tmp_path: Path, tokenizer: ReportTokenizer
) -> None:
    torch.manual_seed(0)
    whole = model(config(**SHAPE | PER_LAYER | further))
    for parameter in whole.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    whole.save_pretrained(tmp_path)
    save_tokenizer(tokenizer, tmp_path)
    lm: Any = load_lm(tmp_path)
    before_BT, after_BT = torch.randint(3, 300, (2, 4)), torch.randint(3, 300, (2, 5))
    image_BT = torch.full((2, 3), lm.model.config.pad_token_id)
    ids_BT = torch.cat([before_BT, image_BT, after_BT], dim=1)
    with torch.no_grad():
        embeds_BTE = lm.embed(ids_BT)
        assert torch.equal(lm.model(input_ids=ids_BT).logits, lm.model(inputs_embeds=embeds_BTE).logits)
        embeds_BTE[:, 4:7] = torch.randn(2, 3, 32)
        inputs = lm.model.model.embed_tokens_per_layer(ids_BT).view(2, 12, 4, 8)
        expected = lm.model(inputs_embeds=embeds_BTE, per_layer_inputs=inputs).logits
        assert torch.equal(lm.model(inputs_embeds=embeds_BTE).logits, expected)
        with double_precision(lm.model):
            again = lm.model(inputs_embeds=embeds_BTE.double()).logits
        assert torch.allclose(again.float(), expected, atol=1e-3)


MAMBA = {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "head_dim": 8}
FSMT: dict[str, Any] = {
    "src_vocab_size": 300,
    "tgt_vocab_size": 300,
    "d_model": 32,
    "max_length": 64,
    "pad_token_id": 0,
}
FSMT |= {f"{part}_{name}": 2 for part in ("encoder", "decoder") for name in ("layers", "attention_heads")}
REFUSED: dict[str, tuple[Any, str]] = {
    "ids only": (lambda: FalconH1ForCausalLM(FalconH1Config(**SHAPE, **MAMBA)), "it generates from ids only"),
    "encoder": (
        lambda: FSMTForConditionalGeneration(FSMTConfig(**FSMT)),
        "it computes other logits from embeddings than from their ids",
    ),
    "padding": (
        lambda: RwkvForCausalLM(RwkvConfig(vocab_size=300, hidden_size=32, num_hidden_layers=2, eos_token_id=2)),
        "padding changes its logits",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_class_that_cannot_generate_from_embeddings_is_refused_at_load(
    name: str, tmp_path: Path, tokenizer: ReportTokenizer
) -> None:
    build, message = REFUSED[name]
    torch.manual_seed(0)
    build().save_pretrained(tmp_path)
    save_tokenizer(tokenizer, tmp_path)
    with pytest.raises(UserError, match=f"cannot generate from embeddings, which an image needs .{message}"):
        load_lm(tmp_path)
