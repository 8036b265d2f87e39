"""Measure how fast reports are generated:  python benchmarks/decode.py [--out FILE] [CASE ...]

    python benchmarks/decode.py                                    LLaMA-2 7B and Swin-B with random weights, on a GPU
    python benchmarks/decode.py --size tiny --device cpu           every part in seconds, on the CPU
    python benchmarks/decode.py ours/beam3/192 ours/beam3/192/3858 --quant fp8
    python benchmarks/decode.py --command /dev/shm/e ours/beam3/0/3858    where the time of task=evaluate goes instead

A case is STACK/PROFILE/BATCH, or STACK/PROFILE/BATCH/STUDIES. The stacks are `reference` (the test step of R2GenGPT),
`transformers` (its generate() behind our encoder, without autocast) and `ours` (an evaluation by
`r2gen.evaluate.generate.predict` in BATCH slots, 0 for its own choice; with 1, study by study as task=generate).
Reading images from memory, encoder, decoding and texts are measured together. The profiles:

    beam3     R2GenGPT's beams and penalties with exactly 120 tokens
    greedy    the same with one beam
    iu        R2GenGPT's recipe for IU X-Ray: 40 to 100 tokens
    iu_early  the same with early_stopping=true

Random weights never write an EOS token. For iu and iu_early its output weights are scaled so that greedy reports end
after 66 tokens on average, at moments that depend on the text. For random text, length_penalty 2 makes longer
hypotheses better for ever, so that beams of `iu` run to about 100 tokens, which is the slowest case; those of
`iu_early` end.

Every measurement is printed as soon as it ends and appended to --out as a line of JSON. `predict` compiles the layers
from some thousand steps on (COMPILED_FROM_STEPS), so that a long evaluation has faster steps than a short case, and the
seconds to compile in it; with --compiled yes every case is compiled, in its warm-up. `step ms` is the time for one
token of every report in the batch, prefill, encoder and texts included. `limit ms` is the time in which the GPU could
read the weights and the keys and values once (the prompt's once per study) at the bandwidth with which it copies, or
multiply at the rate of a large product (in fp8 with --quant fp8), whichever is longer: both are measured first. `share`
is limit / step.
"""

import argparse
import gc
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from decode_command import time_commands
from decode_models import (
    SIZES,
    Ours,
    Reference,
    Size,
    Studies,
    Transformers,
    build_tokenizer,
    let_reports_end,
    quantise,
    random_llama,
    report_generator,
)
from machine import installed, probe

from r2gen.config.decoding import Decoding
from r2gen.evaluate.generate import ROWS_ON_GPU
from r2gen.lm.quantize import weight_bytes

GIB = 2**30
PENALTIES: dict[str, Any] = {"num_beams": 3, "repetition_penalty": 2.0, "length_penalty": 2.0}
BEAM3 = Decoding(min_new_tokens=120, max_new_tokens=120, **PENALTIES)
IU = Decoding(min_new_tokens=40, max_new_tokens=100, **PENALTIES)
PROFILES = {
    "beam3": BEAM3,
    "greedy": replace(BEAM3, num_beams=1),
    "iu": IU,
    "iu_early": replace(IU, early_stopping=True),
}
IU_TOKENS = 66  # of a report of IU X-Ray
CASES = {
    "7b": (
        "reference/beam3/12 reference/beam3/1/1 transformers/beam3/12 transformers/beam3/48 transformers/beam3/128 "
        "transformers/greedy/128 transformers/iu_early/128 transformers/beam3/1/1 ours/beam3/12 ours/beam3/48 "
        "ours/beam3/128 ours/beam3/192 ours/greedy/384 ours/iu/128 ours/iu_early/128 ours/beam3/1 ours/greedy/1 "
        "ours/beam3/0/3858"
    ),
    "tiny": (
        "reference/beam3/3/3 reference/iu/3/3 transformers/beam3/3/3 transformers/iu_early/3/3 transformers/greedy/1 "
        "ours/beam3/3/5 ours/greedy/0/5 ours/iu/3/5 ours/iu_early/3/5 ours/beam3/1"
    ),
}
COMPILED = {"auto": None, "yes": True, "no": False}
WIDTHS = (26, 16, 6, 8, 9, 8, 8, 6, 8)
COLUMNS = ("case", "quant", "tokens", "seconds", "reports/s", "step ms", "limit ms", "share", "peak GiB")


@dataclass(frozen=True)
class Case:
    stack: str
    profile: str
    batch: int
    studies: int

    @classmethod
    def read(cls, text: str) -> "Case":
        stack, profile, batch, *studies = text.split("/")
        if profile not in PROFILES or stack not in ("reference", "transformers", "ours"):
            sys.exit(f"{text}: give STACK/PROFILE/BATCH with a profile of {', '.join(PROFILES)}")
        rounds = 4 if batch == "1" or stack == "ours" else 2 if int(batch) <= 12 else 1
        return cls(stack, profile, int(batch), int(studies[0]) if studies else int(batch) * rounds)

    def __str__(self) -> str:
        return f"{self.stack}/{self.profile}/{self.batch}/{self.studies}"


@dataclass(frozen=True)
class Result:
    """A measurement of a case; `share` is the part of the step that no program could save, `first_s` with batch 1."""

    case: str
    quant: str
    repeat: int
    tokens_mean: float
    tokens_least: int
    tokens_most: int
    seconds: float
    first_s: float | None
    reports_per_s: float
    step_ms: float
    step_gb: float
    memory_ms: float
    compute_ms: float
    share: float
    peak_gib: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="default: a list per size; with --quant only `ours`")
    parser.add_argument("--size", choices=tuple(SIZES), default="7b")
    parser.add_argument("--quant", default="none", help="modes for `ours`: none,int8_weight_only,fp8")
    parser.add_argument("--repeat", type=int, default=1, help="measure every case so often")
    parser.add_argument("--workers", type=int, default=0, help="of the loader, in predict")
    parser.add_argument("--compiled", choices=tuple(COMPILED), default="auto", help="in predict; auto: its own choice")
    parser.add_argument("--command", type=Path, help="a folder: time task=evaluate of each ours/PROFILE/0 there")
    parser.add_argument("--gpus", default="1", help="for --command, for example 1,2")
    parser.add_argument("--trace", action="store_true", help="print the kernels of each case")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="append a line of JSON for each measurement")
    options = parser.parse_args()
    device = torch.device(options.device)
    if options.size == "tiny":
        torch.set_num_threads(1)  # faster for matrices this small, much so on a busy machine
    cases = [Case.read(text) for text in options.cases or CASES[options.size].split()]
    ours = partial(Ours, workers=options.workers, compiled=COMPILED[options.compiled])
    bench = Bench(SIZES[options.size], device=device, ours=ours, out=options.out)
    bench.describe()
    if options.command is not None:
        return 1 if time_commands(bench, cases, options.quant.split(","), options) else 0
    failed = 0
    for quant in options.quant.split(","):
        try:
            bench.load(quant)
        except Exception as error:
            failed += bench.report_failure(f"load {quant}", error)
            continue
        for case in cases if quant == "none" else [case for case in cases if case.stack == "ours"]:
            for repeat in range(options.repeat):
                try:
                    bench.measure(case, repeat=repeat)
                except Exception as error:  # the next case may still be measured
                    failed += bench.report_failure(f"{case} {quant}", error)
                    break
            if options.trace:
                bench.trace(case)
    return 1 if failed else 0


class Bench:
    """One model in memory, and the measurements of cases with it."""

    def __init__(self, size: Size, *, device: torch.device, ours: Callable[[Any], Ours], out: Path | None) -> None:
        self.size, self.device, self.ours, self.out = size, device, ours, out
        self.tokenizer = build_tokenizer(size.vocabulary)
        self.studies = Studies(size, self.tokenizer)
        self.machine = probe(device)
        self.model: Any = None

    def describe(self) -> None:
        facts = {
            "device": torch.cuda.get_device_name() if self.device.type == "cuda" else platform.machine(),
            "python": platform.python_version(),
            **{name: installed(name) for name in ("torch", "transformers", "triton", "timm", "torchao")},
            **asdict(self.machine),
        }
        print(
            ", ".join(f"{key} {f'{value:.0f}' if isinstance(value, float) else value}" for key, value in facts.items())
        )
        self.write(facts)

    def load(self, quant: str) -> None:
        """Draw the weights, and quantise them."""
        self.unload()
        self.ends: float | None = None
        began = time.monotonic()
        dtype = torch.float32 if self.device.type == "cpu" else torch.bfloat16
        llama: Any = random_llama(self.size, device=self.device, dtype=dtype)
        output_bytes = llama.lm_head.weight.nbytes
        self.quant = quant
        quantise(llama, quant)
        self.model = report_generator(llama, self.tokenizer, self.size)
        config = llama.config
        self.read_bytes = weight_bytes(llama) - output_bytes  # the embedding has the size of the output layer
        self.multiplied = config.num_hidden_layers * (
            4 * config.hidden_size**2 + 3 * config.hidden_size * config.intermediate_size
        ) + (config.vocab_size * config.hidden_size)
        self.position_bytes = 2 * config.num_hidden_layers * config.hidden_size * dtype.itemsize
        text = len(self.model.before_T) + len(self.model.after_T)
        self.prompt = text + self.model.vision.num_tokens
        print(
            f"{quant}: {weight_bytes(llama) / GIB:.2f} GiB of weights in {time.monotonic() - began:.1f} s; a prompt of "
            f"{text} tokens and {self.model.vision.num_tokens} of the image, so {self.prompt} to "
            f"{self.prompt + self.profile('beam3').max_new_tokens} positions per study"
        )
        say(COLUMNS)

    def unload(self) -> None:
        self._free()
        self.model = self.reference = None
        self._free()

    def profile(self, name: str) -> Decoding:
        decoding = PROFILES[name]
        longest, shortest = (n // self.size.shorter for n in (decoding.max_new_tokens, decoding.min_new_tokens))
        return replace(decoding, max_new_tokens=longest, min_new_tokens=shortest)

    def stack(self, case: Case) -> Callable[..., list[int]]:
        if case.stack == "ours":
            return self.ours(self.model)
        if case.stack == "transformers":
            return Transformers(self.model)
        if self.reference is None:
            self.reference = Reference(self.model.lm.model, self.tokenizer, self.size)
        return self.reference

    def measure(self, case: Case, *, repeat: int) -> None:
        """Measure a case after a warm-up with two tokens, and print and write its result."""
        decoding, run = self.profile(case.profile), self.stack(case)
        if case.profile.startswith("iu") and self.ends is None:
            self.ends = let_reports_end(self.model, self.studies, decoding, mean=IU_TOKENS / self.size.shorter)
            print(f"the output weights of the EOS token times {self.ends:.2f}")
        self._free()
        if repeat == 0:
            short = replace(decoding, max_new_tokens=2, min_new_tokens=2)
            run(self.studies, case.batch or case.studies, batch=case.batch, decoding=short)
        first_s = self._seconds(run, 1, case, decoding)[0] if case.batch == 1 else None
        seconds, lengths = self._seconds(run, case.studies, case, decoding)
        self._show(case, repeat=repeat, seconds=seconds, lengths=lengths, first_s=first_s)

    def _seconds(
        self, run: Callable[..., list[int]], studies: int, case: Case, decoding: Decoding
    ) -> tuple[float, list[int]]:
        self._wait()
        began = time.monotonic()
        lengths = run(self.studies, studies, batch=case.batch, decoding=decoding)
        self._wait()
        return time.monotonic() - began, lengths

    def _show(self, case: Case, *, repeat: int, seconds: float, lengths: list[int], first_s: float | None) -> None:
        beams = PROFILES[case.profile].num_beams
        at_once = min(case.batch or ROWS_ON_GPU // beams, case.studies)
        step_s = seconds * at_once / sum(lengths)
        positions = self.prompt + beams * sum(lengths) / len(lengths) / 2  # read in the middle of a report
        step_bytes = self.read_bytes + at_once * positions * self.position_bytes
        memory_s = step_bytes / (self.machine.copied_gb_per_s * 1e9)
        rate = self.machine.fp8_tflop_per_s if self.quant == "fp8" else 0.0
        compute_s = 2 * self.multiplied * at_once * beams / ((rate or self.machine.tflop_per_s) * 1e12)
        result = Result(
            case=str(case),
            quant=self.quant,
            repeat=repeat,
            tokens_mean=sum(lengths) / len(lengths),
            tokens_least=min(lengths),
            tokens_most=max(lengths),
            seconds=seconds,
            first_s=first_s,
            reports_per_s=len(lengths) / seconds,
            step_ms=step_s * 1e3,
            step_gb=step_bytes / 1e9,
            memory_ms=memory_s * 1e3,
            compute_ms=compute_s * 1e3,
            share=max(memory_s, compute_s) / step_s,
            peak_gib=torch.cuda.max_memory_allocated() / GIB if self.device.type == "cuda" else 0.0,
        )
        self.write({key: round(v, 4) if isinstance(v, float) else v for key, v in asdict(result).items()})
        say(
            [
                result.case,
                result.quant,
                f"{result.tokens_mean:.1f}",
                f"{result.seconds:.2f}",
                f"{result.reports_per_s:.2f}",
                f"{result.step_ms:.2f}",
                f"{max(result.memory_ms, result.compute_ms):.2f}",
                f"{result.share:.3f}",
                f"{result.peak_gib:.1f}",
            ]
        )

    def trace(self, case: Case) -> None:
        """Print the operations of a case with few tokens, by their time on the device."""
        decoding = self.profile(case.profile)
        few = replace(decoding, max_new_tokens=min(16, decoding.max_new_tokens), min_new_tokens=0)
        with torch.profiler.profile() as profile:
            self.stack(case)(self.studies, case.batch or case.studies, batch=case.batch, decoding=few)
            self._wait()
        by = "self_cpu_time_total" if self.device.type == "cpu" else "self_cuda_time_total"
        print(profile.key_averages().table(sort_by=by, row_limit=25), flush=True)

    def report_failure(self, what: str, error: Exception) -> int:
        """Print why there is no figure; 0 if memory ran out, which is a result, and 1 otherwise."""
        reason = next(iter(str(error).splitlines()), "")[:160]
        print(f"{what}: no figure: {type(error).__name__}: {reason}", flush=True)
        self.write({"failed": what, "error": type(error).__name__, "reason": reason})
        error.__traceback__ = None  # its frames hold tensors
        self._free()
        return 0 if isinstance(error, torch.OutOfMemoryError) else 1

    def write(self, record: dict[str, Any]) -> None:
        if self.out is not None:
            with self.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def _free(self) -> None:
        if self.model is not None:
            self.model.lm.free_slots()
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def say(cells: Sequence[str]) -> None:
    """Print a line of the table at once, so that a time limit costs the later ones only."""
    aligned = [str.ljust, str.ljust, *[str.rjust] * (len(COLUMNS) - 2)]
    print("  ".join(align(cell, width) for align, cell, width in zip(aligned, cells, WIDTHS, strict=True)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
