"""What `python run.py --help` prints: tasks, groups with their options, examples. Imports no torch."""

from pathlib import Path

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
      the report of two films
  python run.py -m seed=1,2,3 projector=linear,mlp
      a sweep: six runs, one after another

The result: outputs/<task>-<experiment or lm-data>-<8 hex>/ with report.html, metrics.json and predictions/.
Exit status: 0 done, 1 a defect of ours, 2 something to fix in the command, 3 stopped after a checkpoint.
"""
GROUPS = ("lm", "quant", "vision", "projector", "tune", "tune/lm", "generation", "data", "trainer", "metrics", "logger",
          "experiment")  # fmt: skip


def text(conf: Path, sweeps: Path) -> str:
    lines = ["groups (conf/GROUP/OPTION.yaml)"]
    for group in GROUPS:
        lines += _options(conf / group, f"{group}=")
    lines += _options(sweeps, "+sweeps=")
    return "\n".join([HEAD, *lines, "", EXAMPLES])


def _options(folder: Path, title: str) -> list[str]:
    """The options of one group, each with the first sentence of its YAML's header."""
    options = sorted(folder.glob("*.yaml"))
    return [f"  {title}", *(f"    {option.stem:<16} {_headline(option)}" for option in options)] if options else []


def _headline(option: Path) -> str:
    for line in option.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and not line.startswith("# @package"):
            return line.lstrip("# ")
    return ""
