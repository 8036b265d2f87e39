"""The configuration of a task on a run that exists: what the run stored, and the few things that may be typed now."""

from pathlib import Path
from typing import Any

import hydra
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict

from r2gen import compat, config
from r2gen.errors import UserError
from r2gen.messages import for_hydra
from r2gen.run_folder import RunFolder

ALLOWED = ("task", "run_dir", "images", "out", "hub", "data.root", "data.check", "generation", "metrics",
           "trainer.devices", "trainer.device", "evaluate")  # fmt: skip


def configuration(composed: DictConfig, overrides: list[str]) -> dict[str, Any]:
    """Recompose the run of `run_dir` with what was typed now; the rest comes from its frozen config.yaml.

    Raises UserError where the run does not exist or something else than ALLOWED was typed.
    """
    if composed.run_dir is None:
        raise UserError(f"task={composed.task} works on a trained run: give its folder with run_dir=DIR")
    folder = RunFolder(Path(composed.run_dir))
    if not folder.exists():
        raise UserError(f"run_dir={composed.run_dir} is not a run folder: there is no run.json in it")
    typed = {key_of(override) for override in overrides}
    for override in overrides:
        if not any(lies_under(key_of(override), name) for name in ALLOWED):
            raise UserError(f"{override}: the run in {composed.run_dir} has this fixed; with task={composed.task} only "
                            f"{', '.join(ALLOWED)} may be typed")  # fmt: skip
    # A value typed for the stored profile does not belong to a profile chosen now.
    chosen = {key for key in typed if "." not in key}
    kept = [override for override in folder.facts()["overrides"]
            if not any(lies_under(key_of(override), group) for group in chosen)]  # fmt: skip
    recomposed = hydra.compose("config", overrides=for_hydra([*kept, *overrides]), return_hydra_config=True)
    choices = recomposed.hydra.runtime.choices
    with open_dict(recomposed):
        del recomposed["hydra"]
    asked = OmegaConf.to_container(recomposed, resolve=True)
    assert isinstance(asked, dict)
    stored = folder.config()
    plain = {key: value for key, value in stored.items() if key != "choices"}
    for name in ALLOWED:
        group, _, key = name.partition(".")
        if not any(lies_under(one, name) for one in typed):
            continue
        if not key:
            plain[group] = asked[group]
        elif key in asked[group]:
            plain[group] = {**plain[group], key: asked[group][key]}
    config.check(plain if composed.task == "evaluate" else with_some_root(plain))
    chosen_files = stored["choices"] | {"generation": choices["generation"]}
    compat.refuse(plain, chosen_files)
    return plain | {"choices": chosen_files}


def with_some_root(plain: dict[str, Any]) -> dict[str, Any]:
    """The configuration for a check where no study is read: an imported run need not know where any lie."""
    if plain["data"].get("root") != MISSING:
        return plain
    return {**plain, "data": {**plain["data"], "root": "anywhere"}}


def key_of(override: str) -> str:
    """`generation.num_beams` of `++generation.num_beams=3`."""
    return override.lstrip("+~").partition("=")[0]


def lies_under(key: str, name: str) -> bool:
    return key == name or key.startswith(name + ".")
