"""Commands and configurations as wrong as they come: each must be answered by status 0 or 2, and 2 by one message.

    python tests/support/broken_configurations.py --examples 10000 [--seed 0]

A command is composed and checked by run.py's own parts; nothing is started. This script runs as many as are requested
and prints what it met; tests/config/test_broken_configurations.py runs a few hundred of the same.
"""

import argparse
import collections
import copy
import io
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from random_configurations import GROUPS, Command, commands, composed, edited  # noqa: E402

import run  # noqa: E402
from r2gen import build as parts  # noqa: E402  now: seconds of torch are no part of an answer
from r2gen.cli import command_line  # noqa: E402
from r2gen.config.compose import register_schema, without_hydra  # noqa: E402
from r2gen.config.overrides import as_passed, for_hydra  # noqa: E402
from r2gen.config.schema import Config  # noqa: E402
from r2gen.config.targets import instantiate  # noqa: E402
from r2gen.errors import UserError  # noqa: E402
from r2gen.runs.refusal import refuse  # noqa: E402
from r2gen.runs.requested import requested  # noqa: E402
from r2gen.runs.stored import checked  # noqa: E402
from r2gen.tasks import dispatch, scoring  # noqa: E402


def answer(command: Command) -> tuple[int, str, Config | None]:
    """Status, what was said, and the configuration where it was accepted.

    A command of plain values goes the way of run.py's Hydra without reading conf/ anew; any other one through `main`.
    """
    said = io.StringIO()
    names = {value.lstrip("+~").partition("=")[0] for value in command.values}
    with redirect_stderr(said), redirect_stdout(said):
        if command.odd or names & {*GROUPS, "hydra", "task"}:
            return _main(command.typed), said.getvalue(), None
        try:
            typed = for_hydra(command.typed)
            command_line.refuse(as_passed(typed))
            cfg = copy.deepcopy(composed(command.choices))
            overrides = OverridesParser.create().parse_overrides(for_hydra(command.values))
            ConfigLoaderImpl._apply_overrides_to_config(overrides, cfg)
            return 0, "", requested(without_hydra(cfg), [])
        except Exception as error:
            return refuse(error), said.getvalue(), None


def _main(typed: list[str]) -> int:
    run.statuses.clear()
    sys.argv = ["run.py", *typed]
    try:
        return run.main()
    except SystemExit as left:
        return int(left.code or 0)


def accepted_or_message(plain: dict[str, Any]) -> Config | str:
    """The configuration of a file, or the message that it is refused with."""
    try:
        return checked(plain, {})
    except UserError as error:
        return str(error)


def build_parts(config: Config) -> None:
    """Build the small parts of an accepted configuration; raises UserError where one cannot be built."""
    scoring.build_metrics(config)
    parts.build_logger(config)
    parts.loop_settings(config)
    lm, data = config.lm, config.data.arguments
    if config.data.class_name == "Phantom" and all(data[f"{split}_studies"] < 100 for split in ("train", "val")):
        phantom = parts.build_data(config)
        phantom.image(phantom.studies("train")[0].views[0])
    if lm.path is None and lm.architecture is not None and max(vars(lm.architecture).values()) < 3000:
        tokenizer = parts.train_tokenizer(["The lungs are clear."] * 3, lm.vocabulary_size)
        parts.random_lm(tokenizer=tokenizer, seed=config.seed, **vars(lm.architecture), attention=lm.attention)
    if config.vision.get("path") is None and config.vision.arguments["image_size_px"] < 1000:
        instantiate(config.vision)
    instantiate(config.projector, in_dim=8, out_dim=8)


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
def nothing_starts() -> Iterator[None]:
    """Hydra knows the schema, nothing is started, and no word typed here leaves a file where the tests run."""
    register_schema()
    launch = dispatch.launch
    arguments, outer = sys.argv, GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        dispatch.launch = lambda config, overrides: 0
        try:
            yield
            assert not list(Path(folder).iterdir()), "a refused command left files"
        finally:
            dispatch.launch = launch
            sys.argv, GlobalHydra.instance().hydra = arguments, outer


def check_command(command: Command, *, build: bool) -> int:
    with no_hang():
        status, said, accepted = answer(command)
        assert status in (0, 2), (status, said)
        if status == 2:
            check_message(said[said.find("error: ") :] if "--info" in command.odd else said)  # Hydra prints it first
        if accepted is not None and build:
            with suppress(UserError):
                build_parts(accepted)
    return status


def check_edited(plain: dict[str, Any], *, build: bool) -> int:
    with no_hang():
        found = accepted_or_message(plain)
        if isinstance(found, str):
            check_message(f"error: {found}")
        elif build:
            with suppress(UserError):
                build_parts(found)
    return 2 if isinstance(found, str) else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given_now = parser.parse_args()
    rules = settings(
        max_examples=given_now.examples // 2, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    began, counts = time.monotonic(), collections.Counter[str]()
    with nothing_starts():

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
