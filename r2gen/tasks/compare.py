"""task=compare: compares several systems over the same studies, and writes tables and a page.

python run.py task=compare 'runs=[outputs/A, outputs/B, mine=predictions.csv]'
python run.py task=compare sweep=outputs/sweep-lm
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from r2gen.compare.assembly import DataSet, compare_systems
from r2gen.compare.comparison import Comparison, as_plain
from r2gen.compare.page import write_compare_page
from r2gen.compare.source import Source, read_sources
from r2gen.compare.studies import with_images
from r2gen.compare.tables import csv_of_pairs, csv_of_scores, latex, markdown, terminal
from r2gen.config.overrides import option_name
from r2gen.config.plain import canonical, is_under
from r2gen.config.read import read_metrics, read_target, to_plain
from r2gen.config.schema import CompareConfig, Config
from r2gen.config.targets import Target, instantiate
from r2gen.data.reports import DataSource, data_digest
from r2gen.errors import DONE, UserError, printable
from r2gen.evaluate.recipe import recipe_of
from r2gen.runs.files import absolute, check_folder, take_folder, write_whole
from r2gen.runs.progress import working
from r2gen.sweeps.systems import systems_of

WRITES = ("comparison.json", "table.csv", "pairs.csv", "table.md", "table.tex", "compare.html")
FINDINGS = Target("r2gen.evaluate.clinical_findings.Findings")  # added unless metrics are passed
PHANTOM_FINDINGS = "phantom_findings"  # the metric that data=phantom, the default data set, adds


def compare(config: Config, overrides: list[str]) -> int:
    """Compare `runs` and those of `sweep`, print the table, write the folder, and return the exit status."""
    passed = {
        group for group in ("data", "metrics") for override in overrides if is_under(option_name(override), group)
    }
    settings = config.compare
    # The name of the default folder follows from the result.
    folder = Path(absolute("outputs/compare" if config.out is None else config.out))
    check_folder(folder, option="out", known_by=WRITES[0], writes=WRITES)
    rescore = settings.rescore or settings.cleaner is not None
    of_sweep, unfinished = systems_of(Path(absolute(config.sweep))) if config.sweep is not None else ([], [])
    split, sources = read_sources([*of_sweep, *config.runs], split=settings.split, rescore=rescore)
    targets = _metrics(config, sources, passed=passed)
    data, notes = _data(config, sources, passed="data" in passed)
    metrics = {name: instantiate(target) for name, target in targets.items()}
    with working(f"scoring and comparing {len(sources)} systems"):
        comparison = compare_systems(sources, split=split, metrics=metrics, settings=settings, data=data)
    if data is not None and comparison.differing:
        comparison, notes = _with_images(comparison, data, notes)
    if unfinished:
        notes = (*notes, f"jobs of the sweep that are not finished, and left out: {', '.join(unfinished)}")
    comparison = replace(comparison, notes=(*comparison.notes, *notes))
    folder = _folder(config.out, _digest(comparison, sources, targets, settings))
    write_comparison(comparison, folder)
    print(f"{printable(terminal(comparison))}\n\nwritten: {folder}")
    return DONE


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write the files of WRITES into an existing folder."""
    texts = (
        json.dumps(as_plain(comparison), indent=1, allow_nan=False) + "\n",
        csv_of_scores(comparison),
        csv_of_pairs(comparison),
        markdown(comparison),
        latex(comparison),
    )
    for name, text in zip(WRITES[:-1], texts, strict=True):
        write_whole(folder / name, text)
    write_compare_page(comparison, folder / WRITES[-1])


def _metrics(config: Config, sources: Sequence[Source], *, passed: set[str]) -> dict[str, Target]:
    """The metrics that were passed; otherwise those of the runs, or the default ones, and the findings."""
    runs = [source.stored.metrics for source in sources if source.stored is not None]
    nodes = {name: node for metrics in reversed(runs) for name, node in metrics.items()}
    if "metrics" in passed or not runs:
        phantoms = PHANTOM_FINDINGS in nodes or "data" in passed  # otherwise only the default data set needs it
        default = {name: target for name, target in config.metrics.items() if phantoms or name != PHANTOM_FINDINGS}
        return default if "metrics" in passed else {**default, "findings": default.get("findings", FINDINGS)}
    try:
        stored = read_metrics(nodes)
    except UserError as error:
        raise UserError(f"{error} (in the config.yaml of a run). Set metrics=[...].") from error
    return {**stored, "findings": stored.get("findings", FINDINGS)}


def _data(config: Config, sources: Sequence[Source], *, passed: bool) -> tuple[DataSet | None, tuple[str, ...]]:
    """The data set that was passed, otherwise that of the first run: for images, training reports and, if passed,
    references."""
    of_runs = [source.stored.data for source in sources if source.stored is not None]
    if not passed and not of_runs:
        return None, ("no images: they are read from the data set of a run, or from data=NAME data.root=DIR",)
    try:
        target = config.data if passed else read_target(dict(of_runs[0]), "data", optional=("data.root",))
        if target.get("root") is not None:
            target = target.with_arguments(root=absolute(target.arguments["root"]))
        data: DataSource = instantiate(target)
        return DataSet(data, recipe_of(data, data_digest(target)), passed), ()
    except UserError as error:
        if passed:
            raise
        return None, (f"no images: {error}",)


def _with_images(comparison: Comparison, data: DataSet, notes: tuple[str, ...]) -> tuple[Comparison, tuple[str, ...]]:
    try:
        differing = with_images(comparison.differing, data.data, split=comparison.split)
    except UserError as error:  # tables and plots need no images
        return comparison, (*notes, f"no images: {error}")
    return replace(comparison, differing=differing), notes


def _digest(
    comparison: Comparison, sources: Sequence[Source], metrics: dict[str, Target], settings: CompareConfig
) -> str:
    """8 hex digits of what is compared and how, so that the same command writes the same folder."""
    reports = {source.name: source.reports for source in sources}
    text = canonical([comparison.split, comparison.references, reports, to_plain(metrics), asdict(settings)])
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _folder(out: str | None, digest: str) -> Path:
    folder = Path(absolute(out if out is not None else f"outputs/compare-{digest}"))
    take_folder(folder, option="out", known_by="comparison.json")
    return folder
