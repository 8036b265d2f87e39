"""Run folders with the files that task=compare reads, written from given reports without training."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from run_in_process import run_in_process
from smallest_run import ROOT

from r2gen.data.phantom import Phantom
from r2gen.evaluate.clinical_findings import Findings
from r2gen.evaluate.nlg import Bleu, RougeL
from r2gen.evaluate.predictions import Prediction, predictions_file, write_predictions
from r2gen.evaluate.scoring import score_reports
from r2gen.runs.folder import FORMAT

METRICS = {"bleu": Bleu(), "rouge_l": RougeL(), "findings": Findings()}
TARGETS = {
    "bleu": "r2gen.evaluate.nlg.Bleu",
    "rouge_l": "r2gen.evaluate.nlg.RougeL",
    "findings": "r2gen.evaluate.clinical_findings.Findings",
}
DATA = {
    "_target_": "r2gen.data.phantom.Phantom",
    "seed": 0,
    "train_studies": 20,
    "val_studies": 8,
    "test_studies": 24,
    "size_px": 32,
    "version": 1,
}
RECIPE = {"section": "findings", "cleaner": "none", "case": "kept", "truncation": "none", "data": "0123456789abcdef"}


def references(split: str = "test") -> dict[str, str]:
    data = Phantom(**{key: value for key, value in DATA.items() if key != "_target_"})
    return {study.id: study.report for study in data.studies(split)}


@cache
def composed(projector: str) -> dict[str, Any]:
    status, output = run_in_process(
        "--cfg", "job", "--resolve", f"projector={projector}", "evaluate.nearest_studies=20", cwd=ROOT
    )
    assert status == 0, output
    configuration: dict[str, Any] = yaml.safe_load(output)
    return configuration


def write_run(
    folder: Path,
    reports: Mapping[str, str],
    *,
    seed: int = 0,
    projector: str = "linear",
    of: Mapping[str, str] | None = None,
    **changes: Any,
) -> Path:
    """A finished run whose test reports are these; `changes` replace parts of its metrics.json."""
    of = references() if of is None else of
    (folder / "predictions").mkdir(parents=True)
    config = composed(projector) | {
        "seed": seed,
        "data": DATA,
        "choices": {"lm": "tiny", "projector": projector},
        "metrics": {name: {"_target_": target} for name, target in TARGETS.items()},
    }
    facts = {
        "format": FORMAT,
        "git": {"revision": None},
        "status": "finished",
        "overrides": [],
        "identity": "0",
        "seconds": {},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (folder / "run.json").write_text(json.dumps(facts), encoding="utf-8")
    header = {"checkpoint": "step-1 abc", "profile": "greedy", "data_hash": RECIPE["data"]}
    write_predictions(
        predictions_file(folder, "test", "greedy"),
        header,
        [Prediction(id, report, of[id], 5, "stop", 0.1) for id, report in reports.items()],
    )
    scores = score_reports(METRICS, of, reports)
    metrics = {
        "format": 2,
        "generation": "greedy",
        "made_by": header,
        "recipe": RECIPE,
        "signatures": scores.signatures,
        "constant_report": next(iter(of.values())),
        "per_report": {"test": scores.per_report},
        "splits": {
            "test": {"studies": len(of), "systems": {"model": scores.corpus}, "details": {"model": scores.details}}
        },
    }
    (folder / "metrics.json").write_text(json.dumps(metrics | changes), encoding="utf-8")
    return folder
