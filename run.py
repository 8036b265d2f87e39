"""Compose a run from conf/, check it, launch it:  python run.py [GROUP=OPTION] [GROUP.KEY=VALUE] [-m]

    python run.py --help      groups, options and examples
    python run.py --cfg job   the composed configuration

Imports no torch, so that every mistake in a command is answered at once.
"""

import os
import sys
from pathlib import Path

from r2gen.errors import DONE, FIXABLE, Code, UserError, missing_package, printable

try:
    import hydra
    from hydra.core.config_search_path import ConfigSearchPath
    from hydra.core.config_store import ConfigStore
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin
    from omegaconf import DictConfig, OmegaConf

    from r2gen.cli import help, hydra_errors, words
    from r2gen.config.overrides import as_typed, for_hydra
    from r2gen.config.schema import Config
    from r2gen.launch import job, processes
    from r2gen.r2gengpt.configuration import configuration as import_configuration
    from r2gen.runs import requested
    from r2gen.runs.failure import Failure, report
    from r2gen.sweeps import cells
    from r2gen.tasks import standalone
except ModuleNotFoundError as error:
    print(f"error: {missing_package(error) or error}", file=sys.stderr)
    sys.exit(FIXABLE)

ROOT = Path(__file__).resolve().parent
statuses: list[int] = []  # of the job, since hydra.main hands nothing back; a sweep leaves with its own


class SweepFiles(SearchPathPlugin):
    """Finds `+sweeps=NAME` from whatever folder the command is typed in."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append("r2gen-sweeps", f"file://{ROOT}")


@hydra.main(version_base="1.3", config_path=str(ROOT / "conf"), config_name="config")
def command(composed: DictConfig) -> None:
    try:
        statuses.append(run_job(composed))
    except Exception as error:
        statuses.append(refuse(error))


def run_job(composed: DictConfig) -> int:
    overrides = as_typed(HydraConfig.get().overrides.task)
    if OmegaConf.select(composed, "task") == "import":
        found, kept = import_configuration(composed, overrides)
        return job.launch(found, overrides=kept)
    choices = requested.group_choices(HydraConfig.get().runtime.choices)
    plain = requested.configuration(composed, choices, overrides)
    if plain["task"] in standalone.TASKS:
        return standalone.TASKS[plain["task"]].work(plain | {"overrides": overrides})
    if plain["task"] == "compose":
        print(cells.state_line(cells.cell_of(plain, typed=overrides, for_hydra=overrides)))
        return DONE
    return job.launch(plain, overrides=overrides)


def refuse(error: Exception) -> int:
    """Print what is wrong with the command as one message, without a traceback; another error goes on."""
    message = hydra_errors.in_words(error)
    report(Failure(message, error.code if isinstance(error, UserError) else Code.INVALID))
    print(f"error: {printable(message)}", file=sys.stderr)
    return FIXABLE


def main() -> int:
    processes.leave_on_signals()
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(help.text(ROOT / "conf", ROOT / "sweeps"))
        return DONE
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let Hydra raise, so that its errors leave with 2 and one message
    ConfigStore.instance().store(name="schema", node=Config)
    Plugins.instance().register(SweepFiles)
    try:
        if "task=import" in sys.argv[1:]:
            sys.argv.insert(1, hydra_errors.ROOM_FOR_LORA)
        sys.argv[1:] = for_hydra(sorted(sys.argv[1:], key=lambda word: word not in ("-m", "--multirun")))
        words.refuse(as_typed(sys.argv[1:]))
        command()
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
