"""The configuration that a command asks for: checked, and on a stored run completed from what it stored."""

from r2gen.config import task_table
from r2gen.config.compose import Composed
from r2gen.config.overrides import option_name
from r2gen.config.plain import is_under
from r2gen.config.schema import Config
from r2gen.errors import UserError
from r2gen.runs import stored


def requested(composed: Composed, overrides: list[str]) -> Config:
    """The configuration of the task that was composed with these overrides.

    Raises UserError where an option, or a combination of options, is refused.
    """
    task = task_table.BY_NAME.get(str(composed.plain.get("task")))
    if task is not None:
        _refuse_unread(task, overrides)
        if task.on == "stored run":
            return stored.for_task(composed.plain, overrides)
    return stored.checked(composed.plain, composed.choices)


def _refuse_unread(task: task_table.Task, overrides: list[str]) -> None:
    """Raise UserError where an option was passed that the task does not read."""
    for override in overrides:
        name = option_name(override)
        owners = task_table.owners(name)
        if owners and task.name not in owners:
            raise UserError(
                f"{override} is for {task_table.named_owners(name)}: it changes nothing with task={task.name}"
            )
        if task.reads and not is_under(name, "task", *task.reads):
            raise UserError(f"{override}: task={task.name} trains nothing; it reads {', '.join(task.reads)} only")
