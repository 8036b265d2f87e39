"""metrics.json: the scores of a run, read here and nowhere else."""

import json
from pathlib import Path

import yaml

from r2gen.config.metrics import specs_of
from r2gen.config.plain import Plain
from r2gen.config.targets import Target
from r2gen.errors import UserError

Metrics = Plain  # the object in the file; r2gen/evaluate/metrics_writer.py writes it
_CONFIGURATIONS = ("config.yaml", "evaluate.yaml")  # of the training, and of the last task=evaluate


def read_metrics(file: Path) -> Metrics:
    """The content of a metrics file, with `score_specs`; empty if there is no file.

    Files of earlier versions have no `score_specs`: they come from the metric classes that the run's
    configuration names. Raises UserError if the file does not hold the scores of a run.
    """
    try:
        metrics: Metrics = json.loads(file.read_text(encoding="utf-8"))
        for split in metrics["splits"].values():
            int(split["studies"]), dict(split["systems"])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise broken_metrics(file, error) from error
    return metrics if "score_specs" in metrics else metrics | {"score_specs": _specs_of_run(file.parent)}


def broken_metrics(file: Path, error: Exception) -> UserError:
    """The message for a metrics file that lacks what it must have."""
    return UserError(
        f"{file}: does not contain the scores of a run ({error!r}). Remove the file and run python run.py "
        f"task=evaluate run_dir={file.parent}"
    )


def metrics_path(run_dir: Path, profile: str | None = None) -> Path:
    """metrics.json, or the file of another decoding profile than that of the training."""
    return run_dir / ("metrics.json" if profile is None else f"metrics.{profile}.json")


def _specs_of_run(run_dir: Path) -> list[Plain]:
    specs: dict[str, Plain] = {}
    for name in _CONFIGURATIONS:
        for metric in _metrics_of(run_dir / name):
            try:
                specs |= {spec["name"]: spec for spec in specs_of(metric)}
            except UserError:
                continue  # a metric that no longer exists; its scores are shown under their own names
    return list(specs.values())


def _metrics_of(configuration: Path) -> list[Target]:
    try:
        metrics = yaml.safe_load(configuration.read_text(encoding="utf-8"))["metrics"]
        return [Target(node["_target_"]) for node in metrics.values()]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return []  # the page and the table are drawn without the configuration
