"""metrics.json: the scores of a run, read here and nowhere else."""

from pathlib import Path
from typing import Required, TypedDict

from r2gen.config.metrics import specs_of
from r2gen.config.plain import Plain
from r2gen.config.targets import Target
from r2gen.errors import UserError
from r2gen.runs.untrusted import misfits, read_json, read_yaml, reason

Metrics = Plain  # the object in the file; r2gen/evaluate/metrics_writer.py writes it


class Interval(TypedDict):
    value: float
    low: float | None
    high: float | None
    draws: int


class Margin(TypedDict, total=False):
    """The model minus a baseline."""

    value: Required[float]
    within_noise: Required[bool]
    low: float | None
    high: float | None
    draws: int
    p: float


class Spec(TypedDict, total=False):
    """As evaluate/scores.py has it."""

    name: Required[str]
    title: Required[str]
    column: int | None
    higher_is_better: bool
    interval_note: str | None


class OfSet(TypedDict, total=False):
    """The scores of a data set of a mix."""

    studies: Required[int]
    systems: Required[dict[str, dict[str, float]]]
    intervals: dict[str, dict[str, Interval]]
    margins: dict[str, Margin]
    shuffled_margins: dict[str, Margin]  # their p is corrected for the number of scores


class Drop(TypedDict):
    changed: int  # studies that have the input


class Subgroup(TypedDict):
    studies: int
    scores: dict[str, Interval]


class WordingOfReports(TypedDict):
    """As evaluate/wording.py has it."""

    distinct: int
    distinct_rate: float
    copied_rate: float
    mean_words: float
    repeated_rate: float


class Wording(TypedDict):
    model: WordingOfReports
    references: WordingOfReports


class Split(OfSet, total=False):
    details: dict[str, dict[str, dict[str, dict[str, float | None]]]]
    sets: dict[str, OfSet]  # of a mix, by name
    drops: dict[str, Drop]  # by system: the model with an input withheld, or another patient's
    drop_margins: dict[str, dict[str, Margin]]  # the model minus that system
    subgroups: dict[str, dict[str, Subgroup]]  # by attribute and value
    truncated: Plain
    wording: Wording
    likelihood: Plain
    nearest: Plain


class File(TypedDict, total=False):
    """The types in the file, so that one that was edited gets one message. NaN is a number here."""

    splits: Required[dict[str, Split]]
    format: int
    generation: str
    checkpoint: str
    made_by: Plain
    recipe: dict[str, str]
    signatures: dict[str, dict[str, str] | str]  # in format 1 a signature was one text
    score_specs: list[Spec]
    unavailable: dict[str, str]
    constant_report: str | None
    skipped: dict[str, str]
    original_choices: list[str]
    per_report: dict[str, dict[str, dict[str, float]]]


EXTERNAL = "external"  # the folder of results on other data sets
_CONFIGURATIONS = ("config.yaml", "evaluate.yaml")  # of the training, and of the last task=evaluate


def read_metrics(file: Path) -> Metrics:
    """The content of a metrics file, with `score_specs`; empty if there is no file.

    Files of earlier versions have no `score_specs`: they come from the metric classes that the run's
    configuration names. Raises UserError if the file does not hold the scores of a run.
    """
    try:
        metrics: Metrics = read_json(file)
        wrong = list(misfits(metrics, File, finite=False)) or _impossible(metrics)
        if wrong:
            raise ValueError(", ".join(wrong[:5]))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise broken_metrics(file, error) from error
    return metrics if "score_specs" in metrics else metrics | {"score_specs": _specs_of_run(file.parent)}


def _impossible(metrics: Metrics) -> list[str]:
    """The names of values that have the right type, but cannot be."""
    splits: Plain = metrics["splits"]
    no_model = [f"splits.{split}.systems" for split, entry in splits.items() if "model" not in entry["systems"]]
    return no_model + (["generation"] if "/" in metrics.get("generation", "") else [])  # it is part of a file name


def broken_metrics(file: Path, error: Exception) -> UserError:
    """The message for a metrics file that lacks what it must have."""
    return UserError(
        f"{file}: does not contain the scores of a run ({reason(error)}). Remove the file and run python run.py "
        f"task=evaluate run_dir={file.parent}"
    )


def metrics_path(run_dir: Path, profile: str | None = None) -> Path:
    """metrics.json, or the file of another decoding profile than that of the training."""
    return run_dir / ("metrics.json" if profile is None else f"metrics.{profile}.json")


def external_folder(run_dir: Path, name: str) -> Path:
    """The folder of a run's results on another data set, with its own metrics.json and predictions."""
    return run_dir / EXTERNAL / name


def external_metrics(run_dir: Path) -> dict[str, Metrics]:
    """The scores of a run on other data sets, by the names of their folders."""
    files = sorted((run_dir / EXTERNAL).glob("*/metrics.json"))
    return {file.parent.name: read_metrics(file) for file in files}


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
        metrics = read_yaml(configuration)["metrics"]
        return [Target(node["_target_"]) for node in metrics.values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []  # the page and the table are drawn without the configuration
