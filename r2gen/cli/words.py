"""The words of a command before Hydra reads them: what it would answer badly is refused here. Imports no torch."""

from collections.abc import Iterator
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from r2gen.config.check import suggest
from r2gen.config.plain import lies_under
from r2gen.errors import UserError, shown

# One option each; metrics takes a list.
GROUPS = (
    "lm",
    "quant",
    "vision",
    "projector",
    "tune",
    "tune/lm",
    "generation",
    "data",
    "trainer",
    "metrics",
    "logger",
    "compat",
    "experiment",
)
ALONE = ("-m", "--multirun", "-r", "--run", "--resolve", "--version", "--hydra-help", "-sc", "--shell-completion")
WITH_VALUE = ("-c", "--cfg", "-p", "--package", "-cd", "--config-dir")
CFG = ("job", "hydra", "all")
INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
# Hydra's own folders: R2Gen's stand in run_dir.
FOLDERS = ("hydra.run", "hydra.output_subdir", "hydra.job.chdir")


def refuse(words: list[str]) -> None:
    """Raise UserError naming the word that cannot be meant; what the options hold is checked once they are composed."""
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise UserError("the folder that this is typed in is gone: go to one that is there") from error
    flags = [word for word in words if word.startswith("-")]
    sweep = bool({"-m", "--multirun"} & set(flags)) or any(word.startswith("hydra.mode=") for word in words)
    if "--resolve" in flags and not any(flag.partition("=")[0] in ("-c", "--cfg") for flag in flags):
        raise UserError("--resolve goes with --cfg job, which prints the configuration: --cfg job --resolve")
    for word in _overrides(words):
        _refuse_override(word, sweep=sweep)


def _overrides(words: list[str]) -> Iterator[str]:
    """The words that are no flag, and no flag's value."""
    row = iter(words)
    for word in row:
        flag, equals, value = word.partition("=")
        if not word.startswith("-"):
            yield word
        elif flag in WITH_VALUE:
            value = value if equals else next(row, "")
            if not value or (flag in ("-c", "--cfg") and value not in CFG):
                raise UserError(f"{flag}: say what, as in --cfg job, --package trainer or --config-dir FOLDER")
        elif flag in ("-i", "--info"):
            value = value if equals else next(row, "all")
            if value not in INFO:
                raise UserError(
                    f"{flag} {shown(value)}: say what, as in --info defaults, or write it last; it is one "
                    f"of {', '.join(INFO)}"
                )
        elif equals or flag not in ALONE:
            known = (*ALONE, *WITH_VALUE, "--info")
            raise UserError(
                f"{shown(word)}: run.py has no such flag{suggest(flag, known)}; it has -m, "
                "--cfg job, --help, --config-dir FOLDER, and options as KEY=VALUE"
            )


def _refuse_override(word: str, *, sweep: bool) -> None:
    if any("\ud800" <= sign <= "\udfff" or sign == "\0" for sign in word):
        raise UserError(f"{shown(word)}: this holds bytes that are no text: write it in UTF-8")
    try:
        override = OverridesParser.create().parse_override(word)
    except HydraException as error:
        raise UserError(
            f"{shown(word)}: this cannot be read{_place(word, error)}: write KEY=VALUE, with quotes in "
            "quotes around a value with brackets, commas or signs: 'KEY=\"a, b\"'"
        ) from error
    except RecursionError as error:
        raise UserError(f"{shown(word)}: this is nested too deep") from error
    key = override.key_or_group
    if not key:
        raise UserError(f"{shown(word)}: this sets nothing: write KEY=VALUE, without a blank before the sign")
    if override.is_sweep_override() and not sweep:
        raise UserError(f"{shown(word)}: several values are a sweep: type -m as well, or [a,b] for a list")
    if key == "hydra" or lies_under(key, *FOLDERS):
        raise UserError(f"{shown(word)}: Hydra's own folders are not used: run_dir=DIR says where a run goes")
    if override.package is not None:
        raise UserError(f"{shown(word)}: every group has one place: write {key}=OPTION")
    if key in GROUPS and not override.is_sweep_override():
        _refuse_choice(word, override)


def _refuse_choice(word: str, override: Override) -> None:
    group, value = override.key_or_group, override.value()
    if override.is_delete():
        raise UserError(f"{shown(word)}: a run needs its {group}: choose another with {group}=OPTION")
    if override.is_add() or override.is_force_add():
        raise UserError(f"{shown(word)}: write {group}=OPTION, without the plus sign")
    if isinstance(value, list) and group == "metrics":
        if not value or not all(isinstance(one, str) and one for one in value):
            raise UserError(f"{shown(word)}: name at least one metric, as in metrics=[bleu,cider]")
    elif isinstance(value, list):
        raise UserError(f"{shown(word)}: {group} is one option; a sweep over several is -m {group}=a,b")
    elif isinstance(value, dict):
        raise UserError(f"{shown(word)}: {group} is the name of an option; type each alone, as {group}.KEY=VALUE")
    elif not isinstance(value, str) or not value:
        raise UserError(f"{shown(word)}: {group} is the name of an option, as `python run.py --help` lists them")


def _place(word: str, error: HydraException) -> str:
    """What the parser met, where that is short and no name of its own classes."""
    said = str(error).partition("\n")[0]
    return "" if "Exception" in said or "Error parsing" in said or len(said) > 100 else f" ({said})"
