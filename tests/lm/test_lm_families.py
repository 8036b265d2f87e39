"""Random checkpoints of many shapes in the published formats are computed and saved correctly."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from published_lm import FORMATS, Shape, Tensors, claim, draw, read, save_weights, write
from published_logits import logits
from safetensors.torch import load_file
from transformers import BitsAndBytesConfig, PreTrainedModel

from r2gen.lm.conversion.fused_qkv import FuseGroupedQKV, FuseQKV, SplitGroupedQKV, SplitQKV
from r2gen.lm.families import baichuan

WIDE = Shape(layers=3, heads=6, groups=2, head_dim=16, width=96, inner=56, rows=61, bias=True, base=5000.0, seed=7)
ONE_GROUP = Shape(layers=1, heads=5, groups=1, head_dim=8, width=40, rows=33, seed=3)
# Baichuan, InternLM v1 and Qwen v1 have as many keys as queries, and their heads fill the width.
FULL = replace(WIDE, groups=6)
CASES: list[tuple[str, Shape]] = [
    *((family, Shape(seed=1)) for family in FORMATS if family != "qwen"),
    *(("chatglm", shape) for shape in (WIDE, ONE_GROUP, replace(WIDE, width=48), replace(WIDE, groups=6, bias=False))),
    *((family, replace(shape, bias=False)) for family in ("internlm2", "internlm3") for shape in (WIDE, ONE_GROUP)),
    *(("internlm", replace(FULL, bias=bias)) for bias in (True, False)),
    *(("qwen", shape) for shape in (FULL, replace(FULL, heads=4, groups=4, width=64, seed=9))),
    *(
        (
            "baichuan",
            replace(FULL, heads=heads, groups=heads, width=heads * 16, alibi=alibi, norm_head=norm, bias=False),
        )
        for heads, alibi, norm in product((3, 8, 12), (False, True), (False, True))
    ),
]


def error(family: str, shape: Shape, tensors: Tensors, model: PreTrainedModel) -> float:
    """The largest error of the logits in a batch of three, padded on the left, not at all, and in the middle."""
    real = [torch.randn(length, shape.width, generator=torch.Generator().manual_seed(length)) for length in (5, 9, 7)]
    positions = [range(4, 9), range(9), [0, 1, 2, 5, 6, 7, 8]]
    embeds_BTE, mask_BT = torch.randn(3, 9, shape.width), torch.zeros(3, 9, dtype=torch.long)
    for row, (prompt_TE, where) in enumerate(zip(real, positions, strict=True)):
        embeds_BTE[row, list(where)], mask_BT[row, list(where)] = prompt_TE, 1
    with torch.no_grad():
        position_ids = (mask_BT.cumsum(dim=1) - 1).clamp(min=0)
        found_BTV = model(inputs_embeds=embeds_BTE, attention_mask=mask_BT, position_ids=position_ids).logits
    assert found_BTV.isfinite().all()  # also at padding
    return max(
        float((found_BTV[row, list(where)] - logits(family, shape, tensors, prompt_TE)).abs().max())
        for row, (prompt_TE, where) in enumerate(zip(real, positions, strict=True))
    )


@pytest.mark.parametrize(("number", "family", "shape"), [(i, *case) for i, case in enumerate(CASES)])
def test_the_logits_are_those_of_the_family_and_the_saved_tensors_those_that_were_read(
    tmp_path: Path, number: int, family: str, shape: Shape
) -> None:
    tensors = write(tmp_path / "a", family, shape, shards=1 + number % 3, pickled=number % 2 == 1)
    model = read(tmp_path / "a", attention=("sdpa", "eager")[number % 2])
    assert model.config._attn_implementation == ("sdpa", "eager")[number % 2]
    assert error(family, shape, tensors, model) < 1e-4
    model.save_pretrained(tmp_path / "b")
    saved = load_file(tmp_path / "b" / "model.safetensors")
    assert saved.keys() == tensors.keys()
    assert all(torch.equal(saved[name], tensors[name]) for name in tensors)
    again = read(tmp_path / "b")
    assert error(family, shape, tensors, again) < 1e-4


@pytest.mark.parametrize("family", ["baichuan", "chatglm", "internlm2", "qwen"])
def test_swapped_rows_or_gates_change_the_logits(tmp_path: Path, family: str) -> None:
    shape = FULL if family == "qwen" else Shape(seed=2)
    tensors = write(tmp_path / "a", family, shape)
    names = FORMATS[family].names
    qkv = names["qkv"].format(0) + ".weight"
    rows = shape.heads * shape.head_dim
    swapped = {qkv: torch.cat([tensors[qkv][rows : 2 * rows], tensors[qkv][:rows], tensors[qkv][2 * rows :]])}
    gates = [names["gate_up"]] * 2 if family == "chatglm" else [names["gate"], names["up"]]
    first, second = (name.format(0) + ".weight" for name in gates)
    turned = (
        {first: torch.cat(tensors[first].chunk(2)[::-1])}
        if first == second
        else {first: tensors[second], second: tensors[first]}
    )
    for change in (swapped, turned):
        save_weights(tmp_path / "a", tensors | change)
        assert error(family, shape, tensors, read(tmp_path / "a")) > 1e-2


@pytest.mark.parametrize("seed", range(40))
def test_fusing_split_tensors_restores_them(seed: int) -> None:
    source = torch.Generator().manual_seed(seed)
    groups, per_group, half, width = (int(i) for i in torch.randint(1, 7, (4,), generator=source))
    shape = Shape(heads=groups * per_group, groups=groups, head_dim=2 * half, width=width)
    config = type(
        "Config", (), {"num_attention_heads": shape.heads, "num_key_value_heads": groups, "head_dim": shape.head_dim}
    )()
    rows = (shape.heads + 2 * groups) * shape.head_dim
    for fused in (torch.randn(rows, width, generator=source), torch.randn(rows, generator=source)):
        for split in (SplitQKV(), SplitGroupedQKV()):
            parts = split.convert({"qkv": [fused]}, ["qkv"], ["q", "k", "v"], config=config)
            sizes = [shape.heads * shape.head_dim, groups * shape.head_dim, groups * shape.head_dim]
            assert [len(part) for part in parts.values()] == sizes
            fuse = split.reverse_op
            assert isinstance(fuse, FuseQKV | FuseGroupedQKV)
            assert isinstance(fuse.reverse_op, type(split))
            back = fuse.convert({k: [v] for k, v in parts.items()}, ["q", "k", "v"], ["qkv"], config=config)
            assert torch.equal(back["qkv"], fused)


@pytest.mark.parametrize("family", ["internlm2", "baichuan", "qwen", "chatglm"])
def test_a_tied_head_is_the_embedding(tmp_path: Path, family: str) -> None:
    shape = FULL if family == "qwen" else Shape(seed=4)
    tensors = write(tmp_path, family, shape)
    names = FORMATS[family].names
    tensors[names["head"] + ".weight"] = tensors[names["embed"] + ".weight"]
    claim(tmp_path, tie_word_embeddings=True)
    save_weights(tmp_path, {name: tensor for name, tensor in tensors.items() if not name.startswith(names["head"])})
    assert error(family, shape, tensors, read(tmp_path)) < 1e-4


def test_alibi_is_the_same_step_by_step_and_by_beams(tmp_path: Path) -> None:
    shape = Shape(heads=6, groups=6, width=48, alibi=True, norm_head=True, seed=5)
    write(tmp_path, "baichuan", shape)
    model: Any = read(tmp_path)
    embeds_BTE = torch.randn(2, 8, shape.width, generator=torch.Generator().manual_seed(1))
    mask_BT = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1], [1] * 8])
    with torch.no_grad():
        whole = model(inputs_embeds=embeds_BTE, attention_mask=mask_BT).logits
        first = model(inputs_embeds=embeds_BTE[:, :6], attention_mask=mask_BT[:, :6], use_cache=True)
        cache, steps = first.past_key_values, [first.logits]
        for t in (6, 7):
            steps.append(
                model(
                    inputs_embeds=embeds_BTE[:, t : t + 1],
                    attention_mask=mask_BT[:, : t + 1],
                    past_key_values=cache,
                    use_cache=True,
                ).logits
            )
        bare = model(inputs_embeds=embeds_BTE[:1, 3:]).logits
    assert (torch.cat(steps, dim=1) - whole)[mask_BT.bool()].abs().max() < 1e-4
    assert (bare - whole[:1, 3:]).abs().max() < 1e-4
    options = {"max_new_tokens": 10, "min_new_tokens": 10, "num_beams": 3, "do_sample": False, "pad_token_id": 0}
    both = model.generate(inputs_embeds=embeds_BTE, attention_mask=mask_BT, **options)
    alone = model.generate(inputs_embeds=embeds_BTE[:1, 3:], attention_mask=mask_BT[:1, 3:], **options)
    assert torch.equal(both[:1], alone)


def test_alibi_in_half_precision_gives_finite_logits(tmp_path: Path) -> None:
    shape = Shape(alibi=True, seed=6)
    write(tmp_path, "baichuan", shape)
    for dtype in (torch.float16, torch.bfloat16):
        model: Any = read(tmp_path).to(dtype)
        mask_BT = torch.tensor([[0] * 30 + [1, 1], [1] * 32])
        embeds_BTE = torch.randn(2, 32, shape.width, generator=torch.Generator().manual_seed(1)).to(dtype)
        assert model(inputs_embeds=embeds_BTE, attention_mask=mask_BT).logits.isfinite().all()


def test_baichuan2_normalises_its_trained_head_and_saves_it_as_trained(tmp_path: Path) -> None:
    shape = Shape(norm_head=True, seed=8)
    tensors = write(tmp_path / "a", "baichuan", shape)
    model: Any = read(tmp_path / "a")
    out = model(inputs_embeds=torch.randn(1, 4, shape.width)).logits
    out.logsumexp(dim=-1).sum().backward()
    weight = model.lm_head.weight
    # the length of a row has no effect, so that the gradient is orthogonal to it
    assert ((weight.grad * weight).sum(dim=1).abs() < 1e-4 * weight.grad.norm()).all()
    with torch.no_grad():
        weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(2))
    model.save_pretrained(tmp_path / "b")
    assert torch.equal(load_file(tmp_path / "b" / "model.safetensors")["lm_head.weight"], weight.detach())
    trained = tensors | {"lm_head.weight": weight.detach()}
    assert error("baichuan", shape, trained, read(tmp_path / "b")) < 1e-4


@pytest.mark.parametrize("family", ["internlm2", "chatglm", "baichuan", "qwen"])
def test_int8_weights_equal_those_of_a_native_copy(tmp_path: Path, family: str) -> None:
    pytest.importorskip("bitsandbytes")
    shape = replace(FULL, bias=False) if family in ("internlm2", "baichuan") else FULL
    write(tmp_path / "a", family, shape, shards=2)
    eight = BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0)
    published: Any = read(tmp_path / "a", quantization=eight)
    whole: Any = read(tmp_path / "a")
    native: Any = type(whole).__bases__[0]  # transformers' own class
    fields = {name: value for name, value in whole.config.to_dict().items() if name != "model_type"}
    copy = native(native.config_class.from_dict(fields))
    copy.load_state_dict(whole.state_dict())
    copy.save_pretrained(tmp_path / "b")
    again = native.from_pretrained(tmp_path / "b", quantization_config=eight)
    layers = [name for name, parameter in published.named_parameters() if parameter.dtype == torch.int8]
    assert len(layers) == shape.layers * (6 if family == "chatglm" else 7)
    for name in layers:
        first, second = published.get_parameter(name), again.get_parameter(name)
        assert torch.equal(first, second), name
        assert torch.equal(first.SCB, second.SCB), name


def test_the_positions_of_qwen_end_where_the_original_begins_to_scale(tmp_path: Path) -> None:
    write(tmp_path, "qwen", FULL)
    for ntk, logn, room in ((True, False, 40), (False, True, 40), (False, False, 64)):
        claim(tmp_path, seq_length=40, use_dynamic_ntk=ntk, use_logn_attn=logn)
        assert read(tmp_path).config.max_position_embeddings == room


def test_the_oldest_qwen_fields_are_read(tmp_path: Path) -> None:
    tensors = write(tmp_path, "qwen", FULL)
    file = tmp_path / "config.json"
    old = {
        "num_hidden_layers": "n_layer",
        "hidden_size": "n_embd",
        "num_attention_heads": "n_head",
        "intermediate_size": "ffn_hidden_size",
    }
    file.write_text(json.dumps({old.get(name, name): value for name, value in json.loads(file.read_text()).items()}))
    assert error("qwen", FULL, tensors, read(tmp_path)) < 1e-4


@pytest.mark.parametrize("alibi", [False, True])
def test_a_resaved_baichuan_keeps_its_positions(tmp_path: Path, alibi: bool) -> None:
    write(tmp_path / "a", "baichuan", Shape(alibi=alibi))
    read(tmp_path / "a").save_pretrained(tmp_path / "b")
    assert json.loads((tmp_path / "b" / "config.json").read_text())["max_position_embeddings"] == 64
    assert read(tmp_path / "b").config.alibi is alibi


def test_random_checkpoints_depend_on_the_seed() -> None:
    first, same, other = (draw("chatglm", Shape(seed=seed)) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["transformer.output_layer.weight"], other["transformer.output_layer.weight"])


def test_baichuan2_is_recognised_by_its_vocabulary() -> None:
    assert baichuan.native({"vocab_size": 125696, "max_position_embeddings": 4096})["norm_head"] is True
    assert baichuan.native({"vocab_size": 64000, "max_position_embeddings": 4096})["norm_head"] is False
