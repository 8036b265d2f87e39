"""What the classes of metrics state about themselves: their scores, and the options that are paths of weights.

A metric class is imported by its `_target_`. The modules of metric classes import torch only where they compute.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from r2gen.config.plain import Plain
from r2gen.config.targets import Target, class_of
from r2gen.errors import UserError


def score_names(metrics: Mapping[str, Target]) -> dict[str, tuple[str, ...]]:
    """Metric to the names of its scores, the headline score first."""
    return {name: tuple(spec.name for spec in class_of(target).scores) for name, target in metrics.items()}


def specs_of(metric: Target) -> list[Plain]:
    """The specs of a metric's scores, as plain data."""
    return [asdict(spec) for spec in class_of(metric).scores]


def missing_weights(metric: Target) -> str | None:
    """The first option of a metric that must be a path of weights and is null; None where there is none."""
    return next((option for option in class_of(metric).weights if metric.get(option) is None), None)


def weights_of(node: Any) -> tuple[str, ...]:
    """The options that are paths of weights, of a metric as config.yaml has it; empty if its class no longer exists."""
    try:
        weights: tuple[str, ...] = class_of(Target(node["_target_"])).weights
    except (UserError, KeyError, TypeError):
        return ()
    return weights


def with_absolute_weights(metrics: Mapping[str, Target]) -> dict[str, Target]:
    """The metrics with absolute paths of weights. A metric whose path is null reports itself as unavailable later.

    Raises UserError where a path does not exist.
    """
    return {
        name: target.with_arguments(
            **{option: _absolute(name, option, target.get(option)) for option in _given(target)}
        )
        for name, target in metrics.items()
    }


def _given(metric: Target) -> list[str]:
    return [option for option in class_of(metric).weights if metric.get(option) is not None]


def _absolute(metric: str, option: str, value: Any) -> str:
    path = Path(str(value)).expanduser().absolute()
    if not path.exists():
        raise UserError(
            f"metrics.{metric}.{option}={value} does not exist. Give the path of the weights, or leave {metric} out "
            "of metrics"
        )
    return str(path)
