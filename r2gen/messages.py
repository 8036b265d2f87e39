"""Between what users type and what Hydra wants: overrides for it, and its errors as one plain message. No torch."""

import re
from collections.abc import Iterable
from dataclasses import is_dataclass
from typing import get_args, get_type_hints

from hydra.errors import HydraException, OverrideParseException

from r2gen import config

# Groups whose keys are a target's parameters. Hydra knows only those in the YAML and wants `+` before the others; here
# every parameter is typed alike, and config.check refuses what the target does not know.
OPEN_GROUPS = ("vision.", "projector.", "data.", "generation.", "logger.", "metrics.", "trainer.deepspeed.",
               "lm.generation.", "lm.architecture.")  # fmt: skip

# Hydra sets tune.lora.alpha only where the option chosen has tune.lora. task=import is composed anew, with the option
# that its checkpoint's tensors ask for, so that its first composition may have any.
ROOM_FOR_LORA = "tune=delta"


def for_hydra(overrides: Iterable[str]) -> list[str]:
    """Overrides as Hydra takes them: `vision.path=X` becomes `++vision.path=X`.

    Hydra merges a dictionary into the one of the YAML. Here it replaces that, so the key is first set to null; the
    dictionary goes without `++`, as Hydra's sweeper keeps one override of a key spelt alike.
    """
    given = []
    for text in overrides:
        key, equals, value = text.partition("=")
        if not (equals and key.startswith(OPEN_GROUPS)):
            given.append(text)
            continue
        if value.lstrip().startswith("{"):
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
        typed.append(bare if bare.startswith(OPEN_GROUPS) else text)
    return typed


def plain(error: Exception) -> str:
    """What is wrong, in the words of this project where Hydra's point to something else."""
    text = str(error).strip()
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
    schema: type = config.Config
    for group in name.split(".")[:-1]:
        hint = get_type_hints(schema).get(group)
        nested = [kind for kind in (hint, *get_args(hint)) if is_dataclass(kind)]
        if not nested:
            return f"unknown option {name}"
        schema = nested[0]  # type: ignore[assignment]
    return config.unknown_option(name, get_type_hints(schema))
