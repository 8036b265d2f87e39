"""Measure how fast a training is:  python benchmarks/train.py --scratch FOLDER [ROW ...]

    python benchmarks/train.py --scratch /dev/shm/t                            LLaMA-2 7B and Swin-B, random weights
    python benchmarks/train.py --scratch /dev/shm/t reference/8 ours/8 ours/64/fp8 ours/32/deep/trainer.workers=8
    python benchmarks/train.py --scratch /tmp/t --tiny                         every part in about a minute on the CPU
    python benchmarks/train.py --scratch /tmp/t --losses 200 A:lm.compile=false B:lm.compile=true

A row is STACK/BATCH and further words. The stacks are `reference` (the recipe of R2GenGPT), `plain` (transformers and
AdamW in a loop; both in train_loops.py) and `ours`: `python run.py experiment=r2gengpt_shallow_iu` as a child process,
with its loader, engine and log. BATCH is that of one GPU. The words:

    int8 nf4 int8_weight_only fp8     quant, of ours
    deep delta                        the encoder is trained, or its LoRA; otherwise it is frozen
    lora                              LoRA on the language model
    iu                                reports with the lengths of IU X-Ray; otherwise 66 to 78 tokens, as R2GenGPT had
    gpus2 zero1                       GPUs, and the stage of ZeRO, of ours
    fp16 bf16 compile                 of the loops
    KEY=VALUE                         an override for run.py, without a slash

Every row runs in its own process. On a GPU ours has lm.compile=true, since a training of more than some 14,000
studies compiles the layers by itself; lm.compile=null leaves it the choice for the few steps here. Every
study is new, as in the first epoch; trainer.train_share=0.02 leaves 163, so that the measured steps are of later
epochs. A training is measured in windows of steps, after a warm-up: `samples/s` is the median of the windows (with
--repeat the mean of the runs) and `+-` half the range of windows, or of runs, in percent. `real` is the mean number of
positions of a sample, of which `prompt` are the prompt with the image; `padded` is the same if every batch were padded
to its longest report, or as the reference pads. TFLOP/s counts what the real positions need: the frozen language model
forward and the gradient of its input, logits at targets, and the encoder. `bf16` and `fp8` are its shares of the rate
of a large matrix product, measured at the start. `start s` is the time from the command to the first step (of ours), or
to the end of the first step (of a loop). `peak GiB` is that of the first GPU, loading included. `scaling` of a row with
several GPUs is its speed divided by that of the same row without them and ZeRO, if that was measured; the batch of each
GPU is the same. A row that fails says why, and --logs keeps the output of each.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

from train_rows import Measured, Row, padded_tokens, sample_tflop, table

ROOT = Path(__file__).resolve().parent.parent
DEFAULT = {
    False: (
        "reference/8 reference/32 plain/8 plain/32 ours/8 ours/32 ours/64 ours/128 ours/64/fp8 ours/128/fp8 "
        "ours/32/int8 ours/32/nf4 ours/32/lora ours/32/deep reference/32/deep plain/64/iu ours/64/iu"
    ),
    True: "reference/2 plain/2/lora ours/4/iu",
}
STOP_S = 20  # that a run may take to end after a signal


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", help="default: a list; with --losses A:OVERRIDES B:OVERRIDES")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for weights (13 GiB), images and runs")
    parser.add_argument("--logs", type=Path, help="folder for the output of each row (default: SCRATCH/logs)")
    parser.add_argument("--out", type=Path, help="append a line of JSON for each measurement")
    parser.add_argument("--repeat", type=int, default=1, help="run all rows so often")
    parser.add_argument("--limit", type=int, default=240, help="seconds that one row may take")
    parser.add_argument("--until", type=int, default=10**9, help="start no row after so many seconds")
    parser.add_argument("--samples", type=int, default=128, help="of a window, of at least 3 steps")
    parser.add_argument("--windows", type=int, default=6, help="that are measured")
    parser.add_argument("--warm", type=int, default=2, help="windows before")
    parser.add_argument("--tiny", action="store_true", help="small shapes and few steps on the CPU")
    parser.add_argument("--losses", type=int, metavar="STEPS", help="compare the losses of two configurations instead")
    parser.add_argument("--families", default="llama,chatglm,gemma2,t5", help="of language models, for --losses")
    options = parser.parse_args()
    options.began = time.monotonic()
    options.scratch = options.scratch.absolute()
    options.logs = (options.logs or options.scratch / "logs").absolute()
    options.logs.mkdir(parents=True, exist_ok=True)
    if options.losses:
        sys.path.insert(0, str(ROOT))  # r2gen, as in the child processes
        from train_losses import compare_losses

        return compare_losses(options)
    rows = [Row.read(text) for text in options.rows or DEFAULT[options.tiny].split()]
    if options.tiny:
        options.samples, options.windows, options.warm = 8, 3, 1
    return Bench(options).run(rows)


class Bench:
    """The files in the scratch folder, and the measurements of rows."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.device = "cpu" if options.tiny else "cuda"
        self.measured: dict[str, list[Measured]] = {}
        described = {"stack": "describe", "studies": 96 if options.tiny else 8192}
        result = self._loop(described, log=options.logs / "describe.log")
        if result.failed:
            sys.exit(f"files and limits of the device: {result.failed} (see {options.logs / 'describe.log'})")
        self.machine = result.facts
        self.facts = json.loads((options.scratch / "facts.json").read_text(encoding="utf-8"))
        self.lm = json.loads((options.scratch / "llama" / "config.json").read_text(encoding="utf-8"))
        shown = (
            f"{key} {f'{value:.0f}' if isinstance(value, float) else value}" for key, value in self.machine.items()
        )
        self.heading = (
            f"{', '.join(shown)}\nprompt: {self.facts['prompt']} tokens and {self.facts['image']} of the image"
        )
        print(self.heading, flush=True)
        self._write(self.machine)

    def run(self, rows: Sequence[Row]) -> int:
        """Measure all rows, and print the table after each."""
        for repeat in range(self.options.repeat):
            for row in rows:
                spent_s = time.monotonic() - self.options.began
                log = self.options.logs / f"{str(row).replace('/', '-'):.200}-{repeat}.log"  # files have short names
                if spent_s > self.options.until:
                    result = Measured(failed=f"not started, since {spent_s:.0f} s had passed")
                elif row.stack == "ours":
                    result = self._ours(row, log=log)
                else:
                    result = self._loop(row.loop, log=log, steps=self._steps(row.batch))
                self.measured.setdefault(str(row), []).append(result)
                self._write({"row": str(row), "repeat": repeat, **vars(result), **self._entry(row)})
                print(f"\n{table([self._entry(row) for row in rows if str(row) in self.measured])}", flush=True)
        return 1 if any(result.failed for results in self.measured.values() for result in results) else 0

    def _entry(self, row: Row) -> dict[str, Any]:
        """The cells of a row in the table."""
        results = self.measured[str(row)]
        good = [result for result in results if result.rates]
        failed = next((result.failed for result in results if result.failed), "")
        lengths, prompt = self.facts[row.data], self.facts["prompt"] + self.facts["image"]
        entry: dict[str, Any] = {"row": str(row), "note": failed}
        if not good:
            return entry
        rates = [median(result.rates) for result in good]
        rate = mean(rates)
        spread = rates if len(rates) > 1 else good[0].rates
        tflop = rate / row.gpus * sample_tflop(row, self.lm, lengths, prompt=prompt, tiny=self.options.tiny)
        fp8 = self.machine["fp8_tflop_per_s"]
        single = [result for result in self.measured.get(row.on_one_gpu, []) if result.rates]
        return entry | {
            "scaling": rate / mean(median(result.rates) for result in single) if single and row.gpus > 1 else None,
            "samples/s": rate,
            "+-": 50 * (max(spread) - min(spread)) / rate,
            "prompt": prompt,
            "real": prompt + mean(lengths),
            "padded": padded_tokens(row, lengths, prompt=prompt),
            "TFLOP/s": tflop,
            "bf16": tflop / self.machine["tflop_per_s"],
            "fp8": tflop / fp8 if fp8 and row.quant == "fp8" else None,
            "peak GiB": max(result.peak_gib for result in good),
            "start s": mean(result.start_s for result in good),
        }

    def _steps(self, batch: int) -> int:
        """The steps of a window."""
        return max(3, -(-self.options.samples // batch))

    def _loop(self, row: dict[str, Any], *, log: Path, steps: int = 0) -> Measured:
        """Run train_loops.py in a process of its own."""
        request = {
            **row,
            "size": "tiny" if self.options.tiny else "7b",
            "scratch": str(self.options.scratch),
            "device": self.device,
            "steps": steps,
            "windows": self.options.windows,
            "warm": self.options.warm * steps,
        }
        command = [sys.executable, str(ROOT / "benchmarks" / "train_loops.py"), json.dumps(request)]
        began, failed = time.monotonic(), run_logged(command, log=log, limit_s=self.options.limit)
        if failed:
            return Measured(failed=failed)
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        facts = json.loads([line for line in lines if line.startswith("{")][-1])
        if row["stack"] == "describe":
            return Measured(facts=facts, start_s=time.monotonic() - began)
        return Measured(**facts)

    def _ours(self, row: Row, *, log: Path) -> Measured:
        """Run `python run.py` to its end, and read train.jsonl."""
        options, steps = self.options, self._steps(row.batch)
        run_dir = options.scratch / "run"
        shutil.rmtree(run_dir, ignore_errors=True)
        batch = row.batch * row.gpus
        settings = {
            "run_dir": run_dir,
            "data.root": options.scratch / f"data-{row.data}",
            "data.cleaner": "none",
            "lm.path": options.scratch / "llama",
            "vision.path": options.scratch / "swin",
            "trainer.batch_size": batch,
            "trainer.micro_batch_size": row.batch,
            "trainer.devices": row.gpus,
            "trainer.epochs": 1000,
            "trainer.max_steps": steps * (options.warm + options.windows),
            "trainer.log_every_steps": steps,
            "evaluate.splits": "[val]",
            "metrics": "[findings]",  # which needs no Java
            "lm.compile": "null" if options.tiny else "true",
            **row.settings,
        }
        if options.tiny:
            shape = "{img_size: 64, embed_dim: 8, depths: [1, 1, 1, 1], num_heads: [1, 1, 2, 2], window_size: 2}"
            settings |= {"vision.image_size_px": 64, "vision.model_args": shape, "trainer.device": "cpu"}
        words = [f"{key}={value}" for key, value in settings.items()]
        command = [sys.executable, str(ROOT / "run.py"), "experiment=r2gengpt_shallow_iu", *words]
        began = time.time()
        failed = run_logged(command, log=log, limit_s=options.limit, folder=options.scratch)
        train_log = run_dir / "train.jsonl"
        if not train_log.exists():
            return Measured(failed=failed or "no train.jsonl")
        shutil.copy(train_log, log.with_suffix(".jsonl"))
        lines = [json.loads(line) for line in train_log.read_text(encoding="utf-8").splitlines()]
        lines = [line for line in lines if line["event"] == "step"]
        # samples_per_s, unlike seconds, is computed after the log has waited for the GPU
        elapsed = [line["step"] * batch / line["samples_per_s"] for line in lines]
        windows = zip(lines[:-1], lines[1:], elapsed[:-1], elapsed[1:], strict=True)
        rates = [(b["step"] - a["step"]) * batch / (until - since) for a, b, since, until in windows]
        return Measured(
            rates=rates[options.warm - 1 :],
            peak_gib=max(line["peak_gib"] for line in lines) if lines else 0.0,
            start_s=train_log.stat().st_mtime - elapsed[-1] - began if lines else 0.0,  # written with the last step
            failed=failed,
        )

    def _write(self, record: dict[str, Any]) -> None:
        if self.options.out is not None:
            with self.options.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")


def run_logged(command: Sequence[str], *, log: Path, limit_s: float, folder: Path = ROOT) -> str:
    """Run a command with its output in a file; returns why it failed, or an empty text."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"}
    with log.open("w", encoding="utf-8") as file:
        file.write(f"{' '.join(command)}\n")
        file.flush()
        child = subprocess.Popen(
            command, cwd=folder, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            status = child.wait(limit_s)
        except subprocess.TimeoutExpired:
            stop(child)
            return f"stopped after {limit_s:.0f} s"
        except BaseException:
            stop(child)
            raise
    if status == 0:
        return ""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines[1:] if line.startswith("error:") or "Error" in line.partition(":")[0]]
    return f"status {status}: {[*lines, *errors][-1]:.160}"


def stop(child: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
            child.wait(STOP_S)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


if __name__ == "__main__":
    sys.exit(main())
