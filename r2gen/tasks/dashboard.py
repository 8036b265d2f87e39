"""task=dashboard: save a W&B workspace that compares the jobs of a sweep.

    python run.py task=dashboard sweep=DIR logger=wandb [logger.entity=TEAM]

If W&B has no key here, the workspace's specification is written into the sweep's folder instead.
"""

import json
from pathlib import Path

from r2gen.config.schema import Config
from r2gen.errors import DONE, Code, UserError
from r2gen.runs.files import write_whole
from r2gen.sweeps.record import SweepFolder


def dashboard(config: Config, overrides: list[str]) -> int:
    """Save the workspace, or write its specification, and print where it is. Returns the exit status."""
    if config.sweep is None:
        raise UserError("task=dashboard compares the jobs of a sweep: give its folder with sweep=DIR")
    logger = config.logger.arguments
    if "project" not in logger:
        raise UserError("task=dashboard is a page of W&B: give logger=wandb, and its logger.entity and logger.project")
    folder = SweepFolder(Path(config.sweep).absolute())
    record = folder.read()
    folder.check_usable()
    try:  # an extra, and slow to import
        import wandb

        from r2gen.sweeps.workspace import comparison_of, workspace
    except ModuleNotFoundError as error:
        raise UserError(
            f"task=dashboard needs {error.name}: pip install -e '.[dashboard]'", code=Code.PACKAGE_MISSING
        ) from error
    has_key = logger["mode"] != "offline" and wandb.login(prompt=False, verify=False)
    entity = logger["entity"] or (wandb.Api().default_entity if has_key else None)
    comparison = comparison_of(folder.path.name, record.jobs)
    page = workspace(comparison, entity=entity or "ENTITY", project=logger["project"])
    if has_key:
        print(f"dashboard: {page.save().url}")
        return DONE
    file = folder.path / "dashboard.json"
    write_whole(file, json.dumps(page._spec, indent=1) + "\n")
    print(
        f"{file} has the dashboard's specification: {', '.join(section.name for section in page.sections)}\n"
        "W&B has no key here. To publish it: `wandb login`, `wandb sync` each run's wandb/offline-run-*, and this "
        "command again"
    )
    return DONE
