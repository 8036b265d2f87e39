"""Weights that a metric reads from disk: a path that was typed must be there, before anything starts. No torch."""

from pathlib import Path
from typing import Any

from r2gen.errors import UserError

KEYS = ("path", "bert")  # the weights, and the folder of the BERT they were made from


def check_metric_files(metrics: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The metrics with absolute paths; one that is null says `unavailable` where it is scored.

    Raises UserError where a path does not exist.
    """
    return {name: {key: _there(name, key, value) for key, value in node.items()} for name, node in metrics.items()}


def _there(metric: str, key: str, value: Any) -> Any:
    if key not in KEYS or value is None:
        return value
    path = Path(str(value)).expanduser().absolute()
    if not path.exists():
        raise UserError(
            f"metrics.{metric}.{key}={value} does not exist: give the weights' place, or leave {metric} out of metrics"
        )
    return str(path)
