"""Compose a run from conf/, check it, launch it:  python run.py [GROUP=OPTION] [GROUP.KEY=VALUE] [-m]

python run.py --help      groups, options and examples
python run.py --cfg job   the composed configuration
"""

import sys

from r2gen import __version__
from r2gen.cli import other_launchers
from r2gen.cli.streams import keep_streams
from r2gen.errors import DONE, FIXABLE, UserError, missing_package, printable
from r2gen.launch.rank_process import start_early
from r2gen.ranks.stop import leave_on_signals
from r2gen.runs.special_files import refuse_special_files


def main() -> int:
    leave_on_signals()
    try:
        sys.argv[1:] = other_launchers.alone(sys.argv[1:])
        if sys.argv[1:] == ["--version"]:
            print(f"r2gen {__version__}")
            return DONE
        start_early(sys.argv[1:])
        from r2gen.tasks.command import run_command  # while the rank imports its own packages
    except UserError as error:
        from r2gen.runs.refusal import refuse

        return refuse(error)
    except ModuleNotFoundError as error:
        print(f"error: {printable(str(missing_package(error) or error))}", file=sys.stderr)
        return FIXABLE
    return run_command()


if __name__ == "__main__":
    keep_streams()
    refuse_special_files()
    sys.exit(main())
