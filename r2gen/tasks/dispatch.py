"""Runs the task of a command."""

import importlib
import os
from collections.abc import Callable
from typing import Any

from r2gen.config.compose import Composed
from r2gen.config.secrets import refuse_secrets
from r2gen.config.task_table import BY_NAME, Task
from r2gen.launch.job import launch
from r2gen.r2gengpt.configuration import recipe_of_checkpoint
from r2gen.runs.requested import requested


def run_task(composed: Composed, overrides: list[str]) -> int:
    """Run the task of a composed configuration and return the exit status. `overrides` are those that were passed.

    Raises UserError if an option is refused.
    """
    refuse_secrets(composed.plain, os.environ)
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
    """The function of a task. Its module is imported here, since other tasks do not need its packages."""
    module, _, function = task.work.partition(":")
    work: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return work
