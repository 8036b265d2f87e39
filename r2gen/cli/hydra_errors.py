"""Hydra's and OmegaConf's errors as one message that names the option and the fix.

Their texts are matched as hydra-core 1.3.8 and omegaconf 2.3 write them, which pyproject.toml pins;
tests/cli/test_hydra_errors.py provokes each.
"""

import os
import re
import traceback
from collections.abc import Callable
from typing import get_type_hints

from hydra.errors import HydraException
from omegaconf.errors import ConfigKeyError, GrammarParseError, InterpolationResolutionError, OmegaConfBaseException

from r2gen.cli.command_line import GROUPS
from r2gen.config import hints
from r2gen.config.names import suggest, unknown_option
from r2gen.config.other_names import choice_for, option_for
from r2gen.config.overrides import OPEN, as_passed, option_name
from r2gen.config.root import CONF
from r2gen.config.schema import Config, group_of
from r2gen.config.secrets import without_secrets
from r2gen.config.targets import Target
from r2gen.config.yaml_files import read_files
from r2gen.errors import UserError, shown

SUCH_AS = {"data.sets": "{root: DIR}"}  # the value of a name
# Groups that are null unless this option is chosen.
SET_BY = {"tune.lora": "tune=delta", "tune.lm.lora": "tune/lm=lora", "lm.architecture": "lm=tiny"}


def in_words(error: Exception) -> str:
    """One plain message of what is wrong with a command, without secrets; another error is raised again."""
    return without_secrets(_message(error), os.environ)


def _message(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error).strip()
    override = _override_in_work(error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _in_words(error, override)
    if override is not None:
        return _no_such_key(as_passed([override])[0])
    raise error


def _in_words(error: Exception, override: str | None) -> str:
    text = str(error).strip()
    if override is not None:
        for beginning, words in _OF_AN_OVERRIDE:
            if text.startswith(beginning):
                return words(override, error)
    if "R2GenSweeper.__init__() got an unexpected keyword" in text:
        return "hydra.sweeper: these are options of a search; add hydra/sweeper=optuna"
    if unknown := re.match(r"Could not override '([\w.@/-]+)'\.", text):
        return _unknown(unknown[1])
    if composing := re.match(r"In '([^']*)': \w+ raised while composing config:", text):
        return f"{read_files.get(composing[1], composing[1])}: {_of_a_file(composing[1], error.__context__)}"
    text = text.partition("Config search path:")[0].strip()
    if unchosen := re.match(r"You must specify '([\w/]+)'", text):
        options = ", ".join(re.findall(r"^\t(\S+)$", text, re.MULTILINE))
        return f"{unchosen[1]}=??? has no value: choose one of {options}"
    if unloaded := re.search(r"Could not load '(\w+)/([^']*)'", text):
        group, option = unloaded.groups()
        return _missing_option(group, option, sorted(file.stem for file in (CONF / group).glob("*.yaml")))
    if missing := re.match(r"(?:In '[^']*': )?Could not find '([^']+)/([^'/]*)'", text):
        return _missing_option(missing[1], missing[2], re.findall(r"^\t(\S+)$", text, re.MULTILINE))
    if isinstance(error, InterpolationResolutionError):
        return _interpolation(error)
    if within := re.match(r"In '([^']*)': ", text):
        text = f"{read_files.get(within[1], within[1])}: {text[within.end() :]}"
    if error.__cause__ is not None and isinstance(error, HydraException):
        text = f"{text}: {str(error.__cause__).strip()}"
    return re.sub(r"\n\s+(full_key|reference_type|object_type|subtype).*", "", text)


def _override_in_work(error: Exception) -> str | None:
    """The override that Hydra was putting into the configuration when it raised this error.

    OmegaConf raises a bare AssertionError or ValueError for a key below null, or for a word as an index of a list, so
    that the override must be read from Hydra's own frame.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == "_apply_overrides_to_config" and "override" in frame.f_locals:
            return str(frame.f_locals["override"].input_line)
    return None


def _of_a_file(path: str, error: BaseException | None) -> str:
    """What Hydra found wrong with the values of a file."""
    key = str(getattr(error, "full_key", None) or "")
    if isinstance(error, ConfigKeyError) and key == path.partition("/")[0] and key not in get_type_hints(Config):
        return "its first line is not `# @package _global_`, so that its options would be those of a group " + key
    if isinstance(error, ConfigKeyError) and key:
        return _unknown(key)
    kind = _type_of(key) if key else None
    if kind is not None:
        return f"{key}: give {kind}"
    for beginning, words in _OF_A_FILE:
        if str(error).startswith(beginning):
            return words
    return f"{key + ': ' if key else ''}{shown(str(error).partition(chr(10))[0])}"


def _wrong_value(override: str, error: Exception) -> str:
    """A value of another type, or an option below a value."""
    passed = as_passed([override])[0]
    key, cause = option_name(passed), error.__cause__
    if isinstance(cause, InterpolationResolutionError | GrammarParseError):
        return _interpolation(cause, key=key)
    kind = _type_of(key)
    if kind is not None:
        return f"{shown(passed)}: give {kind}"
    above = key.rpartition(".")[0]
    while above and _type_of(above) is None:
        above = above.rpartition(".")[0]
    if above and not above.startswith(OPEN):
        return f"{shown(passed)}: {above} is {_type_of(above)}, there is nothing below it"
    text = " ".join(str(cause).partition("\n")[0].split())
    if text == "Cannot merge DictConfig with ListConfig":
        text = f"give names with values instead of a list, as in '{key}={{NAME: {SUCH_AS.get(key, 'VALUE')}}}'"
    return f"{shown(passed)}: {text}"


def _nothing_to_delete(override: str, error: Exception) -> str:
    return f"{shown(override)}: there is no such entry to take out with the options chosen"


def _exists_already(override: str, error: Exception) -> str:
    return f"{shown(override)}: this option exists already: write {shown(override.lstrip('+'))}"


# The beginnings of Hydra's messages about one override.
_OF_AN_OVERRIDE: tuple[tuple[str, Callable[[str, Exception], str]], ...] = (
    ("Error merging override ", _wrong_value),
    ("Could not delete from config. ", _nothing_to_delete),
    ("Could not append to config. ", _exists_already),
)


_OF_A_FILE = (
    ("Merge error: ", "a group of options is set to a single value: write its options below it"),
    ("Cannot merge ", "there is a list where names with values are expected, or names with values where a list is"),
)


def _missing_option(group: str, option: str, options: list[str]) -> str:
    if not options:
        return f"unknown option {group}={option}"
    equivalent = choice_for(group, option)
    if equivalent is not None:
        return f"{group}={option} does not exist: use {equivalent}"
    other = "; any other checkpoint: lm=auto lm.path=FOLDER" if group == "lm" else ""
    return f"{group}={option} does not exist{suggest(option, options)}\noptions of {group}: {', '.join(options)}{other}"


def _no_such_key(passed: str) -> str:
    group = option_name(passed).rpartition(".")[0]
    fix = f": use {SET_BY[group]}" if group in SET_BY else ""
    return (
        f"{shown(passed)}: {group or passed} has no such key with the options chosen; it is null or a list there{fix}"
    )


def _interpolation(error: BaseException, *, key: str = "") -> str:
    key = key or str(getattr(error, "full_key", None) or "")
    text = str(error).partition("\n")[0].strip()
    return (
        f"{key + ': ' if key else ''}{shown(text)}: ${{NAME}} is the value of another option, "
        "${oc.env:NAME} one of the environment; write \\${ for the characters themselves"
    )


def _unknown(name: str) -> str:
    """`unknown option a.b: did you mean a.c?`, from the schema."""
    if name.startswith(("hydra.", "hydra/")):
        return f"unknown option {name}: docs/sweeps.md has those of launchers and sweepers"
    if "/" in name:
        return f"{name} is not a group. The groups are {', '.join(GROUPS)}"
    node: type = Config
    parts = name.split(".")
    for end, part in enumerate(parts, start=1):
        names = [key for key in get_type_hints(node) if key != "choices"]
        if part not in names:
            equivalent = option_for(name)
            if equivalent is not None:
                return f"unknown option {name}: write {equivalent}"
            return unknown_option(".".join(parts[:end]), names)
        nested = group_of(get_type_hints(node)[part])
        if nested is None and end < len(parts):
            return f"unknown option {name}: {'.'.join(parts[:end])} is not a group of options"
        node = nested or node
    return f"{name}: the dictionary has a key that is unknown here; pass each value as {name}.KEY=VALUE"


def _type_of(name: str) -> str | None:
    """What the schema accepts for a dotted option, in words; None where it has no such option."""
    node: type = Config
    *groups, key = name.split(".")
    for group in groups:
        nested = group_of(get_type_hints(node).get(group))
        if nested is None:
            return None
        node = nested
    hint = get_type_hints(node).get(key)
    if hint is None or key == "choices":
        return None
    if group_of(hint) is not None:
        return f"its options one by one, as in {name}.KEY=VALUE"
    return "names with values, such as {name: value}" if hint is Target else hints.describe(hint)
