"""The configuration of task=import: the recipe that matches an original checkpoint. Imports no torch."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf, open_dict

from r2gen.config import check, rules
from r2gen.config.overrides import for_hydra
from r2gen.config.plain import key_of, lies_under
from r2gen.errors import UserError
from r2gen.runs import provenance
from r2gen.runs.stored import with_some_root

RECIPE = "r2gengpt"
OF_THE_TASK = ("task", "checkpoint", "run_dir", "fresh", "experiment", "tune")  # not part of the recipe


def configuration(composed: DictConfig, overrides: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The matching recipe with what the checkpoint says and then what was typed, and the overrides that give it.

    The recipe is experiment=r2gengpt_{shallow,delta,deep}_{iu,mimic}: the first from the checkpoint's tensors, the
    second from its options, or both from experiment=... where that is typed. Raises UserError where they disagree.
    """
    typed = {key_of(override): override.partition("=")[2] for override in overrides}
    for key in ("checkpoint", "run_dir", "vision.path", "lm.path"):
        if typed.get(key, "null") in ("null", ""):
            raise UserError(
                f"task=import needs {key}=...: type checkpoint=FILE run_dir=NEW vision.path=SWIN_FOLDER "
                "lm.path=LM_FOLDER"
            )
    if (Path(composed.run_dir).expanduser() / "checkpoints").is_dir() and not composed.fresh:
        raise UserError(f"run_dir={composed.run_dir} is a run already: give a new folder, or fresh=true to remove it")
    found = look_into(Path(composed.checkpoint).expanduser().absolute())
    recipe = typed.get("experiment") or f"{RECIPE}_{found['mode']}_{found['data'] or 'iu'}"
    if recipe.startswith(f"{RECIPE}_") and recipe.split("_")[1] != found["mode"]:
        raise UserError(f"experiment={recipe}: the checkpoint's tensors are those of {found['mode']}")
    tunes = [override for override in overrides if key_of(override) == "tune"][1:]  # the first is ROOM_FOR_LORA
    if any(tune != f"tune={found['mode']}" for tune in tunes):
        raise UserError(f"{tunes[-1]}: the checkpoint's tensors are those of {found['mode']}")
    if found["mode"] == "delta" and not {"tune.lora.alpha"} & (found["overrides"].keys() | typed.keys()):
        raise UserError(
            "the checkpoint does not say its LoRA alpha (vis_alpha), without which its weights mean "
            "nothing: type tune.lora.alpha=16, or what it was trained with"
        )
    if not found["data"] and "experiment" not in typed:
        print(f"the checkpoint does not name its data set: {recipe} is taken, experiment=... takes another", flush=True)
    said = dict(found["overrides"]) | image_size(composed)
    kept = [
        f"{key}={value}"
        for key, value in said.items()
        if not any(lies_under(key, one) for one in typed if one not in OF_THE_TASK)
    ]
    kept += [override for override in overrides if key_of(override) not in OF_THE_TASK]
    kept = [f"experiment={recipe}", *kept]
    recomposed = hydra.compose("config", overrides=for_hydra(kept), return_hydra_config=True)
    choices = {
        group: choice
        for group, choice in recomposed.hydra.runtime.choices.items()
        if group.partition("/")[0] != "hydra"
    }
    with open_dict(recomposed):
        del recomposed["hydra"]
    plain: dict[str, Any] = OmegaConf.to_container(recomposed, resolve=True)  # type: ignore[assignment]
    check.check(with_some_root(plain))
    rules.refuse(plain, choices)
    plain |= {"run_dir": composed.run_dir, "fresh": composed.fresh, "checkpoint": composed.checkpoint, "task": "import"}
    return plain | {"choices": choices}, kept


def look_into(file: Path) -> dict[str, Any]:
    """What facts.py says of a checkpoint, in a process of its own: it needs torch."""
    python_path = os.pathsep.join(filter(None, [str(provenance.ROOT), os.environ.get("PYTHONPATH")]))
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
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def image_size(composed: DictConfig) -> dict[str, int]:
    """The image size that the encoder's own config.json names."""
    file = Path(composed.vision.path).expanduser() / "config.json"
    try:
        size = json.loads(file.read_text(encoding="utf-8")).get("image_size")
    except (OSError, ValueError, AttributeError):
        return {}  # weights in timm's layout; whether they can be read is said where they are
    return {"vision.image_size_px": size} if isinstance(size, int) else {}
