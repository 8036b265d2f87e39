"""What a dashboard receives of a run: choices, configuration, scores and cost.

Paths are left out; reports and images (ShownStudy) are sent only with logger.log_examples=true.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from r2gen.config.plain import Plain, without
from r2gen.config.read import to_plain
from r2gen.config.schema import Config
from r2gen.config.task_table import OWNED
from r2gen.evaluate.evaluation import Evaluation
from r2gen.runs.prediction_lines import read_prediction_lines

Fact = str | int | float | bool | None
TAG_LENGTH = 64  # W&B refuses longer tags
# Locations and options of a single command, which do not describe the run; `shown_config` has the choices at its top.
LEFT_OUT = ("choices", "run_dir", "fresh", "verbose", "task", "hub", "logger", "data.root", *OWNED)
SHOWN_SYSTEMS = {"model": "best", "constant": "constant"}  # the model and the baseline that ignores the image


@dataclass(frozen=True)
class ShownStudy:
    """One study with its images (mode L), reference and report: patient data."""

    id: str
    images: list[Image.Image]
    reference: str
    report: str


def choices_of(config: Config) -> dict[str, str]:
    """The option chosen of each group, by which a dashboard groups and colours."""
    return {group: str(choice) for group, choice in config.choices.items() if choice is not None and group != "logger"}


def tags_of(config: Config) -> list[str]:
    return sorted(f"{group}={choice}"[:TAG_LENGTH] for group, choice in choices_of(config).items())


def shown_config(config: Config, run: Plain, *, varied: Mapping[str, str]) -> Plain:
    """Choices and seed at the top, the whole configuration under `yaml`, and where it comes from under `with`.

    W&B sorts by name: the names of the choices that differ in a sweep begin with "_", so that they come first. The
    other names at the top are those of the command line, since a W&B agent sets the parameters of its sweep there. Only
    the last part of a path is included.
    """
    resolved = {name: _without_folders(value) for name, value in without(to_plain(config), LEFT_OUT).items()}
    origin = {name: run[name] for name in ("identity", "data_hash", "git", "versions")}
    first = {f"_{option.rpartition('.')[2]}": value for option, value in varied.items()}
    return {**first, **choices_of(config), "seed": config.seed, "with": origin, "yaml": _nested(resolved)}


def summary_of(metrics: Plain, run: Plain, *, ranks: int) -> dict[str, Fact]:
    """The final scores of each split with 95 % intervals, those of the constant baseline, and the cost of the run."""
    return {**dict(_scores(metrics)), **dict(_cost(run, ranks=ranks))}


def shown_examples(evaluation: Evaluation) -> list[ShownStudy]:
    """The studies on report.html, with their images in its largest size."""
    shown = evaluation.page.shown()
    if shown is None:
        return []
    split, images = shown
    lines = read_prediction_lines(evaluation.predictor.file(split))
    by_id = {prediction["id"]: prediction for prediction in (lines[1] if lines is not None else [])}
    return [ShownStudy(id, images[id], by_id[id]["reference"], by_id[id]["report"]) for id in images]


def _scores(metrics: Plain) -> Iterator[tuple[str, Fact]]:
    for split, entry in metrics["splits"].items():
        of_sets = {f"{split}/{name}": of_set for name, of_set in entry.get("sets", {}).items()}
        for part, scores in ({split: entry} | of_sets).items():
            for system, shown in SHOWN_SYSTEMS.items():
                for score, value in scores["systems"].get(system, {}).items():
                    yield f"{shown}/{part}/{score}", value
            for score, interval in scores["intervals"]["model"].items():
                yield f"best/{part}/{score}_low", interval["low"]
                yield f"best/{part}/{score}_high", interval["high"]


def _cost(run: Plain, *, ranks: int) -> Iterator[tuple[str, Fact]]:
    if "hardware" not in run:  # an exported folder has no record of what its training cost
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
        return [_without_folders(item) for item in value]
    return Path(value).name if isinstance(value, str) and os.path.isabs(value) else value  # noqa: PTH117


def _nested(leaves: Plain) -> Plain:
    tree: Plain = {}
    for name, value in leaves.items():
        *groups, key = name.split(".")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[key] = value
    return tree
