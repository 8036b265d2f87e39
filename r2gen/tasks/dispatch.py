"""From what a command composed to the work of its task."""

import importlib
from collections.abc import Callable
from typing import Any

from r2gen.config.compose import Composed
from r2gen.config.task_table import BY_NAME, Task
from r2gen.launch.job import launch
from r2gen.r2gengpt.configuration import recipe_of_checkpoint
from r2gen.runs.requested import requested


def run_task(composed: Composed, overrides: list[str]) -> int:
    """Do what the command asks for and give its exit status; `overrides` are what was passed.

    Raises UserError where an option is refused.
    """
    if composed.plain.get("task") == "import":
        config, overrides = recipe_of_checkpoint(composed, overrides)
    else:
        config = requested(composed, overrides)
    task = BY_NAME[config.task]
    if task.needs == "ranks":
        return launch(config, overrides=overrides)
    status: int = work_of(task)(config, overrides)
    return status


def work_of(task: Task) -> Callable[..., Any]:
    """The function of a task; its module is imported now, and with it what the other tasks do not need."""
    module, _, function = task.work.partition(":")
    work: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return work
