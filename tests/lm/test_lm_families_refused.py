"""Checkpoints in a published format are refused if a tensor is wrong or transformers' class lacks an option."""

from pathlib import Path

import pytest
import torch
from published_lm import Shape, claim, read, save_weights, write
from transformers import BitsAndBytesConfig

from r2gen.errors import UserError

QKV = "transformer.encoder.layers.1.self_attention.query_key_value"
BROKEN: dict[str, tuple[dict[str, torch.Tensor | None], str]] = {
    "a tensor is missing": ({QKV + ".weight": None}, f"1 missing tensors: {QKV}.weight"),
    "a renamed one is missing": (
        {"transformer.encoder.final_layernorm.weight": None},
        r"missing tensors: transformer\.encoder\.final_layernorm",
    ),
    "a tensor is left over": ({QKV + "_2.weight": torch.zeros(3)}, f"1 unexpected tensors: {QKV}_2.weight"),
    "a bias is left over": (
        {"transformer.encoder.layers.1.mlp.dense_4h_to_h.bias": torch.zeros(32)},
        r"1 unexpected tensors: transformer\.encoder\.layers\.1\.mlp\.dense_4h_to_h\.bias",
    ),
    "a layer is left over": (
        {QKV.replace("1", "2") + ".weight": torch.zeros(96, 32)},
        r"1 unexpected tensors: transformer\.encoder\.layers\.2\.self_attention\.query_key_value",
    ),
    "rows are missing": ({QKV + ".weight": torch.zeros(88, 32)}, f"1 mismatched tensors: {QKV}.weight"),
    "rows are too wide": ({QKV + ".weight": torch.zeros(96, 31)}, f"1 mismatched tensors: {QKV}.weight"),
}


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize("name", BROKEN)
def test_a_wrong_tensor_is_named_as_published(tmp_path: Path, name: str, quantised: bool) -> None:
    if quantised:
        pytest.importorskip("bitsandbytes")
    change, message = BROKEN[name]
    tensors = {k: v for k, v in (write(tmp_path, "chatglm", Shape()) | change).items() if v is not None}
    save_weights(tmp_path, tensors)
    eight = BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0) if quantised else None
    if quantised:
        message = message.replace("1 mismatched tensors: ", "")
    with pytest.raises(UserError, match=message) as refusal:
        read(tmp_path, quantization=eight)
    assert str(refusal.value).startswith(f"lm.path: {tmp_path}")


@pytest.mark.parametrize("pickled", [False, True])
def test_two_tensors_for_one_parameter_are_refused(tmp_path: Path, pickled: bool) -> None:
    tensors = write(tmp_path, "baichuan", Shape(), pickled=pickled)
    extra = "model.layers.1.self_attn.q_proj.weight"
    save_weights(tmp_path, tensors | {extra: torch.zeros(32, 32)}, pickled=pickled)
    with pytest.raises(UserError, match=f"1 unexpected tensors: {extra}"):
        read(tmp_path)


REFUSED = [
    ("chatglm", {"position_encoding_2d": True}, r"ChatGLM-6B \(v1\).* use chatglm2-6b"),
    ("chatglm", {"inner_hidden_size": 16384}, r"ChatGLM-6B \(v1\)"),
    ("chatglm", {"add_bias_linear": True}, "add_bias_linear is True"),
    ("chatglm", {"rmsnorm": False}, "rmsnorm is False"),
    ("chatglm", {"multi_query_attention": False}, "multi_query_attention is False"),
    ("chatglm", {"quantization_bit": 4}, "quantization_bit is 4"),
    ("chatglm", {"num_layers": "two"}, "cannot build what"),
    ("chatglm", {"num_attention_heads": 0}, "cannot build what"),
    ("internlm", {"rotary": {"base": 10000, "type": "yarn"}}, "rotary.type is yarn"),
    ("internlm2", {"bias": True}, "bias is True"),
    ("internlm3", {"qkv_bias": True}, "qkv_bias and bias differ"),
    ("qwen", {"no_bias": False}, "no_bias is False"),
    ("qwen", {"rotary_pct": 0.25}, "rotary_pct is 0.25"),
]


@pytest.mark.parametrize(("family", "fields", "message"), REFUSED)
def test_an_option_that_the_native_class_lacks_is_refused_by_name(
    tmp_path: Path, family: str, fields: dict[str, object], message: str
) -> None:
    write(tmp_path, family, Shape())
    claim(tmp_path, **fields)
    with pytest.raises(UserError, match=message) as refusal:
        read(tmp_path)
    assert "config.json" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_code_that_comes_with_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    folder, canary = tmp_path / "a", tmp_path / "canary"
    write(folder, "chatglm", Shape())
    claim(
        folder,
        auto_map={
            "AutoConfig": "configuration_chatglm.ChatGLMConfig",
            "AutoModelForCausalLM": "modeling_chatglm.ChatGLMForConditionalGeneration",
        },
    )
    for name in ("configuration_chatglm", "modeling_chatglm"):
        (folder / f"{name}.py").write_text(f"from pathlib import Path\nPath({str(canary)!r}).touch()\n")
    assert type(read(folder)).__module__ == "r2gen.lm.families.chatglm"
    assert not canary.exists()
