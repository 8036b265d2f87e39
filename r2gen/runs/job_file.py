"""The YAML file from which ranks read their configuration: config.yaml of a run, or evaluate.yaml and the like."""

from pathlib import Path

import yaml

from r2gen.config.plain import Plain
from r2gen.config.read import read_config, to_plain
from r2gen.config.schema import Config
from r2gen.runs.files import write_whole
from r2gen.runs.untrusted import read_yaml


def write_job(file: Path, config: Config) -> None:
    write_whole(file, yaml.safe_dump(to_plain(config), sort_keys=False, allow_unicode=True))


def read_job(file: Path) -> Config:
    """The configuration that `write_job` wrote. Raises UserError naming an option that is not valid."""
    plain: Plain = read_yaml(file)
    choices = plain.pop("choices")
    return read_config(plain, choices, needs_data=False)
