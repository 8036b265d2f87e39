"""Time frozen linear layers in training, by how their weight is stored.

    PYTHONPATH=. python benchmarks/frozen_linear.py                                   7B, batches of 8, 32 and 64
    PYTHONPATH=. python benchmarks/frozen_linear.py --device cpu --width 256          in seconds, with figures of no use

The seven layers of a block of LLaMA-2 7B, forward and backward for their input. `ms` is the time of 32 such blocks on
the device, `host ms` the time that Python needs to start their kernels (a training is never faster than the larger of
the two), `kept` the bytes per token and block that stay in memory for the backward pass, `error` the relative error of
the gradient of the input. `int8 (bitsandbytes)` is Linear8bitLt as its package has it, `int8` with r2gen/lm/int8.py.
"""

import argparse
import gc
import time
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from r2gen.lm.fp8 import Fp8Linear
from r2gen.lm.quantize import use_frozen_backward

BLOCKS = 32
REPEATS = 10


def shapes(width: int) -> list[tuple[int, int]]:
    """Input and output widths of query, key, value, output, gate, up and down."""
    inner = width * 43 // 16  # 11,008 for 4,096
    return [(width, width)] * 4 + [(width, inner)] * 2 + [(inner, width)]


def bitsandbytes_8(linear: nn.Linear) -> nn.Module:
    from bitsandbytes.nn import Linear8bitLt

    made = Linear8bitLt(linear.in_features, linear.out_features, bias=False, has_fp16_weights=False, threshold=0.0)
    made.load_state_dict(linear.state_dict())
    return made.to(linear.weight.device)


def own_8(linear: nn.Linear) -> nn.Module:
    made = nn.Sequential(bitsandbytes_8(linear))
    use_frozen_backward(made)
    return made


def nf4(linear: nn.Linear, *, double: bool) -> nn.Module:
    from bitsandbytes.nn import Linear4bit

    made = Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=False,
        compute_dtype=linear.weight.dtype,
        compress_statistics=double,
        quant_type="nf4",
    )
    made.load_state_dict(linear.state_dict())
    return made.to(linear.weight.device)


def torchao_8(linear: nn.Linear) -> nn.Module:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    made = nn.Sequential(linear)
    quantize_(made, Int8WeightOnlyConfig(set_inductor_config=False))
    return made


KINDS: dict[str, Callable[[nn.Linear], nn.Module]] = {
    "none": lambda linear: linear,
    "int8 (bitsandbytes)": bitsandbytes_8,
    "int8": own_8,
    "nf4": lambda linear: nf4(linear, double=False),
    "nf4 double_quant": lambda linear: nf4(linear, double=True),
    "int8_weight_only": torchao_8,
    "fp8": Fp8Linear,
}


def measure(layers: nn.ModuleList, linears: list[nn.Linear], tokens: int, *, device: torch.device) -> list[float]:
    """Milliseconds of 32 blocks on the device and on the host, bytes kept per token, and the error of the gradient."""
    dtype = linears[0].weight.dtype
    inputs = [torch.randn(tokens, linear.in_features, device=device, dtype=dtype) for linear in linears]
    gradients = [torch.randn(tokens, linear.out_features, device=device, dtype=dtype) for linear in linears]
    leaves = [values.clone().requires_grad_() for values in inputs]

    def block() -> None:
        for layer, leaf, gradient in zip(layers, leaves, gradients, strict=True):
            layer(leaf).backward(gradient)

    block()
    error = max(
        ((leaf.grad.float() - exact).norm() / exact.norm()).item()
        for leaf, linear, gradient in zip(leaves, linears, gradients, strict=True)
        for exact in [gradient.float() @ linear.weight.float()]
        if leaf.grad is not None
    )
    wait(device)
    best, host = [], []
    for _ in range(REPEATS):
        began = time.perf_counter()
        block()
        host.append(time.perf_counter() - began)
        wait(device)
        best.append(time.perf_counter() - began)
    saved = sum(bytes_kept(layer, values) for layer, values in zip(layers, inputs, strict=True))
    return [1e3 * BLOCKS * min(best), 1e3 * BLOCKS * min(host), saved / tokens, error]


def bytes_kept(layer: nn.Module, values: torch.Tensor) -> int:
    """The bytes of its input that a layer keeps until its backward pass; in a model some layers share an input."""
    leaf = values.clone().requires_grad_()
    hidden = leaf * 1
    alive, output = weakref.ref(hidden), layer(hidden)
    size = hidden.nbytes
    del hidden
    gc.collect()
    is_alive = alive() is not None
    del output
    return size if is_alive else 0


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", default="1176,4704,9408")
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device, counts = torch.device(options.device), [int(count) for count in options.tokens.split(",")]
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    print(f"{'kind':<20} {'tokens':>7} {'ms':>8} {'host ms':>8} {'kept':>8} {'error':>8}")
    for kind in options.kinds.split(","):
        torch.manual_seed(0)
        linears = [nn.Linear(*shape, bias=False, device=device, dtype=dtype) for shape in shapes(options.width)]
        copies: list[Any] = [
            nn.Linear(*shape, bias=False, device=device, dtype=dtype) for shape in shapes(options.width)
        ]
        for copy, linear in zip(copies, linears, strict=True):
            copy.load_state_dict(linear.state_dict())
        try:
            layers = nn.ModuleList([KINDS[kind](copy) for copy in copies]).eval().requires_grad_(False)
            for tokens in counts:
                cells = measure(layers, linears, tokens, device=device)
                shown = "{:8.1f} {:8.1f} {:8.0f} {:8.4f}".format(*cells)
                print(f"{kind:<20} {tokens:>7} {shown}", flush=True)
        except Exception as error:
            print(f"{kind:<20} no figure: {type(error).__name__}: {str(error)[:120]}", flush=True)


if __name__ == "__main__":
    main()
