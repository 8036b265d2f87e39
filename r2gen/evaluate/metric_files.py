"""Weights that a metric reads from disk: a path that was typed must be there, before anything starts. No torch."""

from pathlib import Path
from typing import Any

from r2gen.config.targets import Target
from r2gen.errors import UserError

KEYS = ("path", "bert")  # the weights, and the folder of the BERT they were made from


def check_metric_files(metrics: dict[str, Target]) -> dict[str, Target]:
    """The metrics with absolute paths; one that is null says `unavailable` where it is scored.

    Raises UserError where a path does not exist.
    """
    return {
        name: Target(metric.name, {key: _there(name, key, value) for key, value in metric.arguments.items()})
        for name, metric in metrics.items()
    }


def _there(metric: str, key: str, value: Any) -> Any:
    if key not in KEYS or value is None:
        return value
    path = Path(str(value)).expanduser().absolute()
    if not path.exists():
        raise UserError(
            f"metrics.{metric}.{key}={value} does not exist: give the weights' place, or leave {metric} out of metrics"
        )
    return str(path)
