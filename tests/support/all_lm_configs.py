"""Every language model x quantisation x what trains, through run.py: trains, goes on, decodes with beam 3, scores.

    PYTHONPATH=. python tests/support/all_lm_configs.py FOLDER OUT [ROW ...] [OVERRIDE ...]

FOLDER holds one small checkpoint a family in its published layout ($R2GEN_SHARED/lm/golden). Prints a Markdown table:
`pass`, or the number of the message of the command that failed. JOBS=8 runs that many rows at once, QUANTS=int8,nf4
only these. Not a test of pytest's: 750 runs, about half an hour on a core. To start each in a second instead of ten,
torch is imported once and every run is a fork whose rank stays in the process.
"""

import multiprocessing
import os
import runpy
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from golden_prompts import GOLDEN_PROMPTS
from smallest_run import ROOT, SMALLEST

QUANTS = tuple(os.environ.get("QUANTS", "none,int8,nf4").split(","))
TUNES = {
    "shallow": ["tune=shallow"],
    "delta": ["tune=delta", "vision.lora_targets=[conv1]"],
    "deep": ["tune=deep"],
    "LoRA": ["tune=shallow", "tune/lm=lora"],
}


def overrides(row: str, folder: Path, quant: str, tune: str, run_dir: Path, steps: int) -> list[str]:
    ours = [text for text in SMALLEST if not text.startswith(("lm.", "generation.", "trainer.epochs"))]
    return [
        *ours,
        f"lm={row}",
        f"lm.path={folder}",
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
        *(word for word in sys.argv[3:] if "=" in word),
    ]


def one(arguments: list[str], log: Path) -> None:
    """What the process of one run does: run.py, with the rank in this process."""
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ |= {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_WORLD_SIZE": "1",
        "HF_HUB_OFFLINE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    from r2gen.launch import job, processes
    from r2gen.tasks import worker

    def in_this_process(config: dict[str, Any], job_file: Path, lock: int) -> tuple[int, None]:
        os.environ["MASTER_PORT"] = str(processes.free_port())
        return worker.main(job_file), None

    job.run_ranks = in_this_process
    sys.argv = [str(ROOT / "run.py"), *arguments]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        os._exit(int(end.code or 0))


def forked(arguments: list[str], log: Path) -> int | None:
    process = multiprocessing.get_context("fork").Process(target=one, args=(arguments, log))
    process.start()
    process.join(300)
    process.kill()
    return process.exitcode


def fresh(arguments: list[str], log: Path) -> int | None:
    """The same as a command of its own: CUDA does not outlive a fork."""
    with log.open("w") as out:
        return subprocess.run(
            [sys.executable, ROOT / "run.py", *arguments], stdout=out, stderr=out, timeout=300
        ).returncode


def case(row: str, folder: Path, quant: str, tune: str, out: Path) -> str:
    """`pass`, or the first message of the run that did not end with 0."""
    run_dir = out / f"{row}-{quant}-{tune}"
    shutil.rmtree(run_dir, ignore_errors=True)
    for steps in (12, 20):  # the second goes on from the first's checkpoint
        log = out / f"{run_dir.name}-{steps}.log"
        status = (fresh if "trainer.device=cuda" in sys.argv else forked)(
            overrides(row, folder, quant, tune, run_dir, steps), log
        )
        text = log.read_text(encoding="utf-8")
        if status != 0:
            lines = [line for line in text.splitlines() if "error" in line.lower()] or text.splitlines() or ["no word"]
            return f"status {status}: {lines[-1][:220]}"
    if "resuming from step 12 of 20" not in text or "cider" not in text:
        return "did not go on, or did not score"
    shutil.rmtree(run_dir)
    return "pass"


def main() -> None:
    golden, out = Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute()
    out.mkdir(parents=True, exist_ok=True)
    conf = ROOT / "conf" / "lm"
    rows = [word for word in sys.argv[3:] if "=" not in word] or sorted(
        file.stem for file in conf.glob("*.yaml") if file.stem != "tiny"
    )
    import timm  # noqa: F401
    import torch
    from transformers import AutoModelForCausalLM, LlamaForCausalLM  # noqa: F401

    torch.set_num_threads(1)
    print("| lm | " + " | ".join(f"{quant} {tune}" for quant in QUANTS for tune in TUNES) + " | s |", flush=True)
    print("|---" * (2 + len(QUANTS) * len(TUNES)) + "|", flush=True)
    messages: dict[str, int] = {}
    with ProcessPoolExecutor(int(os.environ.get("JOBS", "1")), multiprocessing.get_context("fork")) as pool:
        for row, cells, seconds in pool.map(all_of, rows, [golden] * len(rows), [out] * len(rows)):
            shown = [cell if cell == "pass" else str(messages.setdefault(cell, len(messages) + 1)) for cell in cells]
            print(f"| {row} | {' | '.join(shown)} | {seconds:.0f} |", flush=True)
    for message, number in messages.items():
        print(f"{number}. {message}")


def all_of(row: str, golden: Path, out: Path) -> tuple[str, list[str], float]:
    """The cells of one row, and the seconds they took."""
    folder, began = golden / GOLDEN_PROMPTS[row]["checkpoint"], time.monotonic()
    cells = [
        case(row, folder, quant, tune, out) if folder.is_dir() else f"no checkpoint {folder.name}"
        for quant in QUANTS
        for tune in TUNES
    ]
    return row, cells, time.monotonic() - began


if __name__ == "__main__":
    main()
