"""Run folders like those of a sweep, with invented scores.

`python tests/support/fake_sweep.py DIR` writes fifty of them and their page to DIR, to look at.
"""

import json
import math
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count as counted
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from r2gen.pages.run import chosen_studies, write_page
from r2gen.sweeps.job_results import results_of, shared_choices
from r2gen.sweeps.page import write_sweep_page
from r2gen.sweeps.record import JobRecord
from r2gen.sweeps.table import write_tables

SENTENCES = (
    "the heart is normal in size .",
    "the lungs are clear .",
    "no pneumothorax or pleural effusion .",
    "there is a small left pleural effusion .",
    "the mediastinum is unremarkable .",
    "right basilar opacity may represent pneumonia .",
    "no acute osseous abnormality .",
)
GRID = tuple(product(("llama2", "chatglm3", "qwen2", "gemma2"), ("none", "int8"), ("1e-4", "5e-5"), (1, 2, 3)))
NUMBERS = counted()  # of jobs, unique in a sweep
IDS = [f"CXR{number}" for number in range(40)]
LEVELS = {"bleu_1": 0.41, "bleu_4": 0.17, "rouge_l": 0.37, "cider": 0.42}


@dataclass(frozen=True)
class Cell:
    lm: str
    quant: str
    rate: str
    seed: int


def cells(count: int) -> list[Cell]:
    more = (Cell(lm, quant, "1e-5", seed) for lm, quant, _, seed in GRID)
    return [*(Cell(*values) for values in GRID), *more][:count]


def run_of(
    folder: Path, cell: Cell, *, text: str | None = None, truncation: str = "none", page: bool = False
) -> JobRecord:
    """Write a finished run; return its job."""
    luck = random.Random(f"{cell}")
    folder.mkdir(parents=True)
    choices = {"lm": cell.lm, "quant": cell.quant, "vision": "swin_base", "data": "iu_xray", "generation": "greedy"}
    overrides = [f"lm={cell.lm}", f"quant={cell.quant}", f"trainer.learning_rate={cell.rate}", f"seed={cell.seed}"]
    config = {
        "seed": cell.seed,
        "trainer": {"learning_rate": float(cell.rate), "devices": 2},
        "choices": choices,
        "lm": {"path": f"/models/{cell.lm}"},
        "data": {"root": "/data/iu_xray"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    write(
        folder / "run.json",
        {
            "format": 1,
            "task": "train",
            "status": "finished",
            "reason": None,
            "overrides": overrides,
            "data_hash": "9c1e77a0",
            "git": {"revision": "5ecba70d1f"},
            "hardware": {"gpus": ["NVIDIA H200"] * 2},
            "name": folder.name,
            "seconds": {"train": luck.uniform(900, 9000), "evaluate": 300.0},
            "peak_memory_gib": luck.uniform(15, 70),
            "parameters": [
                {"part": "lm", "total": 6_700_000_000, "trainable": luck.choice((0, 8_000_000))},
                {"part": "projector", "total": 4_200_000, "trainable": 4_200_000},
            ],
        },
    )
    quality = 0.8 + 0.1 * len(cell.lm) / 8 + luck.gauss(0, 0.03)
    scores = {name: value * quality for name, value in LEVELS.items()}
    spread = spread_of(scores)
    constant = {name: value * 0.85 for name, value in LEVELS.items()}
    split = {
        "studies": len(IDS),
        "systems": {"model": scores, "constant": constant},
        "intervals": {"model": spread, "constant": spread_of(constant)},
        "margins": {
            name: {"value": value - constant[name], "within_noise": value < 1.1 * constant[name]}
            for name, value in scores.items()
        },
    }
    write(
        folder / "metrics.json",
        {
            "generation": "greedy",
            "splits": {"val": split, "test": split},
            "recipe": {"truncation": truncation},
            "signatures": {"bleu": {"tokenizer": "space"}},
            "per_report": {"test": {"bleu_4": {id: luck.random() for id in IDS}}},
        },
    )
    lines: list[dict[str, Any]] = [{"header": {"checkpoint": "step-00000300"}}]
    for number, id in enumerate(IDS):
        reference = " ".join(random.Random(number).sample(SENTENCES, 4))
        lines.append(
            {
                "id": id,
                "report": text or " ".join(luck.sample(SENTENCES, 4)),
                "reference": text or reference,
                "tokens": 40,
                "finish": "stop",
                "seconds": 0.2,
            }
        )
    (folder / "predictions").mkdir()
    (folder / "predictions" / "test.greedy.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    events: list[dict[str, Any]] = []
    for step in range(2, 2001, 2):
        events.append({"event": "step", "step": step, "loss": 1 + 2.5 * math.exp(-step / 300) + luck.gauss(0, 0.05)})
        if step % 200 == 0:
            reached = 1 - math.exp(-step / 500)
            events.append(
                {
                    "event": "validation",
                    "step": step,
                    "split": "val",
                    "scores": {name: value * reached for name, value in scores.items()},
                }
            )
    (folder / "train.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    if page:
        image = Image.effect_noise((400, 400), 60)
        write_page(folder, images={id: [image, image] for id in chosen_studies(IDS)})
    return JobRecord(next(NUMBERS), overrides, choices, "train", str(folder), state="done")


def spread_of(scores: dict[str, float]) -> dict[str, dict[str, float]]:
    return {
        name: {"value": value, "low": value * 0.95, "high": value * 1.05, "draws": 10_000}
        for name, value in scores.items()
    }


def unscored(cell: Cell, *, state: str, reason: str) -> JobRecord:
    """A job without a run folder."""
    choices = {"lm": cell.lm, "quant": cell.quant, "vision": "swin_base", "data": "iu_xray", "generation": "greedy"}
    overrides = [f"lm={cell.lm}", f"quant={cell.quant}", f"trainer.learning_rate={cell.rate}", f"seed={cell.seed}"]
    return JobRecord(next(NUMBERS), overrides, choices, "train", state=state, reason=reason)


def write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def make(folder: Path, count: int) -> Path:
    jobs: Sequence[JobRecord] = [
        run_of(folder / f"run-{number:02d}", cell, page=number == 0) for number, cell in enumerate(cells(count))
    ]
    more = [Cell("t5", "int8", "1e-4", 1), Cell("baichuan", "none", "1e-4", 1)]
    jobs = [
        *jobs,
        unscored(more[0], state="skipped", reason="lm=t5 with quant=int8 is no pair"),
        unscored(more[1], state="failed", reason="killed by the memory limit, logs/051.log"),
    ]
    results = results_of(jobs)
    write_tables(folder, results, title="lm_families")
    command, shared = "python run.py +sweeps=lm_families", shared_choices(jobs)
    return write_sweep_page(folder / "sweep.html", results, title="lm_families", command=command, shared=shared)


if __name__ == "__main__":
    print(make(Path(sys.argv[1]), 50))
