"""Overrides as they are passed to run.py, and as Hydra takes them."""

import re
from collections.abc import Iterable

# Groups whose keys are the parameters of a class. Hydra accepts only those in the YAML and wants `+` before the others.
# Here all are passed alike, and read.py refuses what the class does not have.
OPEN_GROUPS = (
    "vision.",
    "projector.",
    "objective.",
    "data.",
    "generation.",
    "logger.",
    "metrics.",
    "trainer.deepspeed.",
    "lm.generation.",
    "lm.architecture.",
)
OPEN = tuple(group.rstrip(".") for group in OPEN_GROUPS)

# A value without quotes, brackets or commas that Hydra cannot read unless it is quoted: ~/data, /data/Ärzte
UNQUOTED = re.compile(r"[^'\"\[\]{}(),$=\\]*([^\x00-\x7f]|[~!#&;<>^`])[^'\"\[\]{}(),$=\\]*")

# Dictionaries of the schema with keys of their own: one that is passed whole is merged into that of the YAML.
OPEN_DICTIONARIES = ("lm.generation", "trainer.deepspeed")

# `name=PATH` in runs=[...], which Hydra accepts in quotes only.
_NAMED_RUN = re.compile(r"""(?<=[\[,])\s*([^\[\],'"=]+=[^\[\],'"]*)""")


def for_hydra(overrides: Iterable[str]) -> list[str]:
    """Overrides as Hydra accepts them: `vision.path=X` becomes `++vision.path=X`.

    Hydra merges a dictionary into that of the YAML. Here a dictionary replaces it, so the key is set to null first; the
    dictionary itself has no `++`, since Hydra's sweeper keeps only one override of each spelling.
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


def as_passed(overrides: Iterable[str]) -> list[str]:
    """The inverse of for_hydra."""
    passed: list[str] = []
    for text in overrides:
        bare = text.removeprefix("++")
        key, _, value = bare.partition("=")
        while value.lstrip().startswith("{") and passed and passed[-1] == f"{key}=null":
            passed.pop()
        passed.append(bare if bare.startswith(OPEN_GROUPS) or key in OPEN_DICTIONARIES else text)
    return passed


def option_name(override: str) -> str:
    """`generation.num_beams` of `++generation.num_beams=3`."""
    return override.lstrip("+~").partition("=")[0]


def without_sweep(overrides: Iterable[str]) -> list[str]:
    """Without +sweeps=NAME, whose values are also there as overrides of their own."""
    return [override for override in overrides if option_name(override) != "sweeps"]


def _quoted(named: re.Match[str]) -> str:
    return f"'{named[1].strip()}'"


def _readable(text: str) -> str:
    key, equals, value = text.partition("=")
    return f"{key}='{value}'" if equals and key[:1] != "-" and UNQUOTED.fullmatch(value) else text
