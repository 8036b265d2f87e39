"""Compose a run from conf/, check it, launch it:  python run.py [GROUP=OPTION] [GROUP.KEY=VALUE] [-m]

    python run.py --help      groups, options and examples
    python run.py --cfg job   the composed configuration

Imports no torch, so that every mistake in a command is answered at once.
"""

import os
import sys
from pathlib import Path

from r2gen.errors import DONE, FIXABLE, lacks, printable

try:
    import hydra
    from hydra.core.config_search_path import ConfigSearchPath
    from hydra.core.config_store import ConfigStore
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin
    from omegaconf import DictConfig, OmegaConf

    from r2gen import checked, command_line, launch, manual, messages, ranks, standalone
    from r2gen.r2gengpt.configuration import configuration as import_configuration
    from r2gen.schema import Config
    from r2gen.sweeps import cells
except ModuleNotFoundError as error:
    print(f"error: {lacks(error) or error}", file=sys.stderr)
    sys.exit(FIXABLE)

ROOT = Path(__file__).resolve().parent
statuses: list[int] = []  # of the job, since hydra.main hands nothing back; a sweep leaves with its own


class SweepFiles(SearchPathPlugin):
    """Finds `+sweeps=NAME` from whatever folder the command is typed in."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append("r2gen-sweeps", f"file://{ROOT}")


@hydra.main(version_base="1.3", config_path=str(ROOT / "conf"), config_name="config")
def job(composed: DictConfig) -> None:
    try:
        statuses.append(run_job(composed))
    except Exception as error:
        statuses.append(refuse(error))


def run_job(composed: DictConfig) -> int:
    overrides = messages.as_typed(HydraConfig.get().overrides.task)
    if OmegaConf.select(composed, "task") == "import":
        found, kept = import_configuration(composed, overrides)
        return launch.launch(found, overrides=kept)
    choices = checked.group_choices(HydraConfig.get().runtime.choices)
    plain = checked.configuration(composed, choices, overrides)
    if plain["task"] in standalone.TASKS:
        return standalone.TASKS[plain["task"]].work(plain | {"overrides": overrides})
    if plain["task"] == "compose":
        print(cells.state_line(cells.cell_of(plain, typed=overrides, for_hydra=overrides)))
        return DONE
    return launch.launch(plain, overrides=overrides)


def refuse(error: Exception) -> int:
    """Print what is wrong with the command as one message, without a traceback; another error goes on."""
    print(f"error: {printable(messages.in_words(error))}", file=sys.stderr)
    return FIXABLE


def main() -> int:
    ranks.leave_on_signals()
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(manual.text(ROOT / "conf", ROOT / "sweeps"))
        return DONE
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let Hydra raise, so that its errors leave with 2 and one message
    ConfigStore.instance().store(name="schema", node=Config)
    Plugins.instance().register(SweepFiles)
    try:
        if "task=import" in sys.argv[1:]:
            sys.argv.insert(1, messages.ROOM_FOR_LORA)
        sys.argv[1:] = messages.for_hydra(sorted(sys.argv[1:], key=lambda word: word not in ("-m", "--multirun")))
        command_line.refuse(messages.as_typed(sys.argv[1:]))
        job()
    except Exception as error:
        return refuse(error)
    return statuses[0] if statuses else DONE


if __name__ == "__main__":
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:  # what read this command's output, such as head, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = DONE
    sys.exit(status)
