"""The configuration of task=import: the recipe that matches a checkpoint of R2GenGPT."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from r2gen.config.compose import ROOT, Composed, compose
from r2gen.config.overrides import option_name
from r2gen.config.plain import Plain, is_under
from r2gen.config.schema import Config
from r2gen.errors import UserError
from r2gen.runs import stored

RECIPE = "r2gengpt"
NOT_OF_THE_RECIPE = ("task", "checkpoint", "run_dir", "fresh", "experiment", "tune")


def recipe_of_checkpoint(composed: Composed, overrides: list[str]) -> tuple[Config, list[str]]:
    """The recipe, with what the checkpoint records and then what was passed, and the overrides that compose to it.

    The recipe is experiment=r2gengpt_{shallow,delta,deep}_{iu,mimic}: the first part from the checkpoint's tensors, the
    second from its options, or both from experiment=... where that is passed. Raises UserError where they disagree.
    """
    passed = {option_name(override): override.partition("=")[2] for override in overrides}
    for key in ("checkpoint", "run_dir", "vision.path", "lm.path"):
        if passed.get(key, "null") in ("null", ""):
            raise UserError(
                f"task=import needs {key}=...: pass checkpoint=FILE run_dir=NEW vision.path=SWIN lm.path=LM_FOLDER"
            )
    run_dir, checkpoint, fresh = (composed.plain[name] for name in ("run_dir", "checkpoint", "fresh"))
    if (Path(run_dir).expanduser() / "checkpoints").is_dir() and not fresh:
        raise UserError(f"run_dir={run_dir} is a run already: give a new folder, or fresh=true to remove it")
    facts = read_facts(Path(checkpoint).expanduser().absolute())
    recipe = _recipe(facts, overrides, passed)
    recorded = facts["overrides"] | image_size(Path(composed.plain["vision"]["path"]))
    fixed = [name for name in passed if name not in NOT_OF_THE_RECIPE]
    kept = [f"experiment={recipe}"]
    kept += [f"{key}={value}" for key, value in recorded.items() if not any(is_under(key, name) for name in fixed)]
    kept += [override for override in overrides if option_name(override) not in NOT_OF_THE_RECIPE]
    again = compose(kept)
    config = stored.checked(again.plain, again.choices, needs_data=False)
    return replace(config, task="import", run_dir=run_dir, fresh=fresh, checkpoint=checkpoint), kept


def read_facts(file: Path) -> Plain:
    """What facts.py reads from a checkpoint, in a process of its own, since it needs torch."""
    python_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "r2gen.r2gengpt.facts", str(file)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": python_path},
    )
    if done.returncode == 2:
        raise UserError(done.stderr.strip().splitlines()[-1])
    if done.returncode:
        raise RuntimeError(f"r2gen.r2gengpt.facts ended with {done.returncode}:\n{done.stderr}")
    facts: Plain = json.loads(done.stdout)
    return facts


def image_size(swin: Path) -> dict[str, int]:
    """The image size that the encoder's own config.json names."""
    try:
        size = json.loads((swin.expanduser() / "config.json").read_text(encoding="utf-8")).get("image_size")
    except (OSError, ValueError, AttributeError):
        return {}  # weights in timm's layout; vision/hub.py says whether they can be read
    return {"vision.image_size_px": size} if isinstance(size, int) else {}


def _recipe(facts: Plain, overrides: list[str], passed: dict[str, str]) -> str:
    """The name of the experiment. Raises UserError where what was passed disagrees with the checkpoint."""
    mode = facts["mode"]
    recipe = passed.get("experiment") or f"{RECIPE}_{mode}_{facts['data'] or 'iu'}"
    if recipe.startswith(f"{RECIPE}_") and recipe.split("_")[1] != mode:
        raise UserError(f"experiment={recipe}: the checkpoint's tensors are those of {mode}")
    tunes = [override for override in overrides if option_name(override) == "tune"][1:]  # the first is run.py's own
    if any(tune != f"tune={mode}" for tune in tunes):
        raise UserError(f"{tunes[-1]}: the checkpoint's tensors are those of {mode}")
    if mode == "delta" and not {"tune.lora.alpha"} & (facts["overrides"].keys() | passed.keys()):
        raise UserError(
            "the checkpoint does not record its LoRA alpha (vis_alpha), without which its weights mean "
            "nothing: pass tune.lora.alpha=16, or what it was trained with"
        )
    if not facts["data"] and "experiment" not in passed:
        print(f"the checkpoint does not name its data set: {recipe} is used, experiment=... sets another", flush=True)
    return recipe
