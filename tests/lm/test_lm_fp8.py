"""fp8 layers compute the product of the rounded values, row by row; casts and batches change nothing."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_losses import small_lm
from quantised_model import GOLDEN, loaded, write_llama
from small_model import TOKENIZER
from torch import nn
from torch._dynamo.utils import counters
from transformers import LlamaConfig, LlamaForCausalLM

from r2gen.data.collate import NO_TARGET
from r2gen.errors import UserError
from r2gen.lm import fp8 as module
from r2gen.lm import random_lm
from r2gen.lm.causal import CausalLM
from r2gen.lm.compile import compile_layers
from r2gen.lm.fp8 import Fp8Linear, prepare_backward, quantise_rows, to_fp8
from r2gen.lm.rows import layout
from r2gen.tasks.check.tensors import not_finite


def layer(dtype: torch.dtype = torch.float32, *, bias: bool = False) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(256, 128, bias=bias).to(dtype).requires_grad_(False)


def inputs(rows: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(rows, 256, generator=torch.Generator().manual_seed(1)).to(dtype)


def relative_error(close: torch.Tensor, exact: torch.Tensor) -> float:
    return ((close.float() - exact.float()).norm() / exact.float().norm()).item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_layer_is_within_four_percent_of_the_exact_one(dtype: torch.dtype):
    """The three bits of e4m3 round by 2.6 % on average (root mean square), in the weight and in the activation."""
    exact, x = layer(bias=True), inputs(64)
    output = Fp8Linear(layer(dtype, bias=True))(x.to(dtype))
    assert output.dtype == dtype
    assert 0.02 < relative_error(output, exact(x)) < 0.04


def test_the_size_of_a_row_changes_its_relative_error_not_at_all():
    fp8, x = Fp8Linear(layer()), inputs(4)
    sizes = torch.tensor([[2.0**-30], [1.0], [2.0**10], [2.0**40]])
    assert torch.equal(fp8(x * sizes), fp8(x) * sizes)


def test_a_row_does_not_depend_on_the_others():
    x = inputs(9)
    alone = [quantise_rows(row[None]) for row in x]
    values, scales = quantise_rows(x)
    assert torch.equal(values.view(torch.int8), torch.cat([value.view(torch.int8) for value, _ in alone]))
    assert torch.equal(scales, torch.cat([scale for _, scale in alone]))


def test_a_row_of_zeros_gives_zeros_and_nan_stays_nan():
    x = inputs(3)
    x[0], x[1, 5] = 0, torch.nan
    output = Fp8Linear(layer())(x)
    assert not output[0].any()
    assert output[1].isnan().all()
    assert output[2].isfinite().all()


def test_the_gradient_is_that_of_the_rounded_weight():
    plain = layer()
    fp8, x = Fp8Linear(plain), inputs(7).view(1, 7, 256).requires_grad_()
    towards = torch.randn(1, 7, 128, generator=torch.Generator().manual_seed(2))
    fp8(x).backward(towards)
    weight, scale = quantise_rows(plain.weight)
    torch.testing.assert_close(x.grad, towards @ (weight.float() * scale), rtol=1e-6, atol=1e-6)
    assert torch.equal(fp8(x), fp8(x.detach()))


def test_in_training_the_gradient_is_rounded_by_row_and_stays_close():
    fp8, plain = Fp8Linear(layer()), Fp8Linear(layer())
    with torch.no_grad():  # rows of very different sizes, whose scales must reach the gradient
        fp8.scale[:5] = plain.scale[:5] = (plain.scale[:5].view(torch.float32) * 50).view(torch.int32)
    prepare_backward(fp8)
    assert fp8.transposed is not None
    assert torch.equal(fp8.transposed, plain.weight.t())
    gradients = []
    for used in (plain, fp8):
        input_NK = inputs(6).requires_grad_(True)
        output_NO = used(input_NK)
        output_NO.backward(torch.linspace(0.1, 3, 6)[:, None] * output_NO.detach().tanh())
        gradients.append(input_NK.grad)
    assert 0 < relative_error(gradients[1], gradients[0]) < 0.04


def test_a_cast_of_the_model_leaves_the_bytes():
    fp8 = Fp8Linear(layer(bias=True))
    before = [fp8.weight.clone(), fp8.scale.clone()]
    fp8.to(torch.bfloat16)
    assert fp8.bias.dtype == torch.bfloat16
    assert [torch.equal(a, b) for a, b in zip(before, [fp8.weight, fp8.scale], strict=True)] == [True, True]


def test_a_width_that_fp8_cannot_multiply_is_refused_before_any_layer_is_replaced():
    shape: dict[str, Any] = {"vocab_size": 32, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(**shape, intermediate_size=40))
    with pytest.raises(UserError, match=r"quant=fp8: .*mlp.gate_proj has 40 x 32 weights.*multiples of 16.*quant=int8"):
        to_fp8(model)
    assert not any(isinstance(part, Fp8Linear) for part in model.modules())


def test_a_golden_checkpoint_with_such_a_width_is_refused():
    with pytest.raises(UserError, match="quant=fp8"):
        loaded(GOLDEN, "fp8")


def test_it_is_one_graph_for_torch_compile_with_the_same_gradient():
    fp8 = Fp8Linear(layer())
    plain, compiled = inputs(5).requires_grad_(), inputs(5).requires_grad_()
    fp8(plain).square().sum().backward()
    torch.compile(fp8, fullgraph=True, backend="aot_eager")(compiled).square().sum().backward()
    assert plain.grad is not None
    torch.testing.assert_close(compiled.grad, plain.grad, rtol=1e-5, atol=1e-5)


@pytest.fixture
def rounded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let fp8 layers compute as on a GPU, with rows of 64 values as wide ones: the widths the operator has rounded."""
    fp8_kernel = pytest.importorskip("r2gen.lm.fp8_kernel", reason="this torch has no triton")
    by_torch, widths = quantise_rows, list[int]()

    def on_cpu(values_NK: torch.Tensor, factor_1K: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        widths.append(values_NK.shape[-1])
        with monkeypatch.context() as context:
            context.setattr(module, "multiplies_fp8", lambda device: False)
            return by_torch(values_NK, factor_1K)

    fp8_kernel.quantise_rows_on_gpu.register_kernel("cpu")(on_cpu)
    monkeypatch.setattr(module, "multiplies_fp8", torch.compiler.assume_constant_result(lambda device: True))
    monkeypatch.setattr(module, "WIDE", 64)
    monkeypatch.setattr(
        torch, "_scaled_mm", lambda a, b, *, scale_a, scale_b, **_: a.float() @ b.float() * scale_a * scale_b
    )
    return widths


def test_compiled_layers_round_wide_rows_by_the_operator_of_a_gpu(rounded: list[int]):
    """Up and down, as in a language model: one layer has wide values, and the other wide gradients."""
    layers = nn.Sequential(
        *(Fp8Linear(nn.Linear(*widths, bias=False).requires_grad_(False)) for widths in ((32, 96), (96, 32)))
    )
    prepare_backward(layers)
    compiled = torch.compile(layers, backend="aot_eager", dynamic=True, fullgraph=True)
    for rows in (8, 9):
        results = []
        for model in (layers, compiled):
            rounded.clear()
            x = torch.randn(rows, 32, generator=torch.Generator().manual_seed(rows)).requires_grad_()
            output = model(x)
            results.append((output, *torch.autograd.grad(output.square().sum(), x)))
            assert sorted(rounded) == ([32, 32, 96, 96] if model is layers else [96, 96])
        for plain, by_compiler in zip(*results, strict=True):
            assert torch.equal(plain, by_compiler)


@pytest.mark.parametrize("fp8", [False, True])
def test_layers_are_compiled_once_for_all_lengths_and_batch_sizes(
    fp8: bool, rounded: list[int], monkeypatch: pytest.MonkeyPatch
):
    """torch compiles a function 8 times, and then silently no more."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))  # which needs no C++ compiler
    shape: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 96, "num_hidden_layers": 3}
    lm = random_lm(tokenizer=TOKENIZER, seed=0, num_attention_heads=2, **shape)
    assert isinstance(lm, CausalLM)
    lm.model.requires_grad_(False)
    lm.packs, lm.opening = True, (5, 9, 4)
    compile_layers(lm.model)
    if fp8:
        to_fp8(lm.model)
        prepare_backward(lm.model)
    torch._dynamo.reset()
    counters.clear()
    lengths = set()
    for studies, report in ((6, 20), (6, 40), (6, 70), (7, 70), (8, 90), (12, 90)):
        prompt_BT = torch.tensor([[*lm.opening, 7, 8]]).expand(studies, -1)
        report_BL = torch.full((studies, report), 6)
        for grad in (True, False, True):
            with torch.set_grad_enabled(grad):
                embeds_BTE = lm.embed(prompt_BT).detach().requires_grad_()
                loss = lm.loss(embeds_BTE, torch.ones_like(prompt_BT), report_BL).sum()
            if grad:
                loss.backward()
        lengths.add(layout(torch.ones_like(prompt_BT), report_BL, packed=True, opening=3).source_RS.shape[1])
    assert len(lengths) == 6
    assert bool(rounded) == fp8
    assert counters["frames"]["ok"] == counters["stats"]["unique_graphs"] == 2  # the last layer has its own
    torch._dynamo.reset()


def test_a_batch_without_any_target_has_a_loss_of_0():
    lm = small_lm(width=32)
    lm.model.requires_grad_(False)
    to_fp8(lm.model)
    prepare_backward(lm.model)
    embeds_BTE = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss_B = lm.loss(embeds_BTE, torch.ones(2, 3, dtype=torch.bool), torch.full((2, 2), NO_TARGET))
    loss_B.sum().backward()
    assert loss_B.tolist() == [0, 0]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_task_check_finds_a_weight_that_is_not_finite(value: float):
    plain = layer()
    plain.weight[3, 5] = value
    assert not_finite(nn.Sequential(Fp8Linear(layer()))) is None
    assert not_finite(nn.Sequential(Fp8Linear(plain))) == "0.weight"


def test_logits_are_close_to_those_of_the_checkpoint(tmp_path: Path):
    folder = write_llama(tmp_path, scale=1)
    ids = torch.randint(3, 200, (4, 20), generator=torch.Generator().manual_seed(3))
    exact, rounded = (loaded(folder, mode).model(input_ids=ids).logits for mode in ("none", "fp8"))
    assert relative_error(rounded, exact) < 0.05
