"""One rank of a job, started by launch.py:  python -m r2gen.worker RUN_DIR/config.yaml

Reads nothing but that file. Its exit status is the job's.
"""

import sys
import traceback
from pathlib import Path
from typing import Any

import yaml

from r2gen import dist, tasks
from r2gen.build import pick_device
from r2gen.check.task import check
from r2gen.errors import DEFECT, DONE, FIXABLE, STOPPED, UserError
from r2gen.export import export
from r2gen.r2gengpt.importing import import_checkpoint
from r2gen.run_folder import RunFolder
from r2gen.stop import Stopped, StopRequest, die_with_parent

TASKS = {"train": tasks.train, "evaluate": tasks.evaluate, "generate": tasks.generate,
         "check": check, "import": import_checkpoint,
         "export": export}  # fmt: skip


def main(job_file: Path) -> int:
    stop = StopRequest()
    config: dict[str, Any] = yaml.safe_load(job_file.read_text(encoding="utf-8"))
    folder = RunFolder(Path(config["run_dir"]))

    def say_why(reason: str) -> None:
        if config["task"] in ("train", "import") and dist.is_first() and folder.exists():
            folder.record(reason=reason)

    try:
        device = pick_device(config["trainer"]["device"])
        dist.start(device, timeout_s=config["trainer"]["timeout_s"])
        TASKS[config["task"]](config, device, stop)
        return DONE
    except UserError as error:
        say_why(str(error))
        print(f"error: {error}", file=sys.stderr, flush=True)
        return FIXABLE
    except Stopped:
        say_why("stopped by a signal")
        if dist.is_first():
            again = f"the same command goes on from the last checkpoint in {folder.path}"
            print(f"stopped; {again if config['task'] == 'train' else 'the same command starts anew'}", flush=True)
        return STOPPED
    except Exception as error:
        say_why(f"{type(error).__name__}: {error}")
        traceback.print_exc()
        return DEFECT
    finally:
        dist.stop()


if __name__ == "__main__":
    die_with_parent()
    sys.exit(main(Path(sys.argv[1])))
