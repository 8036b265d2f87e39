"""Compose a run from conf/, check it, launch it:  python run.py [GROUP=OPTION] [GROUP.KEY=VALUE] [-m]

python run.py --help      groups, options and examples
python run.py --cfg job   the composed configuration
"""

import sys

from r2gen import __version__
from r2gen.errors import DONE, FIXABLE, missing_package

try:
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import DictConfig

    from r2gen.cli import command_line, help, other_launchers
    from r2gen.cli.streams import keep_streams
    from r2gen.config.compose import CONF, resolved
    from r2gen.config.overrides import as_passed
    from r2gen.launch.processes import leave_on_signals
    from r2gen.launch.rank_process import start_early
    from r2gen.runs.refusal import refuse
    from r2gen.runs.special_files import refuse_special_files
except ModuleNotFoundError as error:
    print(f"error: {missing_package(error) or error}", file=sys.stderr)
    sys.exit(FIXABLE)

statuses: list[int] = []  # of the command, since hydra.main returns nothing; a sweep exits with its own


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def command(composed: DictConfig) -> None:
    """What Hydra calls with the composed configuration. --cfg job does not come here, and so imports less."""
    try:
        from r2gen.tasks.dispatch import run_task

        overrides = as_passed(HydraConfig.get().overrides.task)
        statuses.append(run_task(resolved(composed, HydraConfig.get().runtime.choices), overrides))
    except Exception as error:
        statuses.append(refuse(error))


def main() -> int:
    leave_on_signals()
    try:
        sys.argv[1:] = other_launchers.alone(sys.argv[1:])
        if sys.argv[1:] == ["--version"]:
            print(f"r2gen {__version__}")
            return DONE
        if {"--help", "-h"} & set(sys.argv[1:]):
            print(help.text())
            return DONE
        start_early(sys.argv[1:])
        sys.argv[1:] = command_line.for_hydra_main(sys.argv[1:])
        command()
    except Exception as error:
        return refuse(error)
    return statuses[0] if statuses else DONE


if __name__ == "__main__":
    keep_streams()
    refuse_special_files()
    sys.exit(main())
