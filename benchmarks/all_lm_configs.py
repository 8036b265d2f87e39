"""Run every LM config with every quantisation and every way to tune: train, resume, generate with three beams, score.

    PYTHONPATH=. python benchmarks/all_lm_configs.py FOLDER OUT [LM ...] [OVERRIDE ...]

FOLDER contains one small checkpoint per family in its published layout ($R2GEN_SHARED/lm/golden). Prints a Markdown
table: `pass`, or the number of the message of the command that failed. JOBS=8 works on eight LM configs at once,
QUANTS=int8,nf4 uses only these. All of it is 750 runs, about half an hour on one core, since runs are forked from a
process that has torch imported (tests/support/forked_python.py).
"""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import rmtree

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from forked_run import ForkedProcess  # noqa: E402
from smallest_run import SMALLEST, command  # noqa: E402

QUANTS = tuple(os.environ.get("QUANTS", "none,int8,nf4").split(","))
TUNES = {
    "shallow": ["tune=shallow"],
    "delta": ["tune=delta", "vision.lora_targets=[conv1]"],
    "deep": ["tune=deep"],
    "LoRA": ["tune=shallow", "tune/lm=lora"],
}
# The small checkpoint of an LM config whose published layout is that of another one.
SAME_LAYOUT = {
    "llama2": "llama2_spm",
    "vicuna": "llama2_spm",
    "qwen2_5": "qwen2",
    "baichuan": "baichuan_7b",
    "baichuan2": "baichuan2_7b",
    "yi1_5": "yi",
    "stablelm2": "stablelm",
    "bloomz": "bloom",
}
OVERRIDES = [word for word in sys.argv[3:] if "=" in word]


def overrides(lm: str, checkpoint: Path, quant: str, tune: str, run_dir: Path, steps: int) -> list[str]:
    return [
        *(text for text in SMALLEST if not text.startswith(("lm.", "generation.", "trainer.epochs"))),
        f"lm={lm}",
        f"lm.path={checkpoint}",
        f"quant={quant}",
        *TUNES[tune],
        "generation=beam3",
        "generation.max_new_tokens=12",
        "trainer.epochs=20",
        f"trainer.max_steps={steps}",
        "evaluate.every=20",
        "evaluate.splits=[val]",
        "trainer.schedule=constant",
        f"run_dir={run_dir}",
        *OVERRIDES,
    ]


def run(arguments: list[str], folder: Path) -> tuple[int, str]:
    """The status and output of a run; on a GPU it is a Python of its own, since CUDA does not survive a fork."""
    command_line = command(*arguments, smallest=False)
    done = (
        subprocess.run(command_line, cwd=folder, capture_output=True, text=True)
        if "trainer.device=cuda" in OVERRIDES
        else ForkedProcess(command_line, cwd=folder).completed()
    )
    return done.returncode, done.stdout + done.stderr


def result(lm: str, checkpoint: Path, quant: str, tune: str, out: Path) -> str:
    """`pass`, or the first message of a command that failed."""
    if not checkpoint.is_dir():
        return f"no checkpoint {checkpoint.name}"
    run_dir = out / f"{lm}-{quant}-{tune}"
    rmtree(run_dir, ignore_errors=True)
    for steps in (12, 20):  # the second resumes from the checkpoint of the first
        status, text = run(overrides(lm, checkpoint, quant, tune, run_dir, steps), out)
        (out / f"{run_dir.name}-{steps}.log").write_text(text, encoding="utf-8")
        if status != 0:
            lines = (
                [line for line in text.splitlines() if "error" in line.lower()] or text.splitlines() or ["no output"]
            )
            return f"status {status}: {lines[-1][:220]}"
    if "resuming from step 12 of 20" not in text or "cider" not in text:
        return "it did not resume, or did not score"
    rmtree(run_dir)
    return "pass"


def results(lm: str, golden: Path, out: Path) -> tuple[str, list[str], float]:
    """The results of an LM config, and the seconds they took."""
    checkpoint, began = golden / SAME_LAYOUT.get(lm, lm), time.monotonic()
    cells = [result(lm, checkpoint, quant, tune, out) for quant in QUANTS for tune in TUNES]
    return lm, cells, time.monotonic() - began


def main() -> None:
    golden, out = Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute()
    out.mkdir(parents=True, exist_ok=True)
    lms = [word for word in sys.argv[3:] if "=" not in word] or sorted(
        file.stem for file in (ROOT / "conf" / "lm").glob("*.yaml") if file.stem != "tiny"
    )
    print("| lm | " + " | ".join(f"{quant} {tune}" for quant in QUANTS for tune in TUNES) + " | s |", flush=True)
    print("|---" * (2 + len(QUANTS) * len(TUNES)) + "|", flush=True)
    messages: dict[str, int] = {}
    with ThreadPoolExecutor(int(os.environ.get("JOBS", "1"))) as pool:
        for lm, results_of_lm, seconds in pool.map(lambda lm: results(lm, golden, out), lms):
            cells = [
                cell if cell == "pass" else str(messages.setdefault(cell, len(messages) + 1)) for cell in results_of_lm
            ]
            print(f"| {lm} | {' | '.join(cells)} | {seconds:.0f} |", flush=True)
    for message, number in messages.items():
        print(f"{number}. {message}")


if __name__ == "__main__":
    main()
