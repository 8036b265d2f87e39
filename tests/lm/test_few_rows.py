"""The kernel for few rows gives the products of F.linear and Fp8Linear, and layers use it only where it fits."""

import pytest
import torch
from interpreted import comparisons_that_are_equal
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from r2gen.lm import few_rows
from r2gen.lm.fp8 import Fp8Linear

needs_triton = pytest.mark.skipif(few_rows.triton is None, reason="this torch has no triton")


@needs_triton
def test_products_are_those_of_f_linear() -> None:
    assert comparisons_that_are_equal("interpreted_few_rows.py") == 21


@pytest.mark.parametrize(
    ("shape", "dtype", "device", "expected"),
    [
        ((4096, 11008), torch.bfloat16, "cuda", True),
        ((32000, 4096), torch.float16, "cuda", True),
        ((4096, 4096), torch.int8, "cuda", True),
        ((32001, 4096), torch.bfloat16, "cuda", False),
        ((4096, 896), torch.bfloat16, "cuda", False),
        ((4096, 4096), torch.float32, "cuda", False),
        ((4096, 4096), torch.bfloat16, "cpu", False),
        ((262144, 8192), torch.bfloat16, "cuda", False),
    ],
)
def test_weights_that_fit(
    shape: tuple[int, int], dtype: torch.dtype, device: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    with FakeTensorMode():
        assert few_rows.fits(torch.empty(shape, dtype=dtype, device=device)) is expected


def test_other_gpus_keep_the_plain_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton does not even compile e4m3 for an A100, on which Fp8Linear multiplies in fp32."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    with FakeTensorMode():
        for dtype in (torch.int8, torch.bfloat16):
            assert not few_rows.fits(torch.empty(4096, 4096, dtype=dtype, device="cuda"))


def test_layers_use_the_kernel_while_the_context_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(nn.Linear):
        pass

    class Quantised(torch.Tensor):
        pass

    layers = nn.Sequential(nn.Linear(256, 128), Fp8Linear(nn.Linear(256, 128)))
    others = nn.Sequential(Other(256, 128), nn.Linear(256, 128), nn.Linear(8, 8))
    others[1].weight = nn.Parameter(others[1].weight.detach().as_subclass(Quantised))
    monkeypatch.setattr(few_rows, "fits", lambda weight_OK: len(weight_OK) == 128)
    with few_rows.used(nn.ModuleList([layers, others])):
        assert [type(layer) for layer in layers] == [few_rows.FewRowsLinear, few_rows.FewRowsFp8Linear]
        assert [type(layer) for layer in others] == [Other, nn.Linear, nn.Linear]
    assert [type(layer) for layer in layers] == [nn.Linear, Fp8Linear]


@pytest.mark.parametrize("layer", [nn.Linear(256, 128), Fp8Linear(nn.Linear(256, 128))])
def test_many_rows_and_gradients_keep_the_plain_product(layer: nn.Linear, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few_rows, "fits", lambda weight_OK: True)
    many, few = torch.randn(5, 13, 256), torch.randn(2, 3, 256, requires_grad=True)
    expected = [layer(many), layer(few)]
    with few_rows.used(layer):
        with torch.no_grad():
            assert torch.equal(layer(many), expected[0])
        assert torch.equal(layer(few), expected[1])


@needs_triton
@pytest.mark.parametrize(
    ("rows", "inner", "outer", "parts"), [(3, 4096, 4096, 2), (36, 4096, 4096, 2), (36, 4096, 32000, 1)]
)
def test_few_columns_divide_the_input_features(rows: int, inner: int, outer: int, parts: int) -> None:
    assert few_rows.tile_of(rows, torch.bfloat16).parts(inner, outer) == parts


@pytest.mark.parametrize("tile", [few_rows.TILE_OF_FEWEST, few_rows.TILE_OF_MORE, few_rows.TILE_FP8])
def test_weights_that_fit_are_multiples_of_every_tile(tile: few_rows.Tile) -> None:
    assert few_rows.MULTIPLE_OF_INNER % tile.depth == few_rows.MULTIPLE_OF_OUTER % tile.columns == 0
