"""Random commands and configuration files, mostly with mistakes, for broken_configurations.py."""

import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from r2gen.cli.command_line import GROUPS as OUR_GROUPS  # noqa: E402
from r2gen.config import targets  # noqa: E402
from r2gen.config.overrides import for_hydra  # noqa: E402
from r2gen.config.plain import flat  # noqa: E402
from r2gen.config.read import DECODING  # noqa: E402

GROUPS = {group: sorted(file.stem for file in (ROOT / "conf" / group).glob("*.yaml")) for group in OUR_GROUPS}
TASKS = ("train", "evaluate", "generate", "predict", "check", "import", "export", "prepare")  # the others start no rank
# Values that are invalid for most options; flags and arguments that are not `option=value`.
WORDS = Path(__file__).with_name("broken_words.txt").read_text(encoding="utf-8")
STRANGE, FLAGS = (part.split() for part in WORDS.split("========"))
STRANGE += ["", "' '", "a: b", "'a\nb'", "'a\tb'", "\0", "'\ud800'", "x" * 3000, "[" * 200, "{a: 1, a: 2}"]
TAILS = ["x", "0", "path", "", "_target_", "a.b", "ü"]
STRIDE = 1
PREFIXES = ["", "", "", "", "", "+", "++", "~"]


@dataclass(frozen=True)
class Command:
    """Choices of groups, then values, then mistakes: a flag, a bracket, a task."""

    choices: tuple[str, ...]
    values: tuple[str, ...]
    mistakes: tuple[str, ...] = ()

    @property
    def words(self) -> list[str]:
        return [*self.choices, *self.values, *self.mistakes]


@cache
def composed(choices: tuple[str, ...]) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", overrides=for_hydra(choices), return_hydra_config=True)


@cache
def combinations() -> list[tuple[str, ...]]:
    """Each option of each group, and sixty random pairs of options; of these every STRIDEth."""
    choices = [_chosen(group, option) for group, options in GROUPS.items() for option in options]
    drawn = random.Random(0)
    pairs = (tuple(drawn.sample(choices, 2)) for _ in range(60))
    return [(), *((choice,) for choice in choices), *pairs][::STRIDE]


@cache
def defaults() -> dict[str, list[str]]:
    """Every dotted name of the configuration with its values in all combinations, and the arguments of its classes."""
    by_name: dict[str, dict[str, None]] = {}
    for choices in combinations():
        plain: Any = OmegaConf.to_container(composed(choices), resolve=False)
        del plain["hydra"]
        for name, value in flat(plain):
            parts = name.split(".")
            for end in range(1, len(parts)):
                by_name.setdefault(".".join(parts[:end]), {})
            by_name.setdefault(name, {})[written(value)] = None
        for part in ("vision", "projector", "data", "logger"):
            for key in targets.parameters(plain[part]["_target_"]):
                by_name.setdefault(f"{part}.{key}", {})
    for key in targets.parameters(DECODING):
        by_name.setdefault(f"generation.{key}", {})
    return {name: list(values) for name, values in by_name.items()}


def written(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()


def values_of(name: str) -> st.SearchStrategy[str]:
    """Mostly likely values: one that some option has, or a number; otherwise any text."""
    likely = defaults()[name]
    valid = [st.sampled_from(likely)] * 3 if likely else []
    numbers = [st.integers(0, 70).map(str), st.floats(0, 2).map(str)] if not likely or likely[0][:1].isdigit() else []
    return st.one_of(*valid, *numbers, st.sampled_from(STRANGE), st.text(max_size=8))


def overrides() -> st.SearchStrategy[str]:
    existing = st.sampled_from(sorted(defaults()))
    good = existing.flatmap(lambda name: values_of(name).map(lambda value: f"{name}={value}"))
    longer = st.builds("{}.{}".format, existing, st.sampled_from(TAILS))
    name = existing | st.builds(misspelt, existing, st.integers(0, 50)) | longer
    bad = st.builds("{}{}={}".format, st.sampled_from(PREFIXES), name, st.sampled_from(STRANGE))
    return good | good | bad


def commands() -> st.SearchStrategy[Command]:
    task = st.sampled_from(TASKS).map("task={}".format)
    mistakes = (
        st.sampled_from(FLAGS)
        | task
        | st.sampled_from(sorted(GROUPS)).flatmap(
            lambda group: st.sampled_from(STRANGE + GROUPS[group]).map(lambda value: f"{group}={value}")
        )
    )
    return st.builds(
        lambda choices, values, mistake, percent: Command(choices, tuple(values), (mistake,) if percent < 6 else ()),
        st.sampled_from(combinations()),
        st.lists(overrides(), max_size=3),
        mistakes,
        st.integers(0, 99),
    )


def misspelt(name: str, position: int) -> str:
    position %= len(name)
    return name[:position] + name[position + 1 :]


def _chosen(group: str, option: str) -> str:
    return f"metrics=[{option}]" if group == "metrics" else f"{group}={option}"


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(STRANGE)
    | st.dates()
    | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=5,
)


def edited() -> st.SearchStrategy[dict[str, Any]]:
    """A config.yaml that somebody edited: values of any type, removed keys, added keys."""
    edit = st.tuples(
        st.sampled_from(["set", "valid", "valid", "valid", "remove", "add"]), st.integers(0, 10_000), PLAIN
    )
    return st.builds(_edit, st.sampled_from(combinations()), st.lists(edit, min_size=1, max_size=3))


def _edit(choices: tuple[str, ...], edits: list[tuple[str, int, Any]]) -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(composed(choices), resolve=False)
    del plain["hydra"]
    for kind, number, value in edits:
        nodes = [(node, key) for node in _nodes(plain) for key in node]
        node, key = nodes[number % len(nodes)]
        if kind == "remove":
            del node[key]
        elif kind == "valid":  # a value that a key of that name has in some option
            valid = [text for name, texts in defaults().items() if name.rpartition(".")[2] == key for text in texts]
            node[key] = yaml.safe_load(valid[number % len(valid)]) if valid else node[key]
        else:
            node[key if kind == "set" else f"{key}_"] = value
    return plain


def _nodes(node: Any) -> Iterator[dict[Any, Any]]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from _nodes(value)
