"""Where kernels that are written in Triton are used."""

from functools import cache

import torch

try:
    import triton
except ImportError:  # a CPU build of torch
    triton = None

MEASURED = (9, 0)  # the compute capability of H100 and H200, for which the tiles of the kernels were chosen


def measured(device: torch.device | None = None) -> bool:
    """Whether this GPU, by default the current one, is of the kind that the kernels were measured on."""
    return torch.cuda.get_device_capability(device) == MEASURED


@cache
def triton_works() -> bool:
    """Whether Triton starts kernels here: it needs a C compiler and Python's headers for a library of its own."""
    if triton is None:
        return False
    try:
        triton.runtime.driver.active.utils  # noqa: B018
    except Exception:  # of several types: no compiler, no headers, or a compiler that fails
        return False
    return True
