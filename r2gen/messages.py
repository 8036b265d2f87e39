"""Between what users type and what Hydra wants: overrides for it, and its errors as one plain message. No torch."""

import re
import traceback
from collections.abc import Iterable
from dataclasses import is_dataclass
from typing import get_args, get_type_hints

from hydra.errors import HydraException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from r2gen import config
from r2gen.errors import UserError
from r2gen.schema import Config

# Groups whose keys are a target's parameters. Hydra knows only those in the YAML and wants `+` before the others; here
# every parameter is typed alike, and config.check refuses what the target does not know.
OPEN_GROUPS = ("vision.", "projector.", "data.", "generation.", "logger.", "metrics.", "trainer.deepspeed.",
               "lm.generation.", "lm.architecture.")  # fmt: skip

# Dictionaries of the schema that take keys of their own: one typed whole is merged into the YAML's.
OPEN_DICTIONARIES = ("lm.generation", "trainer.deepspeed")
# What is null unless an option of a group sets it.
SET_BY = {"tune.lora": "tune=delta", "tune.lm.lora": "tune/lm=lora", "lm.architecture": "lm=tiny"}

# Hydra sets tune.lora.alpha only where the option chosen has tune.lora. task=import is composed anew, with the option
# that its checkpoint's tensors ask for, so that its first composition may have any.
ROOM_FOR_LORA = "tune=delta"


# `name=PATH` in runs=[...], which Hydra takes in quotes only.
_NAMED_RUN = re.compile(r"""(?<=[\[,])\s*([^\[\],'"=]+=[^\[\],'"]*)""")


def _quoted(named: re.Match[str]) -> str:
    return f"'{named[1].strip()}'"


def for_hydra(overrides: Iterable[str]) -> list[str]:
    """Overrides as Hydra takes them: `vision.path=X` becomes `++vision.path=X`.

    Hydra merges a dictionary into the one of the YAML. Here it replaces that, so the key is first set to null; the
    dictionary goes without `++`, as Hydra's sweeper keeps one override of a key spelt alike.
    """
    given = []
    for text in overrides:
        key, equals, value = text.partition("=")
        if key == "runs":
            given.append(f"{key}{equals}{_NAMED_RUN.sub(_quoted, value)}")
        elif key in OPEN_DICTIONARIES and value.lstrip().startswith("{"):
            given.append(f"++{text}")
        elif not (equals and key.startswith(OPEN_GROUPS)):
            given.append(text)
        elif value.lstrip().startswith("{"):
            given += [f"++{key}=null", text]
        else:
            given.append(f"++{text}")
    return given


def as_typed(overrides: Iterable[str]) -> list[str]:
    """The inverse of for_hydra."""
    typed: list[str] = []
    for text in overrides:
        bare = text.removeprefix("++")
        key, _, value = bare.partition("=")
        if value.lstrip().startswith("{") and typed and typed[-1] == f"{key}=null":
            typed.pop()
        typed.append(bare if bare.startswith(OPEN_GROUPS) or key in OPEN_DICTIONARIES else text)
    return typed


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
        typed = as_typed([override])[0]
        group = typed.lstrip("+~").partition("=")[0].rpartition(".")[0]
        fix = f": use {SET_BY[group]}" if group in SET_BY else ""
        return f"{typed}: {group} has no such key with the options chosen; it is null or a list there{fix}"
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override}: {text.partition(chr(10))[0]}: write KEY=VALUE, and quote what the shell or Hydra splits"
        )
    unknown = re.match(r"Could not override '([\w.@/]+)'\.", text)
    if unknown:
        return _unknown_option(unknown[1])
    text = text.partition("Config search path:")[0].strip()
    missing = re.match(r"(?:In '[^']*': )?Could not find '([^']+)/([^'/]+)'", text)
    if missing:
        options = re.findall(r"^\t(\S+)$", text, re.MULTILINE)
        if not options:
            return f"unknown option {missing[1]}={missing[2]}"
        hint = config.suggest(missing[2], options)
        return f"{missing[1]}={missing[2]} does not exist{hint}\noptions of {missing[1]}: {', '.join(options)}"
    if error.__cause__ is not None and isinstance(error, HydraException):
        text = f"{text}: {str(error.__cause__).strip()}"
    return re.sub(r"\n\s+(full_key|reference_type|object_type|subtype).*", "", text)


def _unknown_option(name: str) -> str:
    """`unknown option a.b, did you mean a.c?`, from the schema."""
    node: type = Config
    for group in name.split(".")[:-1]:
        hint = get_type_hints(node).get(group)
        nested = [kind for kind in (hint, *get_args(hint)) if is_dataclass(kind)]
        if not nested:
            return f"unknown option {name}"
        node = nested[0]  # type: ignore[assignment]
    known = get_type_hints(node)
    if name.rpartition(".")[2] in known:
        return f"{name}: a key of the dictionary given is unknown here; type each alone, as {name}.KEY=VALUE"
    return config.unknown_option(name, known)
