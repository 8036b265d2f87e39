"""The Triton kernels of packed attention compute what their plain twin computes, forward and backward."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from r2gen.lm import packed_attention, packed_kernel


@pytest.mark.skipif(packed_kernel.triton is None, reason="this torch has no triton")
@pytest.mark.parametrize(
    ("arguments", "comparisons"), [((), 7), pytest.param(("compiled",), 1, marks=pytest.mark.slow)]
)
def test_the_kernels_compute_what_their_plain_twin_computes(arguments: tuple[str, ...], comparisons: int) -> None:
    """By Triton's interpreter, which must be switched on before the kernels are imported."""
    script = Path(__file__).parents[1] / "support" / "interpreted_packed_kernel.py"
    done = subprocess.run(
        [sys.executable, script, *arguments],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    if "only 0-dimensional arrays can be converted" in done.stderr:
        pytest.skip("the interpreter of Triton 3.6 does not run with NumPy 2.5")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("equal") == comparisons


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

    monkeypatch.setattr(packed_kernel, "triton", Triton)
    assert not packed_kernel.triton_works.__wrapped__()
    monkeypatch.setattr(packed_attention, "_kernel", by_torch)
    monkeypatch.setattr(packed_attention, "_own_kernels", False)
    row_SHD, starts = torch.randn(64, 1, 64), torch.tensor([0, 64], dtype=torch.int32)
    result_SHD = packed_attention._by_kernel(row_SHD, row_SHD, row_SHD, starts, 64, scaling=None, window=None)
    assert result_SHD is row_SHD
