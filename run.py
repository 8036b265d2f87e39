"""Compose a run from conf/, check it, launch it:  python run.py [GROUP=OPTION] [GROUP.KEY=VALUE] [-m]

    python run.py --help      groups, options and examples
    python run.py --cfg job   the composed configuration

Imports no torch, so that every mistake in a command is answered at once.
"""

import os
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from r2gen import compat, config, launch, manual, messages, ranks, standalone, stored_run
from r2gen.errors import DEFECT, DONE, FIXABLE, STOPPED, UserError
from r2gen.r2gengpt.configuration import configuration as import_configuration
from r2gen.schema import Config

ROOT = Path(__file__).resolve().parent
statuses: list[int] = []  # one a job: a sweep has several


class SweepFiles(SearchPathPlugin):
    """Finds `+sweeps=NAME` from whatever folder the command is typed in."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append("r2gen-sweeps", f"file://{ROOT}")


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def job(composed: DictConfig) -> None:
    try:
        statuses.append(run_job(composed))
    except Exception as error:
        statuses.append(refuse(error))
    if statuses[-1] == STOPPED:
        raise SystemExit(STOPPED)  # also the jobs of a sweep that would follow


def run_job(composed: DictConfig) -> int:
    overrides = messages.as_typed(HydraConfig.get().overrides.task)
    task = str(OmegaConf.select(composed, "task"))
    standalone.refuse_unread(task, overrides)
    if task in ("evaluate", "generate", "export"):
        return launch.launch(stored_run.configuration(composed, overrides), overrides=overrides)
    if task == "import":
        found, kept = import_configuration(composed, overrides)
        return launch.import_checkpoint(found, overrides=kept)
    choices = {group: choice for group, choice in HydraConfig.get().runtime.choices.items()
               if group.partition("/")[0] != "hydra"}  # fmt: skip
    plain = checked(composed, choices) | {"choices": choices}
    if task in standalone.TASKS:
        return standalone.TASKS[task].work(plain)
    return launch.launch(plain, overrides=overrides)


def checked(composed: DictConfig, choices: dict[str, str]) -> dict[str, Any]:
    plain = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(plain, dict)
    config.check(plain)  # type: ignore[arg-type]
    compat.refuse(plain, choices)  # type: ignore[arg-type]
    return plain  # type: ignore[return-value]


def refuse(error: Exception) -> int:
    """Print what is wrong with the command as one message, without a traceback; another error goes on."""
    known = isinstance(error, UserError | HydraException | OmegaConfBaseException)
    if not known and messages.unplaceable(error) is None:
        raise error
    print(f"error: {messages.plain(error)}", file=sys.stderr)
    return FIXABLE


def main() -> int:
    ranks.leave_on_signals()
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(manual.text(ROOT / "conf", ROOT / "sweeps"))
        return DONE
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let Hydra raise, so that its errors leave with 2 and one message
    if "task=import" in sys.argv[1:]:
        sys.argv.insert(1, messages.ROOM_FOR_LORA)
    sys.argv[1:] = messages.for_hydra(sys.argv[1:])
    ConfigStore.instance().store(name="schema", node=Config)
    Plugins.instance().register(SweepFiles)
    try:
        job()
    except Exception as error:
        return refuse(error)
    return next(status for status in (DEFECT, FIXABLE, DONE) if status in [*statuses, DONE])


if __name__ == "__main__":
    sys.exit(main())
