"""The README.md of an exported model: its parts, data, licences, scores, intended use and limits."""

import json
from pathlib import Path
from typing import Any

from r2gen.config.compose import ROOT
from r2gen.config.original_choices import original_choices
from r2gen.config.plain import Plain
from r2gen.config.schema import Config
from r2gen.evaluate.tables import table_of
from r2gen.model.report_generator import ReportGenerator
from r2gen.runs.metrics_file import metrics_path, read_metrics

USE = """\
Research on generating reports from chest images, and comparing such programs. **Not for diagnosis**, not for care, not
for patients: it has not been tested for that, and it cannot tell when it is wrong.
"""
LIMITS = """\
- It writes fluent sentences whether or not an image shows what they say. Compare its scores with those of the constant
  report, which uses no image.
- It was trained on the images, hospitals and wording of its training data. Children, other views, other machines and
  other languages were not tested.
- Reports can repeat training reports word for word: pass the weights on only if the licence of the data
  allows it.
"""


def card(run: Config, stored: Config, record: Plain, model: ReportGenerator) -> str:
    """The text of the card: `stored` and `record` are those of the exported folder."""
    choices, lm = stored.choices, stored.lm
    origin = record["exported"]
    scored = metrics_path(run.folder)
    scores = scores_of(scored, origin["checkpoint"])
    parts = {"encoder": model.vision, "projector": model.projector, "language model": model.lm.model}
    counts = ", ".join(f"{name} {sum(p.numel() for p in part.parameters()):,}" for name, part in parts.items())  # type: ignore[attr-defined]
    where = (
        "in `lm/`: it was trained (any LoRA is merged)"
        if origin["lm_inside"]
        else f"not in this folder, since it is as published: `{lm.path}`"
        + (f", hash of its weight files {origin['lm_hash']}" if origin["lm_hash"] else "")
    )
    imported = record.get("imported")
    came = (
        f"Trained by R2GenGPT's own program: its `{imported['checkpoint']}`, sha256 {imported['sha256']}.\n"
        "The values under Training are the recipe of that program, not a record of this training.\n"
        if imported
        else ""
    )
    if not came and origin["run_status"] != "finished":
        came = f"Exported before its training had ended: that was {origin['run_status']}.\n"
    tune = f"encoder {run.tune.vision}, language model {run.tune.lm.mode}"
    trainer = run.trainer
    original = "".join(f"- R2GenGPT's: {choice}\n" for choice in original_choices(run))
    return f"""# {record.get("name")}

A chest X-ray report generator: encoder `{stored.vision.get("name")}`, projector, language model `lm={choices["lm"]}`.
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
The language model is {where}. If it is in another folder, pass
`load_run(FOLDER, lm_path=...)`.

## Data

`data={choices["data"]}`, cleaned as its configuration says; hash {record.get("data_hash") or "unknown"}.

{header("data", choices["data"])}
## Licence

The code is MIT. Weights are under the terms of what they were made from: the data (above), the encoder's and the
language model's own licences.

{header("lm", choices["lm"])}{header("vision", choices["vision"])}
## Training

- {tune}; seed {run.seed}; at most {trainer.epochs} epochs of batch {trainer.batch_size}, learning rate
  {trainer.learning_rate}, {trainer.schedule}
- overrides: `{" ".join(record["overrides"]) or "none"}`
{original}
## Scores

{scores}

Decoding: `{json.dumps(stored.generation)}`.

## Intended use

{USE}
## Limits

{LIMITS}"""


def scores_of(metrics: Path, checkpoint: str) -> str:
    """The score tables of this checkpoint, with their signatures. Those of other checkpoints are left out."""
    if read_metrics(metrics).get("checkpoint") != checkpoint:
        return "Not scored before it was exported."
    return (
        f"```\n{table_of(metrics)}\n```\n\nScores can be compared only where the recipe and the signatures are equal.\n"
    )


def header(group: str, choice: Any) -> str:
    """The header of an option's YAML: source, licence and access."""
    file = ROOT / "conf" / group / f"{choice}.yaml"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    lines = [line.lstrip("# ") for line in lines if line.startswith("#") and not line.startswith("# @package")]
    joined = "\n".join(lines)
    return f"`{group}={choice}`: {joined}\n\n" if lines else ""
