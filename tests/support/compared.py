"""task=compare as a function."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from composed import composed
from scored_run import TARGETS

from r2gen.config.schema import CompareConfig
from r2gen.config.targets import Target
from r2gen.tasks import compare as compare_task

OPTIONS = {
    "split": None,
    "rescore": False,
    "cleaner": None,
    "null_rows": ["constant"],
    "join_seeds": True,
    "studies": 3,
    "differ_by": None,
}


def compare(out: Path, *runs: object, metrics: tuple[str, ...] = ("bleu", "rouge_l"), **options: Any) -> dict[str, Any]:
    """comparison.json of `runs`, as if metrics=[...] had been passed; `options` are those of the group compare."""
    config = replace(
        composed("task=compare"),
        runs=[str(run) for run in runs],
        out=str(out),
        compare=CompareConfig(**OPTIONS | options),
        metrics={name: Target(TARGETS.get(name, name)) for name in metrics},
    )
    assert compare_task.compare(config, ["metrics=..."]) == 0
    return json.loads((out / "comparison.json").read_text(encoding="utf-8"))
