"""The facts of a run's config.yaml that a comparison needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r2gen.config.plain import canonical, without
from r2gen.runs.identity import PROCESS_ONLY

# In these the runs of one configuration may differ, besides what changes neither weights nor scores.
_PER_SEED = ("seed", "metrics", "evaluate.batch_size", "evaluate.nearest_studies")


@dataclass(frozen=True)
class StoredConfiguration:
    """Facts of a configuration as it was written: it is not completed or checked, so that earlier versions are read."""

    choices: Mapping[str, str | None]  # the option of each configuration group
    seed: int | None
    data: Mapping[str, Any]  # the node of the data set
    metrics: Mapping[str, Any]  # the nodes of the metrics, by name
    nearest_studies: int | None  # evaluate.nearest_studies
    without_seed: str  # equal for the runs of one configuration, with any seed


def stored_configuration(plain: Mapping[str, Any]) -> StoredConfiguration:
    """The facts of a config.yaml, read by RunFolder.config(). What is missing or of another type is None or empty."""
    return StoredConfiguration(
        choices=plain["choices"],
        seed=_whole_number(plain.get("seed")),
        data=plain["data"],
        metrics=plain.get("metrics", {}),
        nearest_studies=_whole_number(plain.get("evaluate", {}).get("nearest_studies")),
        without_seed=canonical(without(dict(plain), PROCESS_ONLY + _PER_SEED)),
    )


def _whole_number(value: object) -> int | None:
    return value if isinstance(value, int) else None
