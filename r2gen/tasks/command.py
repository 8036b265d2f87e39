"""The command as Hydra runs it: composed, checked and dispatched to its task."""

import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from r2gen.cli import command_line, help
from r2gen.config.compose import resolved
from r2gen.config.overrides import as_passed
from r2gen.config.root import CONF
from r2gen.errors import DONE
from r2gen.runs.refusal import refuse

statuses: list[int] = []  # of the command, since hydra.main returns nothing; a sweep exits with its own


def run_command() -> int:
    """Run the command of sys.argv; returns its exit status."""
    statuses.clear()
    try:
        if {"--help", "-h"} & set(sys.argv[1:]):
            print(help.text())
            return DONE
        sys.argv[1:] = command_line.for_hydra_main(sys.argv[1:])
        run()
    except Exception as error:
        return refuse(error)
    return statuses[0] if statuses else DONE


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def run(composed: DictConfig) -> None:
    """What Hydra calls with the composed configuration. --cfg job does not come here, and so imports less."""
    try:
        from r2gen.tasks.dispatch import run_task

        overrides = as_passed(HydraConfig.get().overrides.task)
        statuses.append(run_task(resolved(composed, HydraConfig.get().runtime.choices), overrides))
    except Exception as error:
        statuses.append(refuse(error))
