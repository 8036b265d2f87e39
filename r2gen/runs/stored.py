"""The configuration of a task on a run that exists: what the run stored, and the few things that may be typed now."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from r2gen.config import check, rules, targets
from r2gen.config.overrides import for_hydra
from r2gen.config.plain import key_of, lies_under, without_sweep
from r2gen.config.schema import Config
from r2gen.errors import UserError
from r2gen.runs.folder import RunFolder
from r2gen.runs.provenance import ROOT, weights_hashes

ALLOWED = (
    "task",
    "run_dir",
    "images",
    "out",
    "hub",
    "data.root",
    "data.check",
    "data.section",
    "generation",
    "metrics",
    "trainer.devices",
    "trainer.nodes",
    "trainer.hostfile",
    "trainer.device",
    "evaluate",
    "logger",
)

TARGETS = ("vision", "projector", "data", "logger")  # a class each


def configuration(composed: DictConfig, overrides: list[str]) -> dict[str, Any]:
    """Recompose the run of `run_dir` with what was typed now; the rest comes from its frozen config.yaml.

    Raises UserError where the run does not exist or something else than ALLOWED was typed.
    """
    overrides = without_sweep(overrides)
    if composed.run_dir is None:
        raise UserError(f"task={composed.task} works on a trained run: give its folder with run_dir=DIR")
    folder = RunFolder(Path(composed.run_dir))
    if not folder.exists():
        raise UserError(f"run_dir={composed.run_dir} is not a run folder: there is no run.json in it")
    typed = {key_of(override) for override in overrides}
    for override in overrides:
        if not lies_under(key_of(override), *ALLOWED):
            raise UserError(
                f"{override}: the run in {composed.run_dir} has this fixed; with task={composed.task} only "
                f"{', '.join(ALLOWED)} may be typed"
            )
    # A value typed for the stored profile does not belong to a profile chosen now.
    chosen = {key for key in typed if "." not in key}
    kept = [override for override in folder.facts()["overrides"] if not lies_under(key_of(override), *chosen)]
    recomposed = hydra.compose("config", overrides=for_hydra([*kept, *overrides]), return_hydra_config=True)
    choices = recomposed.hydra.runtime.choices
    with open_dict(recomposed):
        del recomposed["hydra"]
    asked = OmegaConf.to_container(recomposed, resolve=True)
    assert isinstance(asked, dict)
    stored = completed(folder)
    plain = {key: value for key, value in stored.items() if key != "choices"}
    for name in ALLOWED:
        group, _, key = name.partition(".")
        if not any(lies_under(one, name) for one in typed):
            continue
        if not key:
            plain[group] = asked[group]
        elif key in asked[group]:
            plain[group] = {**plain[group], key: asked[group][key]}
    chosen_files = stored["choices"] | {"generation": choices["generation"]}
    wrong = _wrong(plain if composed.task == "evaluate" else with_some_root(plain), chosen_files)
    if wrong is not None:
        before = _wrong({key: value for key, value in stored.items() if key != "choices"}, chosen_files)
        raise UserError(f"{folder.config_file}: {wrong}" if wrong == before else wrong)  # else it was typed now
    return plain | {"choices": chosen_files}


def changed_weights(folder: RunFolder, config: dict[str, Any]) -> list[str]:
    """What lies at lm.path and vision.path and is no longer what the run was trained on, a line each."""
    before, now = folder.facts().get("weights", {}), weights_hashes(config)
    return [
        f"{name}: the files have changed (hash {before[name]} -> {now[name]})"
        for name in now
        if before.get(name, now[name]) != now[name]
    ]


def refuse_other_weights(folder: RunFolder, config: dict[str, Any]) -> None:
    """Raise UserError where a frozen part's files are others than those that the checkpoint was trained with."""
    changed = changed_weights(folder, config)
    if changed:
        places = ", ".join(str(config[name.partition(".")[0]]["path"]) for name in changed)
        raise UserError(
            f"run_dir={folder.path}: its checkpoint belongs to other weights:\n  "
            + "\n  ".join(changed)
            + f"\nput the files it was trained with back into {places}"
        )


def explicit(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with the defaults of its groups' classes written out, so that two compare."""
    return config | {group: targets.with_defaults(config[group]) for group in TARGETS}


def _wrong(plain: dict[str, Any], choices: dict[str, str]) -> str | None:
    """Why a configuration is refused."""
    try:
        check.check(plain)
        rules.refuse(plain, choices)
    except UserError as error:
        return str(error)
    return None


@contextmanager
def _said_of(file: Path) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def completed(folder: RunFolder, *, in_hydra: bool = True) -> dict[str, Any]:
    """The stored configuration; a key that came after the run has the value its overrides compose to today.

    `in_hydra` says that run.py's Hydra is at work. Raises UserError where those overrides no longer compose.
    """
    stored = folder.config()
    with _said_of(folder.config_file):
        lacks = [*_lacks(stored, Config), *_lacks_arguments(stored)]
    if not lacks:
        return stored
    typed = without_sweep(folder.facts()["overrides"])
    try:
        with nullcontext() if in_hydra else hydra_at_work():
            today = OmegaConf.to_container(hydra.compose("config", overrides=for_hydra(typed)), resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(
            f"{folder.config_file} lacks {', '.join(lacks)}, and what was typed for it then "
            f"({' '.join(typed)}) is refused today: {str(error).splitlines()[0]}"
        ) from error
    for name in lacks:
        place, value = stored, today
        *groups, key = name.split(".")
        for group in groups:
            place, value = place[group], (value or {}).get(group)  # type: ignore[union-attr]
        if isinstance(value, dict) and key in value:
            place[key] = value[key]
    return stored


def _lacks(node: dict[str, Any], schema: type, prefix: str = "") -> Iterator[str]:
    """The dotted names that the schema has and the stored configuration has not."""
    hints = get_type_hints(schema)
    for name in (spec.name for spec in fields(schema)):
        if name not in node:
            yield prefix + name
            continue
        for kind in (hints[name], *get_args(hints[name])):
            if is_dataclass(kind) and isinstance(node[name], dict):
                yield from _lacks(node[name], kind, f"{prefix}{name}.")  # type: ignore[arg-type]


def _lacks_arguments(stored: dict[str, Any]) -> Iterator[str]:
    """The arguments that a group's class needs and its stored node has not; the others have the class's defaults."""
    for group in TARGETS:
        node = stored.get(group)
        if isinstance(node, dict):
            if "_target_" not in node:
                raise UserError(f"{group} has no _target_; put back what the run wrote")
            for name, spec in targets.parameters(node["_target_"], group).items():
                if spec.required and name not in node and name not in check.SUPPLIED[group]:
                    yield f"{group}.{name}"


@contextmanager
def hydra_at_work() -> Iterator[None]:
    """Outside run.py: Hydra with R2Gen's conf/, whatever Hydra the caller may have at work."""
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    ConfigStore.instance().store(name="schema", node=Config)
    try:
        with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = outer


def with_some_root(plain: dict[str, Any]) -> dict[str, Any]:
    """The configuration for a check where no study is read: an imported run need not know where any lie."""
    if plain["data"].get("root") != MISSING:
        return plain
    return {**plain, "data": {**plain["data"], "root": "anywhere"}}
