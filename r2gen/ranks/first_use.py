"""The first use of a GPU: it loads the driver's context, cuBLAS, kernels of attention and Triton, for seconds."""

import contextlib
import ctypes
import os
import sysconfig
import threading
from pathlib import Path


def use_gpu_early(local_rank: int) -> threading.Thread:
    """Use the GPU of this rank in another thread, while this one imports the rest of its packages."""
    thread = threading.Thread(target=_use, args=(local_rank,), name="first use of the GPU", daemon=True)
    thread.start()
    return thread


def _use(local_rank: int) -> None:
    _make_context(local_rank)
    try:
        import torch
        from torch.nn import functional as F
    except Exception:  # of many types, such as OSError for a library
        return  # the rank meets it too, and says so

    if local_rank >= torch.cuda.device_count():
        return  # pick_device says why
    try:
        matrix = torch.ones(64, 64, dtype=torch.bfloat16, device=torch.device("cuda", local_rank))
        (matrix @ matrix).sum().item()
        heads = matrix.view(1, 2, 16, 128)
        F.scaled_dot_product_attention(heads, heads, heads, is_causal=True)
        F.scaled_dot_product_attention(heads, heads, heads, attn_mask=matrix[:16, :16] > 0)  # another kernel
    except (RuntimeError, torch.cuda.DeferredCudaCallError):
        return  # an error that stays is raised where the job uses the GPU
    with contextlib.suppress(Exception), torch.cuda.device(local_rank):  # of many types, see lm/triton_support.py
        _use_triton()


def _make_context(ordinal: int) -> None:
    """Let the driver make the context of a GPU without Python's lock, which torch would hold for .2 s."""
    os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")  # as torch does
    with contextlib.suppress(OSError):  # no driver
        driver, device, context = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(), ctypes.c_void_p()
        if driver.cuInit(0) == 0 and driver.cuDeviceGet(ctypes.byref(device), ordinal) == 0:
            driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)


def _use_triton() -> None:
    """Launch a kernel: before its first one, Triton computes the hash of its own files.

    Not without Python's headers, since the C compiler that Triton calls would print an error.
    """
    if not Path(sysconfig.get_config_var("INCLUDEPY"), "Python.h").is_file():
        return
    import triton

    @triton.jit
    def nothing():  # type: ignore[no-untyped-def]
        pass

    nothing[(1,)]()
