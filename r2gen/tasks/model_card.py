"""The README.md of an exported model: what it is, from what, how good, for what, and for what not."""

import json
from pathlib import Path
from typing import Any

from r2gen.config.original_choices import original_choices
from r2gen.evaluate.tables import table_of
from r2gen.model.report_generator import ReportGenerator
from r2gen.runs.metrics_file import metrics_file, read_metrics
from r2gen.runs.provenance import ROOT

Config = dict[str, Any]
USE = """\
Research on generating reports from chest images, and comparing such programs. **Not for diagnosis**, not for care, not
for patients: nobody has tested it for that, and nothing in it knows when it is wrong.
"""
LIMITS = """\
- It writes fluent sentences whether or not an image shows what they say. Compare its scores with the constant report's:
  what they have in common is not seen on the images.
- It knows the images, the hospitals and the wording of its training data. Children, other views, other machines and
  other languages were not tested.
- Reports can repeat training reports word for word: pass the weights on only where the data's licence lets you pass on
  what was learnt from it.
"""


def card(run: Config, stored: Config, record: dict[str, Any], model: ReportGenerator) -> str:
    """The card's text: `run` is the run's configuration, `stored` and `record` are what the folder's files hold."""
    choices, lm = stored["choices"], stored["lm"]
    origin = record["exported"]
    scored = metrics_file(Path(run["run_dir"]))
    scores = scores_of(scored, origin["checkpoint"])
    parts = {"encoder": model.vision, "projector": model.projector, "language model": model.lm.model}
    counts = ", ".join(f"{name} {sum(p.numel() for p in part.parameters()):,}" for name, part in parts.items())  # type: ignore[attr-defined]
    where = (
        "in `lm/`: it was trained (any LoRA is merged)"
        if origin["lm_inside"]
        else f"not in this folder, since it is as published: `{lm['path']}`"
        + (f", hash of its weight files {origin['lm_hash']}" if origin["lm_hash"] else "")
    )
    imported = record.get("imported")
    came = (
        f"Trained by R2GenGPT's own program: its `{imported['checkpoint']}`, sha256 {imported['sha256']}.\n"
        "What stands under Training is the recipe of that program, not a record.\n"
        if imported
        else ""
    )
    if not came and origin["run_status"] != "finished":
        came = f"Exported before its training had ended: that was {origin['run_status']}.\n"
    tune = f"encoder {run['tune']['vision']}, language model {run['tune']['lm']['mode']}"
    trainer = run["trainer"]
    original = "".join(f"- R2GenGPT's: {choice}\n" for choice in original_choices(run))
    return f"""# {record.get("name")}

A chest X-ray report generator: encoder `{stored["vision"]["name"]}`, projector, language model `lm={choices["lm"]}`.
Exported by R2Gen, revision {record["git"]["revision"]}; the method is
[R2GenGPT](https://doi.org/10.1016/j.metrad.2023.100033)'s. Checkpoint {origin["checkpoint"]}.
Parameters: {counts}.
{came}
## Load it

```
from r2gen import load_run
print(load_run("THIS_FOLDER").generate(["frontal.png", "lateral.png"]))
```

Without R2Gen: `docs/plain_script.py` of its repository, which needs torch, timm, transformers and safetensors.
The language model is {where}. Another place of it is given by
`load_run(FOLDER, lm_path=...)`.

## Data

`data={choices["data"]}`, cleaned as its configuration says; hash {record.get("data_hash") or "unknown"}.

{header("data", choices["data"])}
## Licence

The code is MIT. Weights are under the terms of what they were made from: the data (above), the encoder's and the
language model's own licences.

{header("lm", choices["lm"])}{header("vision", choices["vision"])}
## Training

- {tune}; seed {run["seed"]}; at most {trainer["epochs"]} epochs of batch {trainer["batch_size"]}, learning rate
  {trainer["learning_rate"]}, {trainer["schedule"]}
- typed: `{" ".join(record["overrides"]) or "nothing"}`
{original}
## Scores

{scores}

Decoding: `{json.dumps(stored["generation"])}`.

## Intended use

{USE}
## Limits

{LIMITS}"""


def scores_of(metrics: Path, checkpoint: str) -> str:
    """The tables, and how each score was computed: scores compare only where that agrees.

    Only those of this checkpoint: training scores others too, which need not be the best.
    """
    if read_metrics(metrics).get("checkpoint") != checkpoint:
        return "Not scored before it was exported."
    return (
        f"```\n{table_of(metrics)}\n```\n\nScores compare only where the recipe and the lines of the metrics agree.\n"
    )


def header(group: str, choice: Any) -> str:
    """What the option's YAML says of itself: source, licence and access stand there."""
    file = ROOT / "conf" / group / f"{choice}.yaml"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    told = [line.lstrip("# ") for line in lines if line.startswith("#") and not line.startswith("# @package")]
    joined = "\n".join(told)
    return f"`{group}={choice}`: {joined}\n\n" if told else ""
