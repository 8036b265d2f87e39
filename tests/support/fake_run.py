"""A run folder as it is at each stage of training, written without training, for the tests of pages."""

import json
import math
import random
from pathlib import Path
from typing import Any

import yaml
from PIL import Image, ImageDraw

HOSTILE = (
    "</script><script>alert(1)</script> \"quoted\" 'it' & <img src=x onerror=alert(2)> \u2028\u2029 @@TITLE@@ <!--"
)
SENTENCES = (
    "the heart is normal in size .",
    "the lungs are clear .",
    "no pneumothorax or pleural effusion .",
    "there is a small left pleural effusion with adjacent atelectasis .",
    "the mediastinum is unremarkable .",
    "mild degenerative changes of the thoracic spine .",
    "right basilar opacity may represent pneumonia .",
    "a 2.5 cm calcified granuloma is seen in the right upper lobe .",
)
SCORES = {"bleu_1": 0.412, "bleu_4": 0.171, "rouge_l": 0.371, "meteor": 0.188, "cider": 0.402, "findings_f1": 0.431}


def image(seed: int, *, size_px: int = 480) -> Image.Image:
    """A drawing like a chest radiograph: two dark lungs, a heart, ribs and noise."""
    noise = Image.effect_noise((size_px, size_px), 18)
    drawn = Image.new("L", (size_px, size_px), 150)
    pen, unit = ImageDraw.Draw(drawn), size_px / 100
    for left in (14, 54):
        pen.ellipse([left * unit, (14 + seed % 5) * unit, (left + 32) * unit, 84 * unit], fill=45)
    for rib in range(20, 84, 9):
        pen.arc([8 * unit, (rib - 12) * unit, 92 * unit, (rib + 12) * unit], 190, 350, fill=95, width=int(2 * unit))
    pen.ellipse([40 * unit, 44 * unit, (64 + seed % 7) * unit, 80 * unit], fill=175)
    return Image.blend(drawn, noise, 0.18)


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def started_run(folder: Path, *, status: str = "running", reason: str | None = None) -> Path:
    """A run folder with run.json and config.yaml only."""
    folder.mkdir(exist_ok=True)
    choices = {"lm": "llama2", "vision": "swin_base", "data": "iu_xray", "tune": "shallow", "tune/lm": "frozen"}
    choices |= {"quant": "none", "projector": "linear", "generation": "greedy"}
    config = {"lm": {"path": "/models/llama2-7b"}, "data": {"root": "/data/iu_xray"}, "seed": 1, "choices": choices}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    parts = (("vision", 87_768_224, 0), ("projector", 4_198_400, 4_198_400), ("lm", 6_738_415_616, 0))
    versions = {"python": "3.11.9", "torch": "2.13.0", "transformers": "5.23.0", "deepspeed": "0.19.2"}
    write_json(
        folder / "run.json",
        {
            "status": status,
            "reason": reason,
            "name": "train-llama2-iu_xray-3fa91c02",
            "task": "train",
            "overrides": ["lm=llama2", "data=iu_xray", "tune=shallow", "seed=1"],
            "command": "python run.py lm=llama2 data=iu_xray tune=shallow seed=1",
            "git": {"revision": "5ecba70d1f", "dirty": True},
            "versions": versions,
            "hardware": {"cpu": "AMD EPYC 9454", "gpus": ["NVIDIA H100 80GB HBM3"] * 2, "memory_gib": 251.6},
            "data_hash": "9c1e77a0",
            "identity": "3fa91c02",
            "format": 1,
            "started": "2026-03-02T09:14:05+00:00",
            "finished": "2026-03-02T11:02:41+00:00" if status == "finished" else None,
            "seconds": {"train": 6123.4, "evaluate": 392.2} if status == "finished" else {},
            "parameters": [{"part": part, "total": total, "trainable": trainable} for part, total, trainable in parts],
        },
    )
    return folder


def with_training(folder: Path, *, steps: int = 400, every: int = 2) -> Path:
    luck = random.Random(1)
    rows: list[dict[str, Any]] = []
    for step in range(every, steps + 1, every):
        loss = 0.9 + 2.6 * math.exp(-step / 70) + luck.gauss(0, 0.09)
        rate = 1e-4 * min(1, step / 40) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        rows.append(
            {
                "event": "step",
                "step": step,
                "epoch": step / 100,
                "loss": loss,
                "lr": rate,
                "seconds": step / 8,
                "grad_norm": 1.5 * math.exp(-step / 90) + luck.random() / 3,
                "samples_per_s": 85.0,
            }
        )
        if step % 50 == 0:
            share = 1 - math.exp(-step / 120)
            scores = {name: value * share * (1 if step < 350 else 0.97) for name, value in SCORES.items()}
            rows.append(
                {
                    "event": "validation",
                    "step": step,
                    "epoch": step / 100,
                    "split": "val",
                    "scores": scores,
                    "best": step <= 300,
                    "selection": scores["cider"],
                }
            )
    write_lines(folder / "train.jsonl", rows)
    return folder


def with_predictions(folder: Path, *, split: str = "test", count: int = 60, text: str | None = None) -> Path:
    luck = random.Random(2)
    rows: list[dict[str, Any]] = [
        {"header": {"checkpoint": "step-00000300", "generation": "greedy", "code": "5ecba70d1f"}}
    ]
    for number in range(count):
        reference = luck.sample(SENTENCES, luck.randint(3, 6))
        report = [sentence for sentence in reference if luck.random() < 0.7] + luck.sample(
            SENTENCES, luck.randint(0, 2)
        )
        if number % 15 == 0:
            report = list(reference)
        finish = "length" if number % 7 == 3 else "stop"
        generated = " ".join(report)[: 90 if finish == "length" else None]
        rows.append(
            {
                "id": f"CXR{number}_IM-{1000 + 37 * number % 900:04d}",
                "report": text or generated,
                "reference": text or " ".join(reference),
                "tokens": 60 if finish == "length" else 20 + number,
                "finish": finish,
                "seconds": 0.31,
            }
        )
    write_lines(folder / "predictions" / f"{split}.greedy.jsonl", rows)
    return folder


def with_metrics(folder: Path) -> Path:
    lower = {
        name: value * factor
        for (name, value), factor in zip(SCORES.items(), (0.99, 0.94, 1.02, 0.97, 0.8, 0.4), strict=True)
    }
    shuffled = {name: value * 0.9 for name, value in SCORES.items()}
    systems = {"model": SCORES, "constant": lower, "shuffled": shuffled}
    spread = {
        "intervals": {
            system: {
                name: {"value": value, "low": value * 0.95, "high": value * 1.04, "draws": 10_000}
                for name, value in scores.items()
            }
            for system, scores in systems.items()
        },
        "margins": {
            name: {
                "value": value,
                "low": value - 0.01,
                "high": value + 0.012,
                "draws": 10_000,
                "p": 0.2 if abs(value) < 0.01 else 0.0004,
                "within_noise": abs(value) < 0.01,
            }
            for name, value in ((name, SCORES[name] - lower[name]) for name in SCORES)
        },
    }
    spread["shuffled_margins"] = spread["margins"]
    cut = {"truncated": {"tokens": 60, "systems": systems} | spread}
    ids = study_ids(folder)
    write_json(
        folder / "metrics.json",
        {
            "format": 1,
            "generation": "greedy",
            "checkpoint": "step-00000300",
            "splits": {
                "val": {"studies": 295, "systems": systems} | spread,
                "test": {"studies": 590, "systems": systems} | spread | cut,
            },
            "recipe": {"section": "findings", "cleaner": "iu_xray", "data": "0123456789abcdef"},
            "signatures": {"bleu": {"implementation": "pycocoevalcap", "version": "1.2", "tokenizer": "space"}},
            "unavailable": {"chexbert": "there are no weights"},
            "constant_report": (
                "the heart is normal in size . the lungs are clear . no pneumothorax or pleural effusion ."
            ),
            "skipped": {"train": "not requested"},
            "per_report": {"test": {"bleu_4": {study: index / len(ids) for index, study in enumerate(ids)}}},
        },
    )
    return folder


def study_ids(folder: Path, *, split: str = "test") -> list[str]:
    lines = (folder / "predictions" / f"{split}.greedy.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["id"] for line in lines[1:]]


def finished_run(folder: Path) -> Path:
    return with_metrics(with_predictions(with_training(started_run(folder, status="finished"))))
