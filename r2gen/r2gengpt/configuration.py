"""The configuration of task=import: the recipe that matches a checkpoint of R2GenGPT."""

from dataclasses import replace
from pathlib import Path

from r2gen.config.compose import Composed, compose
from r2gen.config.overrides import option_name
from r2gen.config.plain import is_under
from r2gen.config.schema import Config
from r2gen.errors import UserError
from r2gen.r2gengpt.facts import Facts, read_facts
from r2gen.runs import stored
from r2gen.runs.files import absolute
from r2gen.runs.folder import RunFolder
from r2gen.runs.untrusted import read_json

RECIPE = "r2gengpt"
NOT_OF_THE_RECIPE = ("task", "checkpoint", "run_dir", "fresh", "experiment", "tune")


def recipe_of_checkpoint(composed: Composed, overrides: list[str]) -> tuple[Config, list[str]]:
    """The configuration of the import, and the overrides that it is composed from.

    It is the recipe experiment=r2gengpt_{shallow,delta,deep}_{iu,mimic}, then what the checkpoint records, then what
    was passed. The first part of the name is decided by the checkpoint's tensors, the second by its options, unless
    experiment=... is passed. Raises UserError if they disagree.
    """
    passed = {option_name(override): override.partition("=")[2] for override in overrides}
    for option in ("checkpoint", "run_dir", "vision.path", "lm.path"):
        if passed.get(option, "null") in ("null", ""):
            raise UserError(
                f"task=import needs {option}=...: pass checkpoint=FILE run_dir=NEW vision.path=SWIN lm.path=LM_FOLDER"
            )
    run_dir, checkpoint, fresh = (composed.plain[name] for name in ("run_dir", "checkpoint", "fresh"))
    if (Path(run_dir).expanduser() / "checkpoints").is_dir() and not fresh:
        raise UserError(f"run_dir={run_dir} is a run already: pass a new folder, or fresh=true to remove it")
    RunFolder(Path(absolute(run_dir))).check_usable()  # first, since reading a checkpoint takes seconds
    facts = read_facts(Path(checkpoint).expanduser().absolute())
    recipe = _recipe(facts, overrides, passed)
    recorded = facts.overrides | _image_size(Path(composed.plain["vision"]["path"]))
    replaced = [option for option in passed if option not in NOT_OF_THE_RECIPE]
    recipe_overrides = [
        f"experiment={recipe}",
        *(f"{option}={value}" for option, value in recorded.items() if not any(is_under(option, p) for p in replaced)),
        *(override for override in overrides if option_name(override) not in NOT_OF_THE_RECIPE),
    ]
    recomposed = compose(recipe_overrides)
    config = stored.checked(recomposed.plain, recomposed.choices, needs_data=False)
    return replace(config, task="import", run_dir=run_dir, fresh=fresh, checkpoint=checkpoint), recipe_overrides


def _recipe(facts: Facts, overrides: list[str], passed: dict[str, str]) -> str:
    """The name of the experiment. Raises UserError if what was passed disagrees with the checkpoint."""
    recipe = passed.get("experiment") or f"{RECIPE}_{facts.mode}_{facts.data or 'iu'}"
    if recipe.startswith(f"{RECIPE}_") and recipe.split("_")[1] != facts.mode:
        raise UserError(f"experiment={recipe}: the checkpoint's tensors are those of {facts.mode}")
    tunes = [override for override in overrides if option_name(override) == "tune"][1:]  # run.py adds the first one
    if any(tune != f"tune={facts.mode}" for tune in tunes):
        raise UserError(f"{tunes[-1]}: the checkpoint's tensors are those of {facts.mode}")
    if facts.mode == "delta" and "tune.lora.alpha" not in facts.overrides.keys() | passed.keys():
        raise UserError(
            "the checkpoint does not record its LoRA alpha (vis_alpha), without which its weights cannot be used. Pass "
            "tune.lora.alpha=16, or the value of its training"
        )
    if not facts.data and "experiment" not in passed:
        print(f"the checkpoint does not name its data set: using {recipe}; experiment=... sets another", flush=True)
    return recipe


def _image_size(swin: Path) -> dict[str, str | int | float]:
    """The image size in the encoder's own config.json."""
    try:
        size = read_json(swin.expanduser() / "config.json").get("image_size")
    except (OSError, ValueError, AttributeError):
        return {}  # weights in timm's layout, or none: vision/hub.py reports it
    return {"vision.image_size_px": size} if isinstance(size, int) else {}
