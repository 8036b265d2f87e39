"""task=compare: compares several systems over the same studies, and writes tables and a page. Imports no torch.

python run.py task=compare 'runs=[outputs/A, outputs/B, mine=predictions.csv]'
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from r2gen.compare.assembly import DataSet, Settings, compare_systems
from r2gen.compare.comparison import Comparison, as_plain
from r2gen.compare.page import write_compare_page
from r2gen.compare.source import Source, read_sources
from r2gen.compare.studies import with_images
from r2gen.compare.tables import csv_of_pairs, csv_of_scores, latex, markdown, terminal
from r2gen.config.check import check_targets
from r2gen.config.plain import canonical, key_of, lies_under
from r2gen.config.targets import instantiate
from r2gen.data.reports import DataSource, data_digest
from r2gen.errors import DONE, UserError
from r2gen.evaluate.recipe import recipe_of
from r2gen.runs.files import absolute, take_folder, write_whole
from r2gen.runs.stored import with_some_root

Config = dict[str, Any]
FINDINGS = "r2gen.evaluate.clinical_findings.Findings"  # added to the metrics unless metrics=[...] is set
PHANTOM_FINDINGS = "phantom_findings"  # the metric that data=phantom, the default data set, adds


def compare(config: Config) -> int:
    """Compare `runs`, print the table, write the folder, and return the exit status."""
    requested = {
        group for group in ("data", "metrics") for one in config["overrides"] if lies_under(key_of(one), group)
    }
    options = config["compare"]
    settings = Settings(**{key: value for key, value in options.items() if key != "split"})
    rescore = settings.rescore or settings.cleaner is not None
    split, sources = read_sources(config["runs"], split=options["split"], rescore=rescore)
    nodes = _metrics(config, sources, requested=requested)
    data, notes = _data(config, sources, requested="data" in requested)
    metrics = {name: instantiate(node) for name, node in nodes.items()}
    found = compare_systems(sources, split=split, metrics=metrics, settings=settings, data=data)
    if data is not None and found.differing:
        found, notes = _with_images(found, data, notes)
    found = replace(found, notes=(*found.notes, *notes))
    folder = _folder(config["out"], _identity(found, sources, nodes, options))
    write_comparison(found, folder)
    print(f"{terminal(found)}\n\nwritten: {folder}")
    return DONE


def write_comparison(found: Comparison, folder: Path) -> None:
    """Write comparison.json, table.csv, pairs.csv, table.md, table.tex and compare.html into an existing folder."""
    files = {
        "comparison.json": json.dumps(as_plain(found), indent=1, allow_nan=False) + "\n",
        "table.csv": csv_of_scores(found),
        "pairs.csv": csv_of_pairs(found),
        "table.md": markdown(found),
        "table.tex": latex(found),
    }
    for name, text in files.items():
        write_whole(folder / name, text)
    write_compare_page(found, folder / "compare.html")


def _metrics(config: Config, sources: Sequence[Source], *, requested: set[str]) -> dict[str, Config]:
    """The requested metrics; without a request those of the runs, else the default ones, and the findings."""
    runs = [source.stored.metrics for source in sources if source.stored is not None]
    nodes = {name: node for metrics in reversed(runs) for name, node in metrics.items()}
    if "metrics" in requested or not runs:
        phantoms = PHANTOM_FINDINGS in nodes or "data" in requested  # otherwise only the default data set added it
        nodes = {name: node for name, node in config["metrics"].items() if phantoms or name != PHANTOM_FINDINGS}
    if "metrics" not in requested:
        nodes.setdefault("findings", {"_target_": FINDINGS})
        try:
            check_targets({"metrics": nodes})
        except UserError as error:
            raise UserError(f"{error} (in the config.yaml of a run). Set metrics=[...].") from error
    return nodes


def _data(config: Config, sources: Sequence[Source], *, requested: bool) -> tuple[DataSet | None, tuple[str, ...]]:
    """The requested data set, else that of the first run. It provides images, training reports and, if requested,
    references."""
    of_runs = [source.stored.data for source in sources if source.stored is not None]
    if not requested and not of_runs:
        return None, ("no images: they are read from the data set of a run, or from data=NAME data.root=DIR",)
    node = dict(config["data"] if requested else of_runs[0])
    if "root" in node:
        node["root"] = absolute(node["root"])
    try:
        check_targets(with_some_root({"data": node}))
        data: DataSource = instantiate(node)
        return DataSet(data, recipe_of(data, data_digest(node)), requested), ()
    except UserError as error:
        if requested:
            raise
        return None, (f"no images: {error}",)


def _with_images(found: Comparison, data: DataSet, notes: tuple[str, ...]) -> tuple[Comparison, tuple[str, ...]]:
    try:
        return replace(found, differing=with_images(found.differing, data.data, split=found.split)), notes
    except UserError as error:  # tables and plots do not need them
        return found, (*notes, f"no images: {error}")


def _identity(found: Comparison, sources: Sequence[Source], metrics: Mapping[str, Config], options: Config) -> str:
    """8 hex digits of what is compared and how, so that the same command writes the same folder."""
    reports = {source.name: source.reports for source in sources}
    text = canonical([found.split, found.references, reports, dict(metrics), options])
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _folder(out: str | None, identity: str) -> Path:
    folder = Path(absolute(out if out is not None else f"outputs/compare-{identity}"))
    take_folder(folder, option="out", known_by="comparison.json")
    return folder
