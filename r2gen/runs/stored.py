"""The configuration of a run that exists, and of a task on it: what the run stored, and what may be passed now."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from r2gen.config import rules, targets, task_table
from r2gen.config.compose import Composed, compose
from r2gen.config.overrides import option_name, without_sweep
from r2gen.config.plain import Plain, is_under
from r2gen.config.read import SUPPLIED, read_config, to_plain
from r2gen.config.schema import Config, group_of
from r2gen.errors import UserError
from r2gen.runs.folder import RunFolder
from r2gen.runs.provenance import weights_hashes

TARGETS = ("vision", "projector", "objective", "data", "logger")  # groups with one class each


def for_task(passed: Plain, overrides: list[str]) -> Config:
    """The configuration of a task on the run of `run_dir`: its stored one with what was passed now.

    `passed` is what the command composed to. Raises UserError where the run does not exist, or an option was passed
    that this task may not change.
    """
    task, run_dir = task_table.BY_NAME[passed["task"]], passed["run_dir"]
    overrides = without_sweep(overrides)
    if run_dir is None:
        raise UserError(f"task={task.name} works on a trained run: give its folder with run_dir=DIR")
    folder = RunFolder(Path(run_dir))
    folder.refuse_missing(f"run_dir={run_dir}")
    folder.facts()  # refuses a folder of another version, or a damaged one
    allowed = ("task", *task.may_change, *task.own)
    for override in overrides:
        if not is_under(option_name(override), *allowed):
            raise UserError(
                f"{override}: the run in {run_dir} has this fixed; with task={task.name} only "
                f"{', '.join(allowed)} may be passed"
            )
    names = {option_name(override) for override in overrides}
    of_data = sorted(name for name in names.difference(task_table.ON_STORED_RUN) if name.startswith("data."))
    if of_data and "data" not in names:
        raise UserError(f"{of_data[0]}: for another data set than the run's, pass data=NAME and its options")
    stored, now = completed_plain(folder), _recomposed(folder, overrides)
    missing = [group for group in ("lm", "generation") if group not in stored["choices"]]
    if missing:
        raise UserError(f"{folder.config_file} has no choices.{missing[0]}. Put back what the run wrote")
    plain = {key: value for key, value in stored.items() if key != "choices"}
    for name in allowed:
        group, _, key = name.partition(".")
        if not any(is_under(passed_name, name) for passed_name in names):
            continue
        if name == "data" and name not in names:
            continue  # one of its options is passed, for the run's own class
        if not key:
            plain[group] = now.plain[group]
        elif key in now.plain[group]:
            plain[group] = {**plain[group], key: now.plain[group][key]}
    chosen_now = [group for group in ("generation", "quant") if any(is_under(name, group) for name in names)]
    chosen_now += ["data"] if "data" in names else []
    choices = stored["choices"] | {group: now.choices[group] for group in chosen_now}
    needs_data = task.scores
    try:
        return checked(plain, choices, needs_data=needs_data)
    except UserError as error:
        # The same message without what was passed now means that the stored file is at fault.
        before = _message_of(lambda: checked(_without_choices(stored), choices, needs_data=needs_data))
        raise UserError(f"{folder.config_file}: {error}" if str(error) == before else str(error)) from error


def checked(plain: Plain, choices: dict[str, str | None], *, needs_data: bool = True) -> Config:
    """The plain configuration as an object, its values and the rules between them checked. Raises UserError."""
    config = read_config(plain, choices, needs_data=needs_data)
    rules.check(config)
    return config


def completed(folder: RunFolder) -> Config:
    """The stored configuration as an object; an option that the run did not have has the value that its overrides
    compose to today. Raises UserError naming the file."""
    stored = completed_plain(folder)
    with _naming(folder.config_file):
        return read_config(_without_choices(stored), stored["choices"], needs_data=False)


def completed_plain(folder: RunFolder) -> Plain:
    """As `completed`, as plain values that are not checked."""
    stored = folder.config()
    with _naming(folder.config_file):
        missing = [*_missing(stored, Config), *_missing_arguments(stored)]
    if not missing:
        return stored
    overrides = without_sweep(folder.facts()["overrides"])
    try:
        today = compose(overrides).plain
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(
            f"{folder.config_file} lacks {', '.join(missing)}, and the overrides of this run "
            f"({' '.join(overrides)}) are refused today: {str(error).splitlines()[0]}"
        ) from error
    for name in missing:
        node, value = stored, today
        *groups, key = name.split(".")
        for group in groups:
            node, value = node[group], value.get(group) or {}
        if key in value:
            node[key] = value[key]
    return stored


def with_class_defaults(config: Config) -> Plain:
    """The configuration with the defaults of its groups' classes written out, so that two can be compared."""
    plain: Plain = to_plain(config)
    return plain | {group: to_plain(getattr(config, group).with_defaults()) for group in TARGETS}


def changed_weights(folder: RunFolder, config: Config) -> list[str]:
    """One line for each of lm.path and vision.path whose files are not those that the run was trained with."""
    before, now = folder.facts().get("weights", {}), weights_hashes(config)
    return [
        f"{name}: the files have changed (hash {before[name]} -> {now[name]})"
        for name in now
        if before.get(name, now[name]) != now[name]
    ]


def refuse_other_weights(folder: RunFolder, config: Config) -> None:
    """Raise UserError where the files of a frozen part are not those that the checkpoint was trained with."""
    changed = changed_weights(folder, config)
    if changed:
        paths = {"lm.path": config.lm.path, "vision.path": config.vision.get("path")}
        folders = ", ".join(str(paths[line.partition(":")[0]]) for line in changed)
        raise UserError(
            f"run_dir={folder.path}: its checkpoint belongs to other weights:\n  "
            + "\n  ".join(changed)
            + f"\nput the files it was trained with back into {folders}"
        )


def _recomposed(folder: RunFolder, overrides: Sequence[str]) -> Composed:
    """What the run's overrides and those passed now compose to.

    A value that was passed for the stored option of a group does not belong to an option chosen now.
    """
    chosen = {option_name(override) for override in overrides if "." not in option_name(override)}
    stored_overrides = [
        override for override in folder.facts()["overrides"] if not is_under(option_name(override), *chosen)
    ]
    return compose([*stored_overrides, *overrides])


def _without_choices(stored: Plain) -> Plain:
    return {key: value for key, value in stored.items() if key != "choices"}


def _message_of(work: Callable[[], object]) -> str | None:
    try:
        work()
    except UserError as error:
        return str(error)
    return None


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def _missing(node: Plain, schema: Any, prefix: str = "") -> Iterator[str]:
    """The dotted names that the schema has and a stored configuration does not."""
    hints = get_type_hints(schema)
    for name in (spec.name for spec in fields(schema)):
        if name not in node:
            yield prefix + name
            continue
        group = group_of(hints[name])
        if group is not None and isinstance(node[name], dict):
            yield from _missing(node[name], group, f"{prefix}{name}.")


def _missing_arguments(stored: Plain) -> Iterator[str]:
    """The arguments that the class of a group needs and its stored node does not have."""
    for group in TARGETS:
        node = stored.get(group)
        if isinstance(node, dict):
            if "_target_" not in node:
                raise UserError(f"{group} has no _target_. Put back what the run wrote")
            for name, spec in targets.parameters(node["_target_"], group).items():
                if spec.required and name not in node and name not in SUPPLIED.get(group, ()):
                    yield f"{group}.{name}"
