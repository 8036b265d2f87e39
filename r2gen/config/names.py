"""Option names that do not exist, and the nearest that do."""

import difflib
from collections.abc import Iterable


def unknown_option(name: str, names: Iterable[str]) -> str:
    """The message for a dotted option whose last word is none of `names`."""
    word = name.rpartition(".")[2]
    near = difflib.get_close_matches(word, list(names), n=1, cutoff=0.6)
    if near:
        return f"unknown option {name}: did you mean {name.removesuffix(word)}{near[0]}?"
    names = sorted(names)
    return f"unknown option {name}: " + (f"known here are {', '.join(names)}" if names else "nothing can be set there")


def suggest(word: str, names: Iterable[str]) -> str:
    """`: did you mean X?`, or nothing where no known word is close."""
    close = difflib.get_close_matches(word, list(names), n=1, cutoff=0.6)
    return f": did you mean {close[0]}?" if close else ""
