"""From a plain configuration to a `Config`: everything in it is checked on the way.

Hydra merges YAML into the schema, but `+key=` and `++key=` add keys that the schema does not have, and a config.yaml
may have been edited by hand, so every name and value is checked here.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from types import NoneType
from typing import Any, TypeVar, get_args, get_type_hints

from omegaconf import MISSING

from r2gen.config import deepspeed, mixed, prompt_pieces, targets
from r2gen.config.decoding import Decoding
from r2gen.config.fields import check_bounds
from r2gen.config.hints import accepts, describe
from r2gen.config.names import suggest, unknown_option
from r2gen.config.other_names import choice_for
from r2gen.config.plain import Plain
from r2gen.config.schema import Config, group_of
from r2gen.config.targets import Target
from r2gen.errors import UserError, shown

T = TypeVar("T")
LARGEST = 2**31 - 1  # the largest whole number that every library here accepts
DEEPEST = 30
DECODING = f"{Decoding.__module__}.{Decoding.__name__}"
# What build.py passes to a target besides its YAML.
SUPPLIED = {"projector": frozenset({"in_dim", "out_dim"})}
# The methods and attributes that the class of a group must have.
MEMBERS = {
    "vision": {"forward"},
    "projector": {"forward"},
    "data": {"studies", "image", "section", "cleaner", "check", "splits", "digest"},
    "metrics": {"name", "scores", "weights", "__call__", "sums"},
    "logger": {"start", "log", "close"},
    "objective": {"prepare", "losses", "figures", "generates", "encoder_only"},
}


def read_config(plain: Plain, choices: Mapping[str, str | None], *, needs_data: bool = True) -> Config:
    """The configuration as an object; `choices` has the option chosen of each group.

    `needs_data=False` accepts a data.root that has no value, for work that reads no study. Raises UserError naming the
    option for an unknown key, a missing or wrong value, or a misspelt argument of a `_target_`.
    """
    _check_plain(plain, "", depth=0)
    _check_names(plain, [spec.name for spec in fields(Config) if spec.name != "choices"], "")
    config = _read(Config, plain | {"choices": dict(choices)}, "", optional=() if needs_data else ("data.root",))
    _check_arguments(config.generation, DECODING, "generation")
    _check_names(config.lm.generation, targets.parameters(DECODING), "lm.generation")
    for key, value in config.lm.generation.items():
        if value is not None:
            raise UserError(
                f"lm.generation.{key}={shown(value)}: only null is accepted, which drops an option that this language "
                f"model cannot use. Set generation.{key} instead"
            )
    prompt_pieces.check(config.lm.prompt)
    deepspeed.check(config.trainer.deepspeed)
    return config


def read_target(node: Any, path: str, *, optional: tuple[str, ...] = ()) -> Target:
    """The target of a YAML node at `path` ("data", "metrics.bleu"), its arguments checked against its class."""
    if not isinstance(node, dict) or "_target_" not in node:
        raise UserError(
            f"{path} needs `_target_: r2gen....`, the class to build: choose an option of the group, "
            f"such as those `python run.py --help` lists"
        )
    group, name = path.partition(".")[0], node["_target_"]
    supplied = SUPPLIED.get(group, frozenset())
    missing = (MEMBERS[group] - targets.members(name, path)) | (supplied - targets.parameters(name, path).keys())
    if missing:
        raise UserError(f"{path}: _target_={name} cannot be used here: it has no {', '.join(sorted(missing))}")
    arguments = {key: value for key, value in node.items() if key != "_target_"}
    _check_arguments(arguments, name, path, supplied=supplied, optional=optional)
    target = Target(name, arguments)
    return mixed.with_sets(target, partial(_read_set, optional=bool(optional))) if group == "data" else target


def _read_set(node: Plain, path: str, *, optional: bool) -> Target:
    """A data set of a mix."""
    return read_target(node, path, optional=(f"{path}.root",) if optional else ())


def read_metrics(node: Any) -> dict[str, Target]:
    """The group `metrics`, by name."""
    if not isinstance(node, dict):
        raise UserError(f"metrics={shown(node)}: choose metrics as in metrics=[bleu,cider]")
    for name, metric in node.items():
        if not isinstance(metric, dict) or "_target_" not in metric:
            raise UserError(
                f"metrics.{name} is not among the metrics chosen: choose it with metrics=[bleu,{name}], or leave "
                f"metrics.{name} out"
            )
    return {name: read_target(metric, f"metrics.{name}") for name, metric in node.items()}


def to_plain(config: Any) -> Any:
    """The configuration as YAML has it: what `read_config` reads, and `choices`."""
    if isinstance(config, Target):
        return {"_target_": config.name, **config.arguments}
    if is_dataclass(config):
        return {spec.name: to_plain(getattr(config, spec.name)) for spec in fields(config)}
    if isinstance(config, dict):
        return {key: to_plain(value) for key, value in config.items()}
    return config


def _read(kind: type[T], node: Any, path: str, *, optional: tuple[str, ...] = ()) -> T:
    """A dataclass of schema.py from a plain node, recursively."""
    if not isinstance(node, dict):
        raise UserError(f"{path.rstrip('.')}={shown(node)}: this is a group of options: set {path}KEY=VALUE")
    hints = get_type_hints(kind)
    _check_names(node, hints, path.rstrip("."))
    values: Plain = {}
    for spec in fields(kind):  # type: ignore[arg-type]
        value, name, hint = node.get(spec.name, MISSING), path + spec.name, hints[spec.name]
        if value == MISSING:
            raise UserError(f"{name} has no value: give {name}=...")
        nested = group_of(hint)
        if hint is Target:
            values[spec.name] = read_target(value, name, optional=optional)
        elif hint == dict[str, Target]:
            values[spec.name] = read_metrics(value)
        elif nested is not None and not (value is None and NoneType in get_args(hint)):
            values[spec.name] = _read(nested, value, name + ".")
        else:
            _check_value(name, value, hint, spec)
            values[spec.name] = value
    return kind(**values)


def _check_value(name: str, value: Any, hint: Any, spec: Any) -> None:
    choices = spec.metadata.get("choices", ())
    if choices and value not in choices and not (value is None and accepts(None, hint)):
        equivalent = choice_for(name, str(value))
        fix = f"use {equivalent}" if equivalent else f"choose one of {', '.join(choices)}{suggest(str(value), choices)}"
        raise UserError(f"{name}={shown(value)}: {fix}")
    if not accepts(value, hint):
        raise UserError(f"{name}={shown(value)}: give {describe(hint)}")
    check_bounds(name, value, spec)


def _check_arguments(
    arguments: Plain,
    target: str,
    path: str,
    *,
    supplied: frozenset[str] = frozenset(),
    optional: tuple[str, ...] = (),
) -> None:
    accepted = {name: spec for name, spec in targets.parameters(target, path).items() if name not in supplied}
    _check_names(arguments, accepted, path)
    for name, spec in accepted.items():
        option = f"{path}.{name}"
        if name not in arguments:
            if spec.required:
                raise UserError(f"{option} has no value: {target} needs it, give {option}=...")
        elif arguments[name] == MISSING:
            if option not in optional:
                raise UserError(f"{option} has no value: give {option}=...")
        elif not accepts(arguments[name], spec.hint):
            raise UserError(f"{option}={shown(arguments[name])}: give {describe(spec.hint)}")


def _check_names(node: Plain, names: Iterable[str], path: str) -> None:
    names = list(names)
    for key in node:
        if key not in names:
            raise UserError(unknown_option(f"{path}.{key}" if path else str(key), names))


def _check_plain(value: Any, name: str, *, depth: int) -> None:
    """Only values that every part accepts, and that JSON and YAML can hold."""
    if depth > DEEPEST:
        raise UserError(f"{name[:60]}...: this is nested too deep")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str) or not key:
                raise UserError(f"{name}={shown(value)}: the key {key!r:.40} is not a valid name")
            _check_plain(key, name, depth=depth)
            _check_plain(item, f"{name}.{key}" if name else key, depth=depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_plain(item, name, depth=depth + 1)
    elif isinstance(value, str):
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise UserError(f"{name}={shown(value)}: this holds a null character or half of a surrogate pair")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise UserError(f"{name}={value}: give a finite number")
    elif isinstance(value, int):
        if abs(value) > LARGEST:
            raise UserError(f"{name}={shown(value)}: give a whole number up to {LARGEST:,}")
    elif value is not None:
        raise UserError(f"{name}={shown(value)}: a {type(value).__name__} is not accepted. Write a text, in quotes")
