"""From what a command composed to the work of its task."""

import importlib
import sys
from collections.abc import Callable
from typing import Any

from r2gen.cli.hydra_errors import in_words
from r2gen.config.compose import Composed
from r2gen.config.task_table import BY_NAME, Task
from r2gen.errors import FIXABLE, Code, UserError, printable
from r2gen.launch.job import launch
from r2gen.r2gengpt.configuration import recipe_of_checkpoint
from r2gen.runs.failure import Failure, report
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


def refuse(error: Exception) -> int:
    """Print what is wrong with the command as one message, without a traceback; gives the exit status.

    An error that is no mistake in the command is raised again.
    """
    message = in_words(error)
    report(Failure(message, error.code if isinstance(error, UserError) else Code.INVALID))
    print(f"error: {printable(message)}", file=sys.stderr)
    return FIXABLE


def work_of(task: Task) -> Callable[..., Any]:
    """The function of a task; its module is imported now, and with it what the other tasks do not need."""
    module, _, function = task.work.partition(":")
    work: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return work
