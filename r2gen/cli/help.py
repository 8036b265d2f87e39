"""What `python run.py --help` prints: tasks, groups with their options, values, examples. Imports no torch."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from r2gen.cli.words import GROUPS
from r2gen.config import schema

HEAD = """\
R2Gen trains, tests and compares chest X-ray report generators in which the language model is one config word.

usage: python run.py [GROUP=OPTION ...] [KEY=VALUE ...] [-m] [--cfg job]

  GROUP=OPTION    choose a part, such as lm=llama2 or tune=shallow
  KEY=VALUE       change a value, such as trainer.epochs=4 or lm.path=/weights/llama-2-7b
  -m              one job for every combination of comma-separated values: python run.py -m seed=1,2,3
  --cfg job       print the composed configuration and start nothing

tasks
  task=train      train, generate, score, and write the page (the default); the same command again resumes
  task=evaluate   run_dir=DIR: generate and score with the best checkpoint of a run
  task=generate   run_dir=DIR images=[a.png,b.png]: the report of one study
  task=check      does this language model do what a run needs? A table with the fixes, before the first step
  task=import     checkpoint=FILE run_dir=NEW vision.path=SWIN lm.path=LM: a checkpoint of R2GenGPT as a run
  task=export     run_dir=DIR [out=FOLDER]: the best checkpoint as one folder to pass on, LoRA merged, with a model card
  task=compare    'runs=[DIR,DIR,name=reports.csv]': intervals, paired tests, tables, a page (docs/compare.md)
  task=compose    which run a command would be, and whether it is there; with -m one line a job
  task=status     sweep=DIR: where a sweep stands
  task=dashboard  sweep=DIR logger=wandb: a W&B workspace of a sweep (docs/dashboards.md)
  task=audit      data=NAME data.root=DIR: lengths, words, images, and what of val and test stands in training
  task=prepare    data=mimic_cxr data.root=DIR: an annotation from MIMIC-CXR's tables and raw reports
"""
EXAMPLES = """\
examples
  python run.py
      the whole job on phantoms drawn here: nothing to download, about two minutes on two cores
  python run.py experiment=iu_smoke data.root=/data/iu_xray
      a short run on IU X-Ray, on the CPU
  python run.py data=iu_xray data.root=/data/iu_xray lm=llama2 lm.path=/weights/llama2 vision=swin_base tune=delta
      R2GenGPT's delta on a GPU
  python run.py task=generate run_dir=outputs/train-tiny-phantom-0123abcd images=[frontal.png,lateral.png]
      the report of two images
  python run.py -m seed=1,2,3 projector=linear,mlp
      a sweep: six runs, as many at once as there are GPUs; typed again, what is missing or failed

The result: outputs/<task>-<experiment or lm-data>-<8 hex>/ with report.html, metrics.json and predictions/.
Exit status: 0 done, 1 a defect of ours, 2 something to fix in the command, 3 stopped after a checkpoint.
"""
# The values of these groups stand in the schema, their defaults in these files of conf/.
VALUES: tuple[tuple[str, type, str], ...] = (
    ("", schema.Config, "config.yaml"),
    ("evaluate.", schema.EvaluateConfig, "config.yaml"),
    ("prepare.", schema.PrepareConfig, "config.yaml"),
    ("compare.", schema.CompareConfig, "config.yaml"),
    ("audit.", schema.AuditConfig, "config.yaml"),
    ("trainer.", schema.TrainerConfig, "trainer/zero0.yaml"),
    ("lm.", schema.LmConfig, "lm/tiny.yaml"),
    ("tune.", schema.TuneConfig, "tune/deep.yaml"),
    ("tune.lm.", schema.TuneLmConfig, "tune/lm/auto.yaml"),
)
OF_TARGETS = """\
  vision.*, projector.*, data.*, metrics.NAME.*, logger.*
      the arguments of the class that the group's YAML names
  generation.*, lm.prompt.*, lm.architecture.*, tune.lora.*, tune.lm.lora.*
      as in the YAML of the option; --cfg job prints them all
  A dictionary, as in vision.model_args={layers: [1, 1]}, replaces the one of the YAML.
"""
COMMENT = re.compile(r"^\s+(\w+): .*?  # (.+)$", re.MULTILINE)  # behind a field of a dataclass
YAML_COMMENT = re.compile(r"^\s*(\w+): .*? # (.+)$", re.MULTILINE)


def text(conf: Path, sweeps: Path) -> str:
    lines = ["groups (conf/GROUP/OPTION.yaml)"]
    for group in GROUPS:
        lines += _options(conf / group, f"{group}=")
    lines += _options(sweeps, "+sweeps=") + _options(conf / "hydra" / "launcher", "hydra/launcher=")
    lines += ["", "values, with the defaults of a plain `python run.py`"]
    for prefix, kind, file in VALUES:
        lines += _values(prefix, kind, conf / file)
    return "\n".join([HEAD, *lines, OF_TARGETS, EXAMPLES])


def _values(prefix: str, kind: type, file: Path) -> Iterator[str]:
    """One line a value: its name, its default, its choices, and the comment behind it in the schema or the YAML."""
    written = file.read_text(encoding="utf-8")
    defaults: dict[str, Any] = yaml.safe_load(written)
    if prefix in ("evaluate.", "prepare.", "compare.", "audit."):
        defaults = defaults[prefix.removesuffix(".")]
    comments = dict(YAML_COMMENT.findall(written)) | dict(COMMENT.findall(inspect.getsource(kind)))
    for spec in fields(kind):
        if spec.name not in defaults or isinstance(defaults[spec.name], dict):
            continue
        choices, comment = " | ".join(spec.metadata.get("choices", ())), comments.get(spec.name, "")
        about = "; ".join(part for part in dict.fromkeys((choices, comment)) if part)
        yield f"  {f'{prefix}{spec.name}={_written(defaults[spec.name])}':<42} {about}".rstrip()


def _written(value: Any) -> str:
    """A default as one types it."""
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n...\n").strip().replace(", ", ",")


def _options(folder: Path, title: str) -> list[str]:
    """The options of one group, each with the first sentence of its YAML's header."""
    options = sorted(folder.glob("*.yaml"))
    return [f"  {title}", *(f"    {option.stem:<16} {_headline(option)}" for option in options)] if options else []


def _headline(option: Path) -> str:
    for line in option.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and not line.startswith("# @package"):
            return line.lstrip("# ")
    return ""
