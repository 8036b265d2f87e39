"""Commands and configurations as wrong as they come: each must be answered by status 0 or 2, and 2 by one message.

    python tests/broken_configurations.py --examples 10000 [--seed 0]

A command is composed and checked by run.py's own parts; nothing is started. tests/test_broken_configurations.py runs a
few hundred of the same; this script as many as are asked for, and prints what it met.
"""

import argparse
import collections
import copy
import io
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf, open_dict

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import run  # noqa: E402
from r2gen import build as parts  # noqa: E402  now: seconds of torch are no part of an answer
from r2gen import checked, command_line, compat, config, messages, targets  # noqa: E402
from r2gen.errors import UserError  # noqa: E402
from r2gen.run_folder import flat  # noqa: E402
from r2gen.schema import Config  # noqa: E402

GROUPS = {group: sorted(file.stem for file in (ROOT / "conf" / group).glob("*.yaml")) for group in command_line.GROUPS}
TASKS = ("train", "evaluate", "generate", "check", "import", "export", "prepare")
# Values that no option means, and values that some option does; words that are no values.
WORDS = Path(__file__).with_name("broken_words.txt").read_text(encoding="utf-8")
STRANGE, FLAGS = (part.split() for part in WORDS.split("========"))
STRANGE += ["", "' '", "a: b", "'a\nb'", "'a\tb'", "\0", "'\ud800'", "x" * 3000, "[" * 200, "{a: 1, a: 2}"]
TAILS = ["x", "0", "path", "", "_target_", "a.b", "ü"]
STRIDE = 1
PREFIXES = ["", "", "", "", "", "+", "++", "~"]


@dataclass(frozen=True)
class Command:
    """Choices of groups, then values, then what is typed by mistake: a flag, a bracket, a task."""

    choices: tuple[str, ...]
    values: tuple[str, ...]
    odd: tuple[str, ...] = ()

    @property
    def typed(self) -> list[str]:
        return [*self.choices, *self.values, *self.odd]


@cache
def composed(choices: tuple[str, ...]) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", overrides=messages.for_hydra(choices), return_hydra_config=True)


@cache
def combinations() -> list[tuple[str, ...]]:
    """Every option of every group once, and sixty drawn pairs of them; of these every STRIDEth."""
    one = [_chosen(group, option) for group, options in GROUPS.items() for option in options]
    drawn = random.Random(0)
    pairs = (tuple(drawn.sample(one, 2)) for _ in range(60))
    return [(), *((choice,) for choice in one), *pairs][::STRIDE]


@cache
def defaults() -> dict[str, list[str]]:
    """Every dotted name that an option of a group gives, with the values it has there, and their classes' arguments."""
    found: dict[str, dict[str, None]] = {}
    for choices in combinations():
        plain: Any = OmegaConf.to_container(composed(choices), resolve=False)
        del plain["hydra"]
        for name, value in flat(plain):
            parts = name.split(".")
            for end in range(1, len(parts)):
                found.setdefault(".".join(parts[:end]), {})
            found.setdefault(name, {})[written(value)] = None
        for part in ("vision", "projector", "data", "logger"):
            for key in targets.parameters(plain[part]["_target_"]):
                found.setdefault(f"{part}.{key}", {})
    for key in targets.parameters(config.DECODING):
        found.setdefault(f"generation.{key}", {})
    return {name: list(values) for name, values in found.items()}


def written(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()


def values_of(name: str) -> st.SearchStrategy[str]:
    """Mostly what could be meant: a value that some option has, one of the choices, a number; else anything."""
    likely = defaults()[name]
    meant = [st.sampled_from(likely)] * 3 if likely else []
    numbers = [st.integers(0, 70).map(str), st.floats(0, 2).map(str)] if not likely or likely[0][:1].isdigit() else []
    return st.one_of(*meant, *numbers, st.sampled_from(STRANGE), st.text(max_size=8))


def typed_values() -> st.SearchStrategy[str]:
    known = st.sampled_from(sorted(defaults()))
    good = known.flatmap(lambda name: values_of(name).map(lambda value: f"{name}={value}"))
    longer = st.builds("{}.{}".format, known, st.sampled_from(TAILS))
    name = known | st.builds(misspelt, known, st.integers(0, 50)) | longer
    bad = st.builds("{}{}={}".format, st.sampled_from(PREFIXES), name, st.sampled_from(STRANGE))
    return good | good | bad


def commands() -> st.SearchStrategy[Command]:
    task = st.sampled_from(TASKS).map("task={}".format)
    odd = st.sampled_from(FLAGS) | task | st.sampled_from(sorted(GROUPS)).flatmap(
        lambda group: st.sampled_from(STRANGE + GROUPS[group]).map(lambda value: f"{group}={value}"))  # fmt: skip
    return st.builds(
        lambda choices, values, odd, rare: Command(choices, tuple(values), (odd,) if rare < 6 else ()),
        st.sampled_from(combinations()), st.lists(typed_values(), max_size=3), odd, st.integers(0, 99),
    )  # fmt: skip


def misspelt(name: str, place: int) -> str:
    place %= len(name)
    return name[:place] + name[place + 1 :]


def _chosen(group: str, option: str) -> str:
    return f"metrics=[{option}]" if group == "metrics" else f"{group}={option}"


def answer(command: Command) -> tuple[int, str, dict[str, Any] | None]:
    """Status, what was said, and the configuration where it was accepted.

    A command of plain values goes the way of run.py's Hydra without reading conf/ anew; any other one through `main`.
    """
    said = io.StringIO()
    names = {value.lstrip("+~").partition("=")[0] for value in command.values}
    with redirect_stderr(said), redirect_stdout(said):
        if command.odd or names & {*GROUPS, "hydra", "task"}:
            return _main(command.typed), said.getvalue(), None
        try:
            typed = messages.for_hydra(command.typed)
            command_line.refuse(messages.as_typed(typed))
            cfg = copy.deepcopy(composed(command.choices))
            overrides = OverridesParser.create().parse_overrides(messages.for_hydra(command.values))
            ConfigLoaderImpl._apply_overrides_to_config(overrides, cfg)
            choices = checked.group_choices(cfg.hydra.runtime.choices)
            with open_dict(cfg):
                del cfg["hydra"]
            return 0, "", checked.configuration(cfg, choices, [])
        except Exception as error:
            return run.refuse(error), said.getvalue(), None


def _main(typed: list[str]) -> int:
    run.statuses.clear()
    sys.argv = ["run.py", *typed]
    try:
        return run.main()
    except SystemExit as left:
        return int(left.code or 0)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(STRANGE)
    | st.dates() | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


def edited() -> st.SearchStrategy[dict[str, Any]]:
    """A configuration as a hand may have left its config.yaml: values of any kind, keys gone, keys too many."""
    edit = st.tuples(
        st.sampled_from(["set", "meant", "meant", "meant", "take out", "add"]), st.integers(0, 10_000), PLAIN
    )
    return st.builds(_edit, st.sampled_from(combinations()), st.lists(edit, min_size=1, max_size=3))


def _edit(choices: tuple[str, ...], edits: list[tuple[str, int, Any]]) -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(composed(choices), resolve=False)
    del plain["hydra"]
    for kind, place, value in edits:
        nodes = [(node, key) for node in _nodes(plain) for key in node]
        node, key = nodes[place % len(nodes)]
        if kind == "take out":
            del node[key]
        elif kind == "meant":  # what a key of that name has with some option
            found = [text for name, texts in defaults().items() if name.rpartition(".")[2] == key for text in texts]
            node[key] = yaml.safe_load(found[place % len(found)]) if found else node[key]
        else:
            node[key if kind == "set" else f"{key}_"] = value
    return plain


def _nodes(node: Any) -> Iterator[dict[Any, Any]]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from _nodes(value)


def refused(plain: dict[str, Any]) -> str | None:
    """The message that a configuration from a file is refused with, None where it is accepted."""
    try:
        config.check(plain)
        compat.refuse(plain)
    except UserError as error:
        return str(error)
    return None


def build_parts(plain: dict[str, Any]) -> None:
    """Build what an accepted configuration asks for, as far as that is small; UserError where it cannot be."""
    parts.build_metrics(plain)
    parts.build_logger(plain)
    parts.loop_settings(plain)
    lm, data = plain["lm"], plain["data"]
    if data["_target_"].endswith("Phantom") and all(data[f"{split}_studies"] < 100 for split in ("train", "val")):
        phantom = parts.build_data(plain)
        phantom.film(phantom.studies("train")[0].views[0])
    shape = lm["architecture"]
    if lm["path"] is None and shape and max(shape.values()) < 3000:
        tokenizer = parts.train_tokenizer(["The lungs are clear."] * 3, lm["vocabulary_size"])
        parts.random_lm(tokenizer=tokenizer, seed=plain["seed"], **shape, attention=lm["attention"])
    if plain["vision"].get("path") is None and plain["vision"]["image_size_px"] < 1000:
        parts.instantiate(plain["vision"])
    parts.instantiate(plain["projector"], in_dim=8, out_dim=8)


def check_message(message: str) -> None:
    """One message: it names something, in a few lines, without Python's or Hydra's own words."""
    assert message.startswith("error: "), message
    assert len(message.strip()) > len("error: ") + 10, message
    assert message.count("\n") <= 10, message
    for word in ("Traceback", "object_type", "full_key", "LexerNoViable", "ConfigAttributeError", "<class"):
        assert word not in message, message


@contextmanager
def no_hang(seconds: int = 60) -> Iterator[None]:
    """Raise TimeoutError where an answer takes longer."""

    def late(number: int, frame: Any) -> None:
        raise TimeoutError(f"no answer for {seconds} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


@contextmanager
def at_work() -> Iterator[None]:
    """Hydra knows the schema, nothing is started, and no word typed here leaves a file where the tests run."""
    ConfigStore.instance().store(name="schema", node=Config)
    launch = run.launch.launch
    arguments, outer = sys.argv, GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        run.launch.launch = lambda config, overrides: 0
        try:
            yield
            assert not list(Path(folder).iterdir()), "a refused command left files"
        finally:
            run.launch.launch = launch
            sys.argv, GlobalHydra.instance().hydra = arguments, outer


def check_command(command: Command, *, build: bool) -> int:
    with no_hang():
        status, said, accepted = answer(command)
        assert status in (0, 2), (status, said)
        if status == 2:
            check_message(said)
        if accepted is not None and build:
            with suppress(UserError):
                build_parts(accepted)
    return status


def check_edited(plain: dict[str, Any], *, build: bool) -> int:
    with no_hang():
        message = refused(plain)
        if message is not None:
            check_message(f"error: {message}")
        elif build:
            with suppress(UserError):
                build_parts(plain)
    return 0 if message is None else 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given_now = parser.parse_args()
    rules = settings(max_examples=given_now.examples // 2, deadline=None, database=None,
                     suppress_health_check=list(HealthCheck))  # fmt: skip
    began, counts = time.monotonic(), collections.Counter[str]()
    with at_work():

        @seed(given_now.seed)
        @rules
        @given(commands(), st.integers(0, 9))
        def typed(command: Command, build: int) -> None:
            counts[f"commands with status {check_command(command, build=build == 0)}"] += 1

        @seed(given_now.seed)
        @rules
        @given(edited(), st.integers(0, 9))
        def in_files(plain: dict[str, Any], build: int) -> None:
            counts[f"files with status {check_edited(plain, build=build == 0)}"] += 1

        typed()
        in_files()
    for name, count in sorted(counts.items()):
        print(f"{count:>7,} {name}")
    print(f"no traceback, no hang; {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
