"""What `python run.py --help` prints: tasks, groups with their options, values, examples."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from r2gen.cli.command_line import GROUPS
from r2gen.config.compose import compose
from r2gen.config.read import read_config
from r2gen.config.root import CONF, ROOT
from r2gen.config.targets import Target
from r2gen.config.task_table import TASKS
from r2gen.config.yaml_files import read_text

HEAD = """\
R2Gen trains, tests and compares chest X-ray report generators in which the language model is one config word.

usage: python run.py [GROUP=OPTION ...] [KEY=VALUE ...] [-m] [--cfg job]

  GROUP=OPTION    choose a part, such as lm=llama2 or tune=shallow
  KEY=VALUE       change a value, such as trainer.epochs=4 or lm.path=/weights/llama-2-7b
  -m              one job for every combination of comma-separated values: python run.py -m seed=1,2,3
  --cfg job       print the composed configuration and start nothing

tasks"""
EXAMPLES = """\
examples
  python run.py
      the whole job on phantoms drawn here: nothing to download, about two minutes on two cores
  python run.py experiment=iu_smoke data.root=/data/iu_xray
      a short run on IU X-Ray, on the CPU
  python run.py data=iu_xray data.root=/data/iu_xray lm=llama2 lm.path=/weights/llama2 vision=swin_base tune=delta
      R2GenGPT's delta on a GPU
  python run.py task=generate run_dir=outputs/train-tiny-phantom-0123abcd images=[frontal.png,lateral.png]
      the report of a study with two images
  python run.py -m seed=1,2,3 projector=linear,mlp
      a sweep: six runs, as many at once as there are GPUs; the same command again runs what is missing or failed

The result: outputs/train-<experiment or lm-data>-<8 hex>/ with report.html, metrics.json and predictions/.
Exit status: 0 done, 1 a defect of R2Gen, 2 something to fix in the command, 3 stopped after a checkpoint.
"""
OF_TARGETS = """\
  vision.*, projector.*, data.*, metrics.NAME.*, logger.*
      the arguments of the class that the group's YAML names
  generation.*, lm.prompt.*, lm.architecture.*, tune.lora.*, tune.lm.lora.*
      as in the YAML of the option; --cfg job prints them all
  A dictionary, as in vision.model_args={layers: [1, 1]}, replaces the one of the YAML.
"""
# Groups whose values are described with their options instead.
BY_OPTION = ("lm.prompt", "lm.special_tokens", "lm.architecture", "quant", "tune.lora", "tune.lm.lora")


def text() -> str:
    lines = [HEAD, *(_task_line(task.name, task.usage, task.help) for task in TASKS), ""]
    lines.append("groups (conf/GROUP/OPTION.yaml)")
    for group in GROUPS:
        lines += _options(CONF / group, f"{group}=")
    lines += _options(ROOT / "sweeps", "+sweeps=") + _options(CONF / "hydra" / "launcher", "hydra/launcher=")
    composed = compose([])
    lines += ["", "values, with the defaults of a plain `python run.py`"]
    lines += _values(read_config(composed.plain, composed.choices), "")
    return "\n".join([*lines, OF_TARGETS, EXAMPLES])


def _task_line(name: str, usage: str, about: str) -> str:
    return f"  task={name:<10} {usage}: {about}" if usage else f"  task={name:<10} {about}"


def _values(group: Any, prefix: str) -> Iterator[str]:
    """One line per value: its name, its default, its choices and its description."""
    for spec in fields(group):
        value, name = getattr(group, spec.name), f"{prefix}{spec.name}"
        if name in BY_OPTION or isinstance(value, Target | dict):
            continue
        if is_dataclass(value):
            yield from _values(value, f"{name}.")
        else:
            choices, description = " | ".join(spec.metadata.get("choices", ())), spec.metadata.get("description", "")
            about = "; ".join(part for part in (choices, description) if part)
            yield f"  {f'{name}={_as_passed(value)}':<42} {about}".rstrip()


def _as_passed(value: Any) -> str:
    """A default as one passes it."""
    written = yaml.safe_dump(value, default_flow_style=True, width=1000)
    return written.removesuffix("\n...\n").strip().replace(", ", ",")


def _options(folder: Path, title: str) -> list[str]:
    """The options of one group, each with the first sentence of its YAML's header."""
    options = sorted(folder.glob("*.yaml"))
    return [f"  {title}", *(f"    {option.stem:<16} {headline(option)}" for option in options)] if options else []


def headline(option: Path) -> str:
    """The first comment line of a YAML."""
    for line in read_text(option).splitlines():
        if line.startswith("#") and not line.startswith("# @package"):
            return line.lstrip("# ")
    return ""
