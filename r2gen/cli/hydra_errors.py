"""Between what users type and what Hydra wants: overrides for it, and its errors as one plain message. No torch."""

import re
import traceback
from dataclasses import is_dataclass
from typing import Any, get_args, get_type_hints

from hydra.errors import HydraException
from omegaconf.errors import GrammarParseError, InterpolationResolutionError, OmegaConfBaseException

from r2gen.cli.words import GROUPS
from r2gen.config import check, targets
from r2gen.config.overrides import OPEN, as_typed
from r2gen.config.schema import Config
from r2gen.errors import UserError, shown

# What is null unless an option of a group sets it.
SET_BY = {"tune.lora": "tune=delta", "tune.lm.lora": "tune/lm=lora", "lm.architecture": "lm=tiny"}

# Hydra sets tune.lora.alpha only where the option chosen has tune.lora. task=import is composed anew, with the option
# that its checkpoint's tensors ask for, so that its first composition may have any.
ROOM_FOR_LORA = "tune=delta"


def unplaceable(error: Exception) -> str | None:
    """The override Hydra was putting into the configuration when it met this error; None where it met it elsewhere.

    omegaconf answers a key under a null, or a word as a place in a list, by an AssertionError or ValueError of its own.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == "_apply_overrides_to_config" and "override" in frame.f_locals:
            return str(frame.f_locals["override"].input_line)
    return None


def in_words(error: Exception) -> str:
    """One plain message of what is wrong with a command; another error is raised again."""
    known = isinstance(error, UserError | HydraException | OmegaConfBaseException)
    if not known and unplaceable(error) is None:
        raise error
    return plain(error)


def plain(error: Exception) -> str:
    """What is wrong, in the words of this project where Hydra's point to something else."""
    text = str(error).strip()
    override = unplaceable(error)
    if override is not None and not isinstance(error, HydraException | OmegaConfBaseException):
        return _no_place(as_typed([override])[0])
    if "R2GenSweeper.__init__() got an unexpected keyword" in text:
        return "hydra.sweeper: these are options of a search; type hydra/sweeper=optuna beside them"
    merging = re.match(r"Error merging override (.*)", text, re.DOTALL)
    if merging and override is not None:
        return _wrong_value(as_typed([override])[0], error.__cause__)
    deleting = re.match(r"Could not delete from config\. ", text)
    if deleting and override is not None:
        return f"{shown(override)}: there is no such entry to take out with the options chosen"
    if text.startswith("Could not append to config. ") and override is not None:
        return f"{shown(override)}: this is there already: write {shown(override.lstrip('+'))}"
    unknown = re.match(r"Could not override '([\w.@/]+)'\.", text)
    if unknown:
        return _unknown_option(unknown[1])
    text = text.partition("Config search path:")[0].strip()
    missing = re.match(r"(?:In '[^']*': )?Could not find '([^']+)/([^'/]*)'", text)
    if missing:
        options = re.findall(r"^\t(\S+)$", text, re.MULTILINE)
        if not options:
            return f"unknown option {missing[1]}={missing[2]}"
        hint = check.suggest(missing[2], options)
        return f"{missing[1]}={missing[2]} does not exist{hint}\noptions of {missing[1]}: {', '.join(options)}"
    group = re.match(r"Could not override '(\S+)'\.\s+No match in the defaults list", text)
    if group:
        return f"{group[1]} is no group: {', '.join(GROUPS)} are"
    if isinstance(error, InterpolationResolutionError):
        return _interpolation(error)
    if error.__cause__ is not None and isinstance(error, HydraException):
        text = f"{text}: {str(error.__cause__).strip()}"
    return re.sub(r"\n\s+(full_key|reference_type|object_type|subtype).*", "", text)


def _no_place(typed: str) -> str:
    group = typed.lstrip("+~").partition("=")[0].rpartition(".")[0]
    fix = f": use {SET_BY[group]}" if group in SET_BY else ""
    return f"{shown(typed)}: {group or typed} has no such key with the options chosen; it is null or a list there{fix}"


def _wrong_value(typed: str, cause: BaseException | None) -> str:
    """An option of the schema got a value of another type, or an option below a value was typed."""
    key = typed.lstrip("+~").partition("=")[0]
    if isinstance(cause, InterpolationResolutionError | GrammarParseError):
        return _interpolation(cause, key=key)
    kind = _type_of(key)
    if kind is not None:
        return f"{shown(typed)}: give {kind}"
    above = key.rpartition(".")[0]
    while above and _type_of(above) is None:
        above = above.rpartition(".")[0]
    if above and not above.startswith(OPEN):
        return f"{shown(typed)}: {above} is {_type_of(above)}, there is nothing below it"
    return f"{shown(typed)}: {' '.join(str(cause).partition(chr(10))[0].split())}"


def _interpolation(error: BaseException, *, key: str = "") -> str:
    key = key or str(getattr(error, "full_key", None) or "")
    said = str(error).partition("\n")[0].strip()
    return (
        f"{key + ': ' if key else ''}{shown(said)}: ${{NAME}} stands for the value of another option, "
        "${oc.env:NAME} for one of the environment; write \\${ for the signs themselves"
    )


def _type_of(name: str) -> str | None:
    """What the schema takes for a dotted option, in words; None where it has none such, or it is a group."""
    node: type = Config
    *groups, key = name.split(".")
    for group in groups:
        nested = _nested(get_type_hints(node).get(group))
        if nested is None:
            return None
        node = nested
    if key not in get_type_hints(node):
        return None
    if _nested(get_type_hints(node)[key]) is not None:
        return f"its options one by one, as in {name}.KEY=VALUE"
    return targets.describe(targets.parameters(f"{node.__module__}.{node.__name__}")[key].annotation)


def _nested(hint: Any) -> type | None:
    """The dataclass of a group of options, None of a value."""
    return next((kind for kind in (hint, *get_args(hint)) if is_dataclass(kind)), None)  # type: ignore[return-value]


def _unknown_option(name: str) -> str:
    """`unknown option a.b, did you mean a.c?`, from the schema."""
    if name.startswith("hydra."):
        return f"unknown option {name}: docs/sweeps.md has those of launchers and sweepers"
    node: type = Config
    parts = name.split(".")
    for end, part in enumerate(parts, start=1):
        known = get_type_hints(node)
        if part not in known:
            return check.unknown_option(".".join(parts[:end]), known)
        nested = _nested(known[part])
        if nested is None and end < len(parts):
            return f"unknown option {name}: {'.'.join(parts[:end])} is no group of options"
        node = nested or node
    return f"{name}: a key of the dictionary given is unknown here; type each alone, as {name}.KEY=VALUE"
