"""Checks of arbitrary commands and configurations: each has status 0 or 2, and status 2 has one message.

A command is composed and checked by the code of run.py, and nothing is started.
"""

import copy
import io
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from random_configurations import GROUPS, Command, composed  # noqa: E402

import run  # noqa: E402
from r2gen import build as parts  # noqa: E402
from r2gen import build_training  # noqa: E402
from r2gen.cli import command_line  # noqa: E402
from r2gen.config.compose import prepare_hydra, without_hydra  # noqa: E402
from r2gen.config.overrides import as_passed, for_hydra  # noqa: E402
from r2gen.config.schema import Config  # noqa: E402
from r2gen.config.targets import instantiate  # noqa: E402
from r2gen.errors import UserError  # noqa: E402
from r2gen.lm.tokenizer import train_tokenizer  # noqa: E402
from r2gen.runs.refusal import refuse  # noqa: E402
from r2gen.runs.requested import requested  # noqa: E402
from r2gen.runs.stored import checked  # noqa: E402
from r2gen.tasks import dispatch, scoring  # noqa: E402


def result(command: Command) -> tuple[int, str, Config | None]:
    """Status, output, and the configuration if it is accepted.

    Values are applied to a cached composition as Hydra does it; any other command runs `main`, which takes longer.
    """
    output = io.StringIO()
    names = {value.lstrip("+~").partition("=")[0] for value in command.values}
    with redirect_stderr(output), redirect_stdout(output):
        if command.mistakes or names & {*GROUPS, "hydra", "task"}:
            return _main(command.words), output.getvalue(), None
        try:
            command_line.refuse(as_passed(for_hydra(command.words)))
            cfg = copy.deepcopy(composed(command.choices))
            overrides = OverridesParser.create().parse_overrides(for_hydra(command.values))
            ConfigLoaderImpl._apply_overrides_to_config(overrides, cfg)
            return 0, "", requested(without_hydra(cfg), [])
        except Exception as error:
            return refuse(error), output.getvalue(), None


def _main(words: list[str]) -> int:
    sys.argv = ["run.py", *words]
    try:
        return run.main()
    except SystemExit as end:
        return int(end.code or 0)


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
    build_training.build_objective(config)
    build_training.loop_settings(config, workers=0)
    lm, data = config.lm, config.data.arguments
    if config.data.class_name == "Phantom" and all(data[f"{split}_studies"] < 100 for split in ("train", "val")):
        phantom = parts.build_data(config)
        phantom.image(phantom.studies("train")[0].views[0])
    if lm.path is None and lm.architecture is not None and max(vars(lm.architecture).values()) < 3000:
        tokenizer = train_tokenizer(["The lungs are clear."] * 3, lm.vocabulary_size)
        parts.random_lm(tokenizer=tokenizer, seed=config.seed, **vars(lm.architecture), attention=lm.attention)
    if config.vision.get("path") is None and config.vision.arguments["image_size_px"] < 1000:
        instantiate(config.vision)
    instantiate(config.projector, in_dim=8, out_dim=8)


def check_message(message: str) -> None:
    """Check that the message has a few lines and no term of Python or Hydra."""
    assert message.startswith("error: "), message
    assert len(message.strip()) > len("error: ") + 10, message
    assert message.count("\n") <= 10, message
    for word in ("Traceback", "object_type", "full_key", "LexerNoViable", "ConfigAttributeError", "<class"):
        assert word not in message, message


@contextmanager
def no_hang(seconds: int = 60) -> Iterator[None]:
    """Raise TimeoutError if the block takes longer."""

    def late(number: int, frame: Any) -> None:
        raise TimeoutError(f"no result for {seconds} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


@contextmanager
def nothing_starts() -> Iterator[None]:
    """While open, Hydra has the schema, no job is launched, and the working directory must stay empty."""
    prepare_hydra()
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


def check_command(command: Command, *, build: bool) -> str:
    """Check the result of a command and, with `build`, the parts of an accepted configuration: `accepted`/`refused`."""
    with no_hang():
        status, output, accepted = result(command)
        assert status in (0, 2), (status, output)
        if status == 2:
            # With --info, Hydra's own output comes first.
            check_message(output[output.find("error: ") :] if "--info" in command.mistakes else output)
        if accepted is not None and build:
            with suppress(UserError):
                build_parts(accepted)
        return "refused" if status else "accepted"


def check_edited(plain: dict[str, Any], *, build: bool) -> str:
    """Check the result of a configuration file and, with `build`, the parts of an accepted one: as check_command."""
    with no_hang():
        result = accepted_or_message(plain)
        if isinstance(result, str):
            check_message(f"error: {result}")
        elif build:
            with suppress(UserError):
                build_parts(result)
        return "refused" if isinstance(result, str) else "accepted"
