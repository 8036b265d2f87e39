"""The options of task=prepare, of which task=predict reads those that describe a table."""

from dataclasses import dataclass, field
from typing import Any

from r2gen.config.fields import option

# The published layouts that task=prepare reads (r2gen/data/layouts.py), by the name of their data set.
LAYOUTS = ("mimic_cxr", "iu_xray", "chexpert_plus", "rexgradient", "padchest", "padchest_gr")


@dataclass
class ColumnsConfig:
    """Columns of a table of studies; null: the first with a usual name (docs/own-data.md)."""

    image: Any = option("path of the images, or a list of columns", default=None)
    study: str | None = None
    patient: str | None = None
    report: str | None = None
    findings: str | None = None
    impression: str | None = None
    context: str | None = None
    split: str | None = None
    view: str | None = None
    technique: str | None = None
    comparison: str | None = None
    age: str | None = None
    sex: str | None = None
    date: str | None = None
    time: str | None = None


@dataclass
class PrepareConfig:
    """What becomes an annotation of a published data set (r2gen/data/layouts.py) or a table (r2gen/data/table.py)."""

    layout: str | None = option("the layout to read; null: the one named as data=", default=None, choices=LAYOUTS)
    table: str | None = option(
        "for data=csv: .csv, .tsv, .jsonl, .parquet, or a folder that datasets' save_to_disk wrote", default=None
    )
    context_from: str | None = option(
        "a table whose indications, comparisons, ... are added to the annotation of data.root (docs/data.md)",
        default=None,
    )
    images: str | None = option("the folder of the table's images; null: next to the table", default=None)
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)
    encoding: str = option("of the table", default="utf-8")
    split: list[float] | None = option(
        "random shares of train, val and test, by patient; null: the split of the data set, or [80,10,10]", default=None
    )
    seed: int = option("of that split", default=0, at_least=0)
    split_from: str | None = option("an annotation whose split and ids are taken instead", default=None)
    sections: str | None = option(
        "null: findings, or the whole reports of a table without such a column",
        default=None,
        choices=("findings", "impression", "findings+impression", "findings_else_impression"),
    )
    without_headings: str = option("reports without these headings", choices=("drop", "last_paragraph"))
    views: str = option("images kept, by ViewPosition", choices=("frontal", "lateral", "frontal+lateral", "all"))
    entries: str = option("one entry per study, or one per image as in R2Gen", choices=("study", "film"))
    reports: str | None = option("folder with p10/p10000032/s50414267.txt; null: next to the images")
    partial: bool = option("leave out what is not on disk instead of refusing it")
    language: str | None = option("of the sentences of PadChest-GR; null: en", default=None, choices=("en", "es"))
