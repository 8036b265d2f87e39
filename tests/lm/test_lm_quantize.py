"""Quantised weights give correct gradients and reports that do not depend on the batch; refusals are one line."""

import json
import shutil
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear8bitLt
from quantised_model import GOLDEN, MODES, generator, loaded, write_llama
from small_model import batch
from torch import nn
from transformers import BitsAndBytesConfig, LlamaForCausalLM

from r2gen.config.decoding import Decoding
from r2gen.errors import UserError
from r2gen.lm import quantize
from r2gen.lm.quantize import (
    is_quantised,
    keep_in_place,
    quantised_layers,
    recorded_mode,
    use_frozen_backward,
    weight_bytes,
)
from r2gen.model.report_generator import ReportGenerator
from r2gen.model.tune import sizes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("llama"))


def gradients(model: ReportGenerator) -> dict[str, torch.Tensor]:
    model(batch(0, 1, 2, 3)).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("lm", ["frozen", "lora"])
@pytest.mark.parametrize("mode", MODES)
def test_gradients_reach_the_trained_parts_and_checkpointing_changes_none(folder: Path, mode: str, lm: str):
    plain, again = (
        gradients(generator(folder, mode, lm=lm)),
        gradients(generator(folder, mode, lm=lm, checkpointing=True)),
    )
    assert plain.keys() == again.keys()
    assert all(torch.equal(plain[name], again[name]) for name in plain)
    assert all(bool(plain[name].any()) for name in plain if name.startswith("projector") or "lora_" in name)
    assert any("lora_A" in name for name in plain) == (lm == "lora")


@pytest.mark.parametrize("mode", MODES)
def test_generation_does_not_change_the_gradients(folder: Path, mode: str):
    """bitsandbytes 0.50.2 repacks 4-bit weights in a pass without gradients, for a kernel without a backward pass."""
    model = generator(folder, mode)
    before = {name: gradient.clone() for name, gradient in gradients(model).items()}
    model.zero_grad()
    model.eval().generate(batch(0, 1), Decoding(max_new_tokens=3))
    after = gradients(model.train())
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(("mode", "least"), [("int8", 0.99), ("int8_weight_only", 0.99), ("nf4", 0.6), ("fp8", 0.9)])
def test_the_gradient_of_the_projector_is_close_to_that_of_fp32(folder: Path, mode: str, least: float):
    name = "projector.linear.weight"
    exact, rounded = gradients(generator(folder, "none"))[name], gradients(generator(folder, mode))[name]
    assert least < torch.cosine_similarity(exact.flatten(), rounded.flatten(), dim=0).item() < 1 - 1e-7


PROMPTS = torch.randn(8, 9, 64, generator=torch.Generator().manual_seed(3)) * 2
DECODINGS = [Decoding(max_new_tokens=6, repetition_penalty=1.2), Decoding(max_new_tokens=5, num_beams=3)]


@pytest.mark.parametrize("decoding", DECODINGS, ids=["greedy", "beam3"])
@pytest.mark.parametrize("mode", ["int8", "fp8"])  # they round activations
def test_a_report_does_not_depend_on_its_batch(folder: Path, mode: str, decoding: Decoding):
    lm = loaded(folder, mode)
    mask = torch.ones(8, 9, dtype=torch.bool)
    for row in range(8):
        mask[row, : row % 4] = False  # different lengths, so that a batch has padding
    together = lm.generate(PROMPTS, mask, decoding)
    alone = [lm.generate(PROMPTS[i : i + 1], mask[i : i + 1], decoding)[0] for i in range(8)]
    order = torch.tensor([5, 2, 7, 0, 3, 6, 1, 4])
    shuffled = lm.generate(PROMPTS[order], mask[order], decoding)
    assert together == alone
    assert [shuffled[order.tolist().index(i)] for i in range(8)] == alone
    assert len({generated.text for generated in alone}) > 3


@pytest.mark.parametrize("mode", MODES)
def test_only_layers_inside_the_blocks_are_quantised_and_their_bytes_are_counted(folder: Path, mode: str):
    lm, whole = loaded(folder, mode), loaded(folder, "none")
    assert len(quantised_layers(lm.model)) == 2 * 7
    assert not is_quantised(lm.model.get_input_embeddings().weight)
    assert not is_quantised(lm.model.get_output_embeddings().weight)
    linear = {name: layer for name, layer in whole.model.named_modules() if name in quantised_layers(lm.model)}
    count = sum(layer.weight.numel() for layer in linear.values())
    rows = sum(layer.weight.shape[0] for layer in linear.values())
    expected = {
        "int8": count + 4 * rows,
        "int8_weight_only": count + 5 * rows,
        "nf4": count / 2 + count / 64,
        "fp8": count + 4 * rows,
    }[mode]
    weight = weight_bytes(lm.model) - (weight_bytes(whole.model) - 4 * count)
    assert expected <= weight <= expected + (14 * 1200 if mode == "nf4" else 0)  # nf4 has two tables a layer
    parts_of = sizes(generator(folder, mode))
    assert parts_of[2].total == sum(parameter.numel() for parameter in whole.model.parameters())


def test_bitsandbytes_does_not_warn_about_casts(folder: Path, capfd: pytest.CaptureFixture[str]):
    gradients(generator(folder, "int8"))
    assert "cast" not in "".join(capfd.readouterr())


def test_nf4_refuses_widths_that_bitsandbytes_computes_wrongly_on_the_cpu():
    with pytest.raises(UserError, match=r"quant=nf4.*mlp\.down_proj.*104.*multiple of 64"):
        loaded(GOLDEN, "nf4")


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(quantize, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"quant=int8 needs the package bitsandbytes: pip install .*'\.\[quant\]'"):
        loaded(GOLDEN, "int8")


def test_a_package_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "bitsandbytes.py").write_text("raise ImportError('libcudart.so.99: cannot open')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "bitsandbytes", raising=False)
    with pytest.raises(UserError, match=r"quant=int8: the package bitsandbytes cannot be imported \(libcudart"):
        loaded(GOLDEN, "int8")


@pytest.fixture(scope="module")
def prequantised(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An int8 checkpoint as transformers saves it, with the default threshold of bitsandbytes."""
    out: Path = tmp_path_factory.mktemp("int8")
    LlamaForCausalLM.from_pretrained(folder, quantization_config=BitsAndBytesConfig(load_in_8bit=True)).save_pretrained(
        out
    )
    for file in folder.glob("*token*"):
        shutil.copy(file, out)
    return out


def test_a_checkpoint_quantised_before_is_loaded_without_its_outlier_threshold(folder: Path, prequantised: Path):
    lm, fresh = loaded(prequantised, "none"), loaded(folder, "int8")
    assert {layer.state.threshold for layer in quantised_layers(lm.model).values()} == {0.0}  # type: ignore[union-attr]
    assert recorded_mode(fresh.model, mode="int8") == "int8"
    assert recorded_mode(lm.model, mode="none") == "int8 (in the checkpoint)"
    mask = torch.ones(8, 9, dtype=torch.bool)
    decoding = replace(DECODINGS[0], max_new_tokens=3)
    assert lm.generate(PROMPTS, mask, decoding) == fresh.generate(PROMPTS, mask, decoding)


@pytest.mark.parametrize(
    ("config", "recorded"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "nf4"),
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "gptq", "bits": 4}, "gptq 4 bits"),
        ({"quant_method": "awq", "bits": 4}, "awq 4 bits"),
        ({"quant_method": "compressed-tensors", "format": "pack-quantized"}, "compressed-tensors pack-quantized"),
    ],
)
def test_a_checkpoint_quantised_before_is_recorded_as_what_it_is(config: dict[str, Any], recorded: str):
    class Quantizer:
        quantization_config = SimpleNamespace(to_dict=lambda: config)

    model: Any = nn.Module()
    model.hf_quantizer = Quantizer()
    assert recorded_mode(model, mode="none") == f"{recorded} (in the checkpoint)"


def test_a_checkpoint_quantised_before_is_not_quantised_again(prequantised: Path):
    with pytest.raises(UserError, match=r"quant=nf4.*quantised already"):
        loaded(prequantised, "nf4")


@pytest.mark.parametrize(
    ("method", "package"), [("gptq", "optimum"), ("awq", "gptqmodel"), ("compressed-tensors", "compressed")]
)
def test_a_format_without_its_loader_is_refused_with_the_name_of_the_loader(
    folder: Path, tmp_path: Path, method: str, package: str
):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {"quant_method": method, "bits": 4, "group_size": 64}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(UserError, match=package) as error:
        loaded(tmp_path, "none")
    assert "\n" not in str(error.value).strip()


def test_deepspeed_does_not_move_a_model_that_is_on_several_devices():
    spread, projector = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    spread.hf_device_map = {"layers.0": 0, "layers.1": 1}  # type: ignore[assignment]
    model = torch.nn.ModuleDict({"lm": spread, "projector": projector})
    keep_in_place(model)
    model.to(torch.float64)  # DeepSpeed calls it with a device instead of a dtype
    assert (spread.weight.dtype, projector.weight.dtype) == (torch.float32, torch.float64)


@pytest.mark.parametrize("bias", [False, True])
def test_the_backward_pass_of_int8_is_that_of_bitsandbytes_and_keeps_no_input(bias: bool):
    random = torch.Generator().manual_seed(0)
    linear = nn.Linear(128, 192, bias=bias)
    input, gradient = torch.randn(3, 5, 128, generator=random), torch.randn(3, 5, 192, generator=random)

    def layer() -> nn.Module:
        return nn.Sequential(int8_linear(linear)).eval().requires_grad_(False)

    def outcome(model: nn.Module) -> tuple[torch.Tensor, torch.Tensor, bool]:
        leaf = input.clone().requires_grad_()
        hidden = leaf * 1
        alive, output = weakref.ref(hidden), model(hidden)
        del hidden
        is_kept = alive() is not None
        output.backward(gradient)
        return output.detach(), leaf.grad, is_kept

    theirs, model = outcome(layer()), layer()
    use_frozen_backward(model)
    ours = outcome(model)
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(model(input), theirs[0])  # without gradients
    torch.testing.assert_close(ours[1], theirs[1])
    assert (ours[2], theirs[2]) == (False, True)


def test_compiled_layers_of_int8_that_share_an_input_give_the_same_gradient():
    """torch 2.14 cannot compile two autograd.Functions in which the sizes of a shared input are read."""
    layers = [int8_linear(nn.Linear(64, 64, bias=False)) for _ in range(2)]
    model = nn.ModuleList(layers).eval().requires_grad_(False)
    use_frozen_backward(model)

    def product(input: torch.Tensor) -> torch.Tensor:
        query, key = (layer(input) for layer in model)
        return query * key

    compiled = torch.compile(product, dynamic=True, backend="aot_eager")
    for length in (5, 7):
        gradients = []
        for multiply in (product, compiled):
            leaf = torch.randn(3, length, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
            multiply(leaf * 1).sum().backward()
            gradients.append(leaf.grad)
        torch.testing.assert_close(*gradients)


def int8_linear(linear: nn.Linear) -> Linear8bitLt:
    bias = linear.bias is not None
    made = Linear8bitLt(linear.in_features, linear.out_features, bias=bias, has_fp16_weights=False, threshold=0.0)
    made.load_state_dict(linear.state_dict())
    return made.to("cpu")
