"""The words of a command before Hydra reads them: what Hydra would answer badly is refused here."""

import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin

from r2gen.config import hydra_bounds
from r2gen.config.compose import prepare_hydra
from r2gen.config.names import suggest
from r2gen.config.other_names import option_for
from r2gen.config.overrides import as_passed, for_hydra
from r2gen.config.root import ROOT
from r2gen.config.schema import Config
from r2gen.config.secrets import refuse_secret_words
from r2gen.errors import UserError, shown

# Each takes one option; metrics takes a list.
GROUPS = (
    "lm",
    "quant",
    "vision",
    "projector",
    "tune",
    "tune/lm",
    "objective",
    "generation",
    "data",
    "context",
    "augment",
    "trainer",
    "metrics",
    "logger",
    "compat",
    "experiment",
)
FLAGS = ("-m", "--multirun", "-r", "--run", "--resolve", "--version", "--hydra-help", "-sc", "--shell-completion")
SPELLINGS = {
    flag: {short, long}
    for short, long in (("-c", "--cfg"), ("-p", "--package"), ("-cd", "--config-dir"))
    for flag in (short, long)
}
FLAGS_WITH_VALUE = tuple(SPELLINGS)
MODES = {"-m": "-m", "--multirun": "-m", "-c": "--cfg", "--cfg": "--cfg", "-i": "--info", "--info": "--info"}
CFG = ("job", "hydra", "all")
INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
# Hydra sets tune.lora.alpha only where the option chosen has tune.lora. task=import is composed again with the option
# that the checkpoint's tensors need, so its first composition accepts any.
IMPORT_WITH_LORA = "tune=delta"


class SweepFiles(SearchPathPlugin):
    """Finds `+sweeps=NAME` from any current folder."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append("r2gen-sweeps", f"file://{ROOT}")


def for_hydra_main(words: list[str]) -> list[str]:
    """The words of a command as Hydra accepts them; makes Hydra ready to compose.

    Raises UserError naming a word that cannot be meant.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors, which then are one message with status 2
    prepare_hydra()
    Plugins.instance().register(SweepFiles)
    refuse_secret_words(words, os.environ)
    refuse(as_passed(for_hydra(words)))
    if "task=import" in words:
        words = [IMPORT_WITH_LORA, *words]
    return for_hydra(_flags_first(words))


def _flags_first(words: list[str]) -> list[str]:
    """The words as Hydra's parser accepts them, which wants all options in one stretch."""
    first: list[str] = []
    others: list[str] = []
    remaining = iter(words)
    for word in remaining:
        if word in FLAGS_WITH_VALUE:
            first += [word, *itertools.islice(remaining, 1)]
        else:
            (first if word in ("-m", "--multirun") else others).append(word)
    return [*first, *others]


def command_words() -> list[str]:
    """What was passed to this process, as its user wrote it."""
    return as_passed(sys.argv[1:])


def refuse(words: list[str]) -> None:
    """Raise UserError naming the word that cannot be meant. Values are checked once they are composed."""
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise UserError("the current folder no longer exists: change to one that does") from error
    flags = [word for word in words if word.startswith("-")]
    sweep = bool({"-m", "--multirun"} & set(flags)) or any(word.startswith("hydra.mode=") for word in words)
    if "--resolve" in flags and not any(flag.partition("=")[0] in ("-c", "--cfg") for flag in flags):
        raise UserError("--resolve goes with --cfg job, which prints the configuration: --cfg job --resolve")
    modes = sorted({MODES[flag.partition("=")[0]] for flag in flags if flag.partition("=")[0] in MODES})
    if len(modes) > 1:
        raise UserError(f"{' and '.join(modes)} exclude each other. Pass one of them; -m task=compose lists the jobs")
    first: dict[str, Override] = {}
    for word in _overrides(words):
        override = _refuse_override(word, sweep=sweep)
        if not override.is_delete() and not _are_same(first.setdefault(override.key_or_group, override), override):
            earlier = first[override.key_or_group].input_line
            raise UserError(f"{shown(earlier)} and {shown(word)}: pass {override.key_or_group} once")


def _are_same(first: Override, second: Override) -> bool:
    if first.input_line == second.input_line:
        return True
    values = [override.input_line if override.is_sweep_override() else override.value() for override in (first, second)]
    return type(values[0]) is type(values[1]) and bool(values[0] == values[1])


def _overrides(words: list[str]) -> Iterator[str]:
    """The words that are neither a flag nor the value of one."""
    remaining, given = iter(words), set[str]()
    for word in remaining:
        flag, equals, value = word.partition("=")
        if not word.startswith("-"):
            yield word
        elif flag in FLAGS_WITH_VALUE and flag in given:
            raise UserError(f"{flag} is passed twice: pass it once")
        elif flag in FLAGS_WITH_VALUE:
            given |= SPELLINGS[flag]
            value = value if equals else next(remaining, "")
            if not value or (flag in ("-c", "--cfg") and value not in CFG):
                raise UserError(f"{flag} needs a value, as in --cfg job, --package trainer or --config-dir FOLDER")
        elif flag in ("-i", "--info"):
            value = value if equals else next(remaining, "all")
            if value not in INFO:
                raise UserError(
                    f"{flag} {shown(value)} is not known: write --info last, or with one of {', '.join(INFO)}"
                )
        elif equals or flag not in FLAGS:
            raise _unknown_flag(word, next(remaining, ""))


def _unknown_flag(word: str, following: str) -> UserError:
    """The message for a flag that does not exist; it may be an option, written as other programs want it."""
    flag, equals, value = word.partition("=")
    name = flag.lstrip("-").replace("-", "_")
    option = name if name in GROUPS or name in get_type_hints(Config) else option_for(name)
    if option is not None:
        value = value if equals else "" if following.startswith("-") or "=" in following else following
        fix = option if " " in option or "=" in option else f"{option}={value or 'VALUE'}"
        return UserError(f"{shown(word)}: options have no dashes here: write {shown(fix)}")
    return UserError(
        f"{shown(word)}: run.py has no such flag{suggest(flag, (*FLAGS, *FLAGS_WITH_VALUE, '--info'))}; it has -m, "
        "--cfg job, --help, --config-dir FOLDER, and options as KEY=VALUE"
    )


def _refuse_override(word: str, *, sweep: bool) -> Override:
    """The override of a word that can be meant."""
    if any("\ud800" <= character <= "\udfff" or character == "\0" for character in word):
        raise UserError(f"{shown(word)}: this holds bytes that are no text: write it in UTF-8")
    try:
        override = OverridesParser.create().parse_override(word)
    except HydraException as error:
        raise UserError(
            f"{shown(word)}: this cannot be read{_parser_message(error)}: write KEY=VALUE, with quotes in "
            "quotes around a value with brackets, commas or other special characters: 'KEY=\"a, b\"'"
        ) from error
    except RecursionError as error:
        raise UserError(f"{shown(word)}: this is nested too deep") from error
    key = override.key_or_group
    if not key:
        raise UserError(f"{shown(word)}: this sets nothing: write KEY=VALUE, without a space before the equals sign")
    if override.is_sweep_override() and not sweep:
        raise UserError(f"{shown(word)}: several values are a sweep: add -m, or write [a,b] for a list")
    if why := hydra_bounds.refusal(key):
        raise UserError(f"{shown(word)}: {why}")
    if override.package is not None:
        raise UserError(f"{shown(word)}: every group has one place in the configuration: write {key}=OPTION")
    if key in GROUPS and not override.is_sweep_override():
        _refuse_choice(word, override)
    return override


def _refuse_choice(word: str, override: Override) -> None:
    group, value = override.key_or_group, override.value()
    if override.is_delete():
        raise UserError(f"{shown(word)}: a run needs its {group}: choose another with {group}=OPTION")
    if override.is_add() or override.is_force_add():
        raise UserError(f"{shown(word)}: write {group}=OPTION, without the plus sign")
    if isinstance(value, list) and group == "metrics":
        if not value or not all(isinstance(name, str) and name for name in value):
            raise UserError(f"{shown(word)}: name at least one metric, as in metrics=[bleu,cider]")
    elif isinstance(value, list):
        raise UserError(f"{shown(word)}: {group} is one option; a sweep over several is -m {group}=a,b")
    elif isinstance(value, dict):
        raise UserError(f"{shown(word)}: {group} is the name of an option; pass each value as {group}.KEY=VALUE")
    elif not isinstance(value, str) or not value:
        raise UserError(f"{shown(word)}: {group} is the name of an option, as `python run.py --help` lists them")
    elif group == "lm" and (value.startswith(("~", ".")) or "/" in value or "\\" in value):
        raise UserError(f"{shown(word)}: a checkpoint is passed as lm=auto lm.path={value}")


def _parser_message(error: HydraException) -> str:
    """What the parser found wrong, where that is short and does not name its own classes."""
    text = str(error).partition("\n")[0]
    return "" if "Exception" in text or "Error parsing" in text or len(text) > 100 else f" ({text})"
