"""The YAML file from which ranks read their configuration: config.yaml of a run, or evaluate.yaml and the like."""

from pathlib import Path

import yaml

from r2gen.config.plain import Plain
from r2gen.config.read import read_config, to_plain
from r2gen.config.schema import Config
from r2gen.runs.files import write_whole


def write_job(file: Path, config: Config) -> None:
    write_whole(file, yaml.safe_dump(to_plain(config), sort_keys=False, allow_unicode=True))


def read_job(file: Path) -> Config:
    """The configuration that `write_job` wrote. Raises UserError naming an option that is not valid."""
    plain: Plain = yaml.safe_load(file.read_text(encoding="utf-8"))
    choices = plain.pop("choices")
    return read_config(plain, choices, needs_data=False)
