"""Overrides as they are passed to run.py, and as Hydra takes them."""

import re
from collections.abc import Iterable

# Groups whose keys are a target's parameters. Hydra knows only those in the YAML and wants `+` before the others; here
# every parameter is typed alike, and check.check refuses what the target does not know.
OPEN_GROUPS = (
    "vision.",
    "projector.",
    "data.",
    "generation.",
    "logger.",
    "metrics.",
    "trainer.deepspeed.",
    "lm.generation.",
    "lm.architecture.",
)
OPEN = tuple(group.rstrip(".") for group in OPEN_GROUPS)

# What Hydra cannot read without quotes, in a value without quotes, brackets or commas of its own: ~/data, /data/Ärzte
UNQUOTED = re.compile(r"[^'\"\[\]{}(),$=\\]*([^\x00-\x7f]|[~!#&;<>^`])[^'\"\[\]{}(),$=\\]*")

# Dictionaries of the schema that take keys of their own: one typed whole is merged into the YAML's.
OPEN_DICTIONARIES = ("lm.generation", "trainer.deepspeed")

# `name=PATH` in runs=[...], which Hydra takes in quotes only.
_NAMED_RUN = re.compile(r"""(?<=[\[,])\s*([^\[\],'"=]+=[^\[\],'"]*)""")


def for_hydra(overrides: Iterable[str]) -> list[str]:
    """Overrides as Hydra takes them: `vision.path=X` becomes `++vision.path=X`.

    Hydra merges a dictionary into the one of the YAML. Here it replaces that, so the key is first set to null; the
    dictionary goes without `++`, as Hydra's sweeper keeps one override of a key spelt alike.
    """
    given = []
    for text in map(_readable, overrides):
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


def _quoted(named: re.Match[str]) -> str:
    return f"'{named[1].strip()}'"


def _readable(text: str) -> str:
    key, equals, value = text.partition("=")
    return f"{key}='{value}'" if equals and key[:1] != "-" and UNQUOTED.fullmatch(value) else text
