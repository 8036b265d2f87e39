"""Linear layers for the few rows of a decoding step, whose time is that of reading the weight: a Triton kernel.

A program multiplies some columns of the weight by all rows. If the columns make too few programs for a GPU, the input
features are divided into parts with a program each. The parts are summed in fp32 in one order by plain torch code,
which torch.compile fuses into the operation that follows. So the kernel is used where the layers are compiled.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from r2gen.lm.fp8 import FP8, Fp8Linear, quantise_rows
from r2gen.lm.triton_support import measured

try:
    import triton
    import triton.language as tl
except ImportError:  # a CPU build of torch
    triton = None

# N rows of activations, K input features, O output features, P parts of the input features

LIMIT = 64  # rows; a product of more is not bound by the bandwidth alone
MULTIPLE_OF_INNER, MULTIPLE_OF_OUTER = 256, 128  # of the widths of a weight, for every tile
MOST_PARTS = 4  # torch.compile fuses a sum of fewer than 8


@dataclass(frozen=True)
class Tile:
    """What a program multiplies at a time, and how many programs a product should have at least."""

    columns: int
    depth: int
    warps: int
    stages: int
    programs: int

    def parts(self, inner: int, outer: int) -> int:
        """Into how many parts the input features are divided: as few as give enough programs."""
        parts = 1
        while parts < MOST_PARTS and outer // self.columns * parts < self.programs and inner >= 2 * parts * self.depth:
            parts *= 2
        return parts


FEWEST = 16  # rows of a product of tensor cores, to which fewer are padded
TILE_OF_FEWEST, TILE_OF_MORE = Tile(64, 128, 4, 5, 128), Tile(64, 128, 4, 4, 128)  # in 16 bits
TILE_FP8 = Tile(64, 256, 4, 4, 128)

if triton is not None:

    @triton.jit
    def _multiply(  # type: ignore[no-untyped-def]
        values,  # [N, K], contiguous, in the dtype of the weight
        weight,  # [O, K], contiguous
        products,  # [P, N, O], contiguous
        rows,
        inner,
        outer,
        inner_of_part,
        ROWS: tl.constexpr,
        COLUMNS: tl.constexpr,
        DEPTH: tl.constexpr,
    ):
        part = tl.program_id(1)
        row, column = tl.arange(0, ROWS), tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
        used = row < rows
        total = tl.zeros([COLUMNS, ROWS], tl.float32)
        first = part * inner_of_part
        for start in range(first, tl.minimum(first + inner_of_part, inner), DEPTH):
            at = start + tl.arange(0, DEPTH)
            w = tl.load(weight + column[:, None] * inner + at[None, :])
            x = tl.load(values + row[:, None] * inner + at[None, :], mask=used[:, None], other=0.0)
            total = tl.dot(w, tl.trans(x), total)
        tl.store(
            products + (part * rows + row)[None, :] * outer + column[:, None],
            total.to(products.dtype.element_ty),
            mask=used[None, :],
        )


def tile_of(rows: int, dtype: torch.dtype) -> Tile:
    return TILE_FP8 if dtype == FP8 else TILE_OF_FEWEST if rows <= FEWEST else TILE_OF_MORE


def _padded(rows: int) -> int:
    return max(FEWEST, triton.next_power_of_2(rows))


def partial_products(
    values_NK: torch.Tensor, weight_OK: torch.Tensor, *, tile: Tile, parts: int, dtype: torch.dtype
) -> torch.Tensor:
    """The product of each part of the input features [P, N, O], accumulated in fp32, for at most LIMIT rows."""
    (rows, inner), outer = values_NK.shape, len(weight_OK)
    products_PNO = torch.empty(parts, rows, outer, dtype=dtype, device=values_NK.device)
    _multiply[(outer // tile.columns, parts)](
        values_NK.contiguous(),
        weight_OK,
        products_PNO,
        rows,
        inner,
        outer,
        triton.cdiv(inner // tile.depth, parts) * tile.depth,
        ROWS=_padded(rows),
        COLUMNS=tile.columns,
        DEPTH=tile.depth,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    return products_PNO


def linear(
    values_NK: torch.Tensor, weight_OK: torch.Tensor, bias_O: torch.Tensor | None, *, tile: Tile | None = None
) -> torch.Tensor:
    """F.linear for at most LIMIT rows in 16 bits and a weight that `fits`; `tile` is chosen by the number of rows."""
    tile = tile or tile_of(len(values_NK), weight_OK.dtype)
    parts = tile.parts(*reversed(weight_OK.shape))
    if parts == 1 and len(values_NK) > FEWEST:  # as fast as any kernel
        return F.linear(values_NK, weight_OK, bias_O)
    if parts == 1 and bias_O is None:
        return partial_products(values_NK, weight_OK, tile=tile, parts=1, dtype=values_NK.dtype)[0]
    output_NO = partial_products(values_NK, weight_OK, tile=tile, parts=parts, dtype=torch.float32).sum(0)
    return (output_NO if bias_O is None else output_NO + bias_O).to(values_NK.dtype)


def linear_fp8(
    values_NK: torch.Tensor, weight_OK: torch.Tensor, scale_O1: torch.Tensor, *, tile: Tile | None = None
) -> torch.Tensor:
    """The product of Fp8Linear for at most LIMIT rows, whose values are rounded to e4m3 with a scale per row."""
    tile = tile or tile_of(len(values_NK), weight_OK.dtype)
    parts = tile.parts(*reversed(weight_OK.shape))
    rounded_NK, scale_N1 = quantise_rows(values_NK)
    output_NO = partial_products(rounded_NK, weight_OK, tile=tile, parts=parts, dtype=torch.float32).sum(0)
    return (output_NO * scale_N1 * scale_O1.t()).to(values_NK.dtype)


class FewRowsLinear(nn.Linear):
    """nn.Linear in 16 bits with the kernel, for few rows and without gradients."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not _has_few_rows(input) or input.dtype != self.weight.dtype:
            return F.linear(input, self.weight, self.bias)
        output_NO = linear(input.reshape(-1, self.in_features), self.weight, self.bias)
        return output_NO.view(*input.shape[:-1], -1)


class FewRowsFp8Linear(Fp8Linear):
    """Fp8Linear with the kernel, for few rows and without gradients."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if not _has_few_rows(input):
            return super().forward(input)
        values_NK = input.reshape(-1, self.in_features)
        output_NO = linear_fp8(values_NK, self.weight.view(FP8), self.scale.view(torch.float32))
        output = output_NO.view(*input.shape[:-1], -1)
        return output if self.bias is None else output + self.bias


def _has_few_rows(input: torch.Tensor) -> bool:
    return not torch.is_grad_enabled() and 0 < input.shape[:-1].numel() <= LIMIT


FEW_ROWS: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: FewRowsLinear, Fp8Linear: FewRowsFp8Linear}
DTYPES = (torch.bfloat16, torch.float16, torch.int8)  # int8: the bits of e4m3


def fits(weight_OK: torch.Tensor) -> bool:
    """Whether the kernel multiplies by this weight of an nn.Linear or Fp8Linear."""
    outer, inner = weight_OK.shape
    return (
        weight_OK.device.type == "cuda"
        and measured(weight_OK.device)
        and weight_OK.dtype in DTYPES
        and weight_OK.is_contiguous()
        and inner % MULTIPLE_OF_INNER == outer % MULTIPLE_OF_OUTER == 0
        and weight_OK.numel() < 2**31  # offsets are int32
    )


@contextmanager
def used(model: nn.Module) -> Iterator[None]:
    """Let the linear layers of a model whose weights fit use the kernel while the context lasts.

    The class of a layer is replaced, and not its `forward`: torch.compile compiles equal layers of equal classes once.
    """
    replaced: list[tuple[nn.Module, type[nn.Module]]] = []
    for layer in model.modules():
        own: type[nn.Module] = type(layer)
        if own not in FEW_ROWS:
            continue
        weight_OK = layer.get_parameter("weight")
        if type(weight_OK) is nn.Parameter and fits(weight_OK):  # torchao's tensors are classes of their own
            layer.__class__ = FEW_ROWS[own]
            replaced.append((layer, own))
    try:
        yield
    finally:
        for layer, own in replaced:
            layer.__class__ = own
