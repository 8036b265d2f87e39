"""What a run tells a dashboard: choices, configuration, scores and cost.

Numbers and names, no path; reports and images (ShownStudy) only for whom asks for them.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from r2gen.config.plain import flat, is_under
from r2gen.config.read import to_plain
from r2gen.config.schema import Config
from r2gen.evaluate.evaluation import Evaluation
from r2gen.runs.files import read_jsonl

Fact = str | int | float | bool | None
TAG_LENGTH = 64  # W&B refuses longer ones
# Where things lie and what is asked of one command, not what the run is; the choices stand at the top instead.
LEFT_OUT = (
    "choices",
    "run_dir",
    "fresh",
    "task",
    "hub",
    "images",
    "checkpoint",
    "out",
    "logger",
    "prepare",
    "data.root",
)
SHOWN_SYSTEMS = {"model": "best", "constant": "constant"}  # a score means nothing without the constant report's


@dataclass(frozen=True)
class ShownStudy:
    """Of a patient: it is sent only where logger.log_examples=true was typed. Images are in mode L."""

    id: str
    images: list[Image.Image]
    reference: str
    report: str


def choices_of(config: Config) -> dict[str, str]:
    """The option of each group, as typed: what a dashboard groups and colours by."""
    return {group: str(choice) for group, choice in config.choices.items() if choice is not None and group != "logger"}


def tags_of(config: Config) -> list[str]:
    return sorted(f"{group}={choice}"[:TAG_LENGTH] for group, choice in choices_of(config).items())


def shown_config(config: Config, run: Mapping[str, Any]) -> dict[str, Any]:
    """The choices and the seed at the top, the resolved configuration below `resolved`, its origin below `run`.

    At the top as typed: a W&B agent sets its sweep's parameters there under the same names. Of a path only the last
    part is kept.
    """
    resolved = {
        name: _without_folders(value) for name, value in flat(to_plain(config)) if not is_under(name, *LEFT_OUT)
    }
    known = {name: run[name] for name in ("identity", "data_hash", "git", "versions")}
    return {**choices_of(config), "seed": config.seed, "resolved": _nested(resolved), "run": known}


def summary_of(metrics: Mapping[str, Any], run: Mapping[str, Any], *, ranks: int) -> dict[str, Fact]:
    """The final scores by split with their 95 % intervals, the constant report's, and what the run cost."""
    return {**dict(_scores(metrics)), **dict(_cost(run, ranks=ranks))}


def shown_examples(evaluation: Evaluation) -> list[ShownStudy]:
    """The studies on report.html, with their images in its largest size."""
    shown = evaluation.page.shown()
    if shown is None:
        return []
    split, images = shown
    _, *rows = read_jsonl(evaluation.predictor.file(split))
    written = {row["id"]: row for row in rows}
    return [ShownStudy(id, images[id], written[id]["reference"], written[id]["report"]) for id in images]


def _scores(metrics: Mapping[str, Any]) -> Iterator[tuple[str, Fact]]:
    for split, entry in metrics["splits"].items():
        for system, shown in SHOWN_SYSTEMS.items():
            for score, value in entry["systems"].get(system, {}).items():
                yield f"{shown}/{split}/{score}", value
        for score, interval in entry["intervals"]["model"].items():
            yield f"best/{split}/{score}_low", interval["low"]
            yield f"best/{split}/{score}_high", interval["high"]


def _cost(run: Mapping[str, Any], *, ranks: int) -> Iterator[tuple[str, Fact]]:
    if "hardware" not in run:  # an exported folder does not say what its training cost
        return
    gpus = run["hardware"]["gpus"]
    yield "cost/hardware", f"{ranks} x {gpus[0]}" if gpus else run["hardware"]["cpu"]
    for name, seconds in run["seconds"].items():
        yield f"cost/{name}_seconds", seconds
    if gpus and "train" in run["seconds"]:
        yield "cost/gpu_seconds", ranks * run["seconds"]["train"]
    if "parameters" in run:  # an imported run was never trained here
        yield "cost/parameters", sum(part["total"] for part in run["parameters"])
        yield "cost/trainable_parameters", sum(part["trainable"] for part in run["parameters"])


def _without_folders(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_folders(one) for one in value]
    return Path(value).name if isinstance(value, str) and os.path.isabs(value) else value  # noqa: PTH117


def _nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in leaves.items():
        *groups, key = name.split(".")
        place = tree
        for group in groups:
            place = place.setdefault(group, {})
        place[key] = value
    return tree
