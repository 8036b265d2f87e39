"""The model card of an exported model, README.md: its parts, data, licences, scores, intended use and limits."""

import json
from pathlib import Path

from r2gen.config.mixed import choices_of
from r2gen.config.original_choices import original_choices
from r2gen.config.plain import Plain
from r2gen.config.root import ROOT
from r2gen.config.schema import Config
from r2gen.evaluate.tables import table_of
from r2gen.model.report_generator import ReportGenerator
from r2gen.model.tune import sizes
from r2gen.runs.metrics_file import metrics_path, read_metrics

TEMPLATE = """\
# {name}

A chest X-ray report generator: encoder `{encoder}`, projector, language model `lm={lm}`.
Exported by R2Gen, revision {revision}; the method is
[R2GenGPT](https://doi.org/10.1016/j.metrad.2023.100033)'s. Checkpoint {checkpoint}.
Parameters: {parameters}.
{origin}
## Load it

```
from r2gen import load_run
print(load_run("THIS_FOLDER").generate(["frontal.png", "lateral.png"]))
```

Without R2Gen: `docs/plain_script.py` of its repository, which needs torch, timm, transformers and safetensors.
The language model is {lm_location}. If it is in another folder, pass
`load_run(FOLDER, lm_path=...)`.

## Data

`data={data}`, cleaned as its configuration says; hash {data_hash}.

{data_header}
## Licence

The code is MIT. Weights are under the terms of what they were made from: the data (above), the encoder's and the
language model's own licences.

{licence_headers}
## Training

- {tune}; objective {objective}; seed {seed}; at most {epochs} epochs of batch {batch_size}, learning rate
  {learning_rate}, {schedule}
- overrides: `{overrides}`
{original_choices}
## Scores

{scores}

Decoding: `{decoding}`.

## Intended use

Research on generating reports from chest images, and comparing such programs. **Not for diagnosis**, not for care, not
for patients: it has not been tested for that, and it cannot tell when it is wrong.

## Limits

- It writes fluent sentences whether or not an image shows what they say. Compare its scores with those of the constant
  report, which uses no image.
- It was trained on the images, hospitals and wording of its training data. Children, other views, other machines and
  other languages were not tested.
- Reports can repeat training reports word for word: pass the weights on only if the licence of the data
  allows it.
"""


def card(run: Config, exported: Config, record: Plain, model: ReportGenerator) -> str:
    """The text of the card. `run` is the configuration of the run; `exported` and `record` describe the new folder."""
    choices, origin, trainer = exported.choices, record["exported"], run.trainer
    sets = choices_of(exported.data, choices["data"])
    titles = {"vision": "encoder", "projector": "projector", "lm": "language model"}
    return TEMPLATE.format(
        name=record.get("name"),
        encoder=exported.vision.get("name"),
        lm=choices["lm"],
        revision=record["git"]["revision"],
        checkpoint=origin["checkpoint"],
        parameters=", ".join(f"{titles[part.part]} {part.total:,}" for part in sizes(model)[:-1]),
        origin=origin_of(record),
        lm_location=lm_location(exported, record),
        data=choices["data"],
        data_hash=record.get("data_hash") or "unknown",
        data_header="".join(header("data", choice) for choice in dict.fromkeys(sets.values())),
        licence_headers=header("lm", choices["lm"]) + header("vision", choices["vision"]),
        tune=f"encoder {run.tune.vision}, language model {run.tune.lm.mode}",
        objective=choices.get("objective", "report"),
        seed=run.seed,
        epochs=trainer.epochs,
        batch_size=trainer.batch_size,
        learning_rate=trainer.learning_rate,
        schedule=trainer.schedule,
        overrides=" ".join(record["overrides"]) or "none",
        original_choices="".join(f"- R2GenGPT's: {choice}\n" for choice in original_choices(run)),
        scores=scores_of(metrics_path(run.folder), origin["checkpoint"]),
        decoding=json.dumps(exported.generation),
    )


def origin_of(record: Plain) -> str:
    """A sentence if the weights are not those of a finished training."""
    imported, run_status = record.get("imported"), record["exported"]["run_status"]
    if imported:
        return (
            f"Trained by R2GenGPT's own program: its `{imported['checkpoint']}`, sha256 {imported['sha256']}.\n"
            "The values under Training are the recipe of that program, not a record of this training.\n"
        )
    return "" if run_status == "finished" else f"Exported before its training had ended: that was {run_status}.\n"


def lm_location(exported: Config, record: Plain) -> str:
    origin = record["exported"]
    if origin["lm_inside"]:
        return "in `lm/`: it was trained (any LoRA is merged)"
    lm_hash = f", hash of its weight files {origin['lm_hash']}" if origin["lm_hash"] else ""
    return f"not in this folder, since it is as published: `{exported.lm.path}`{lm_hash}"


def scores_of(metrics: Path, checkpoint: str) -> str:
    """The score tables of this checkpoint, with their signatures. Those of other checkpoints are left out."""
    if read_metrics(metrics).get("checkpoint") != checkpoint:
        return "Not scored before it was exported."
    return (
        f"```\n{table_of(metrics)}\n```\n\nScores can be compared only where the recipe and the signatures are equal.\n"
    )


def header(group: str, choice: str | None) -> str:
    """The comment at the top of an option's YAML file: source, licence and access."""
    file = ROOT / "conf" / group / f"{choice}.yaml"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    lines = [line.lstrip("# ") for line in lines if line.startswith("#") and not line.startswith("# @package")]
    joined = "\n".join(lines)
    return f"`{group}={choice}`: {joined}\n\n" if lines else ""
