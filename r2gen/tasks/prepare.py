"""task=prepare: write an annotation from a published layout or a table, or add context to one that exists."""

from dataclasses import asdict

from r2gen.config import targets
from r2gen.config.schema import Config
from r2gen.errors import DONE, UserError
from r2gen.runs import provenance

TABLES = ("csv", "own")  # data sets that are prepared from a table


def prepare(config: Config, overrides: list[str]) -> int:
    """Let the chosen data set write its annotation, and print the counts; gives the exit status."""
    if "prepare" not in targets.members(config.data.name):
        raise UserError(
            f"task=prepare: data={config.choices['data']} needs no preparation. Train on it as it is, or choose "
            "data=csv or data=mimic_cxr."
        )
    if config.prepare.context_from is not None and config.prepare.layout is not None:
        raise UserError("prepare.layout is not read with prepare.context_from, which reads an annotation: leave it out")
    made_from = (config.prepare.table, config.prepare.layout, config.prepare.context_from)
    if config.choices["data"] in TABLES and not any(made_from):
        raise UserError(
            f"task=prepare data={config.choices['data']}: give prepare.table=FILE (CSV, TSV, JSONL, Parquet) and "
            "prepare.images=FOLDER, or prepare.context_from=FILE for an annotation that lacks what it says"
        )
    options = asdict(config.prepare) | {"layout": config.prepare.layout or config.choices["data"]}
    made = {"date": provenance.now(), "code": provenance.git_revision()}
    print(targets.class_of(config.data).prepare(config.data.arguments, options, made=made, fresh=config.fresh))
    return DONE
