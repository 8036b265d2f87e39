"""The Triton kernels of packed attention compute what their plain twin computes, forward and backward."""

import pytest
import torch
from interpreted import comparisons_that_are_equal

from r2gen.lm import packed_attention, packed_kernel, triton_support


@pytest.mark.skipif(packed_kernel.triton is None, reason="this torch has no triton")
@pytest.mark.parametrize(
    ("arguments", "comparisons"), [((), 11), pytest.param(("compiled",), 1, marks=pytest.mark.slow)]
)
def test_the_kernels_compute_what_their_plain_twin_computes(arguments: tuple[str, ...], comparisons: int) -> None:
    assert comparisons_that_are_equal("interpreted_packed_kernel.py", *arguments) == comparisons


def test_only_heads_and_studies_that_the_kernels_are_fast_for_use_them() -> None:
    assert packed_kernel.fits(128, 192)
    assert not packed_kernel.fits(96, 192)
    assert not packed_kernel.fits(256, 192)
    assert not packed_kernel.fits(128, packed_kernel.LONGEST + 1)


def test_without_a_c_compiler_torchs_kernel_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Driver:
        @property
        def active(self) -> None:
            raise RuntimeError("Failed to find C compiler. Please specify via CC environment variable")

    class Triton:
        class runtime:
            driver = Driver()

    def by_torch(query_SHD: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        return query_SHD

    monkeypatch.setattr(triton_support, "triton", Triton)
    assert not triton_support.triton_works.__wrapped__()
    monkeypatch.setattr(packed_attention, "_kernel", by_torch)
    monkeypatch.setattr(packed_attention, "_own_kernels", False)
    row_SHD, starts = torch.randn(64, 1, 64), torch.tensor([0, 64], dtype=torch.int32)
    result_SHD = packed_attention._by_kernel(
        row_SHD, row_SHD, row_SHD, starts, 64, scaling=None, window=None, opening=None
    )
    assert result_SHD is row_SHD
