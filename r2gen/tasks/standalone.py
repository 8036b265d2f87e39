"""The tasks that start no rank and make no run: what each reads, and what does it. Imports no torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from r2gen.config.plain import key_of, lies_under
from r2gen.errors import UserError
from r2gen.tasks.dashboard import dashboard
from r2gen.tasks.prepare import prepare


@dataclass(frozen=True)
class Standalone:
    """`work` gets the checked configuration, with `choices` and `overrides` in it, and gives the exit status."""

    work: Callable[[dict[str, Any]], int]
    reads: tuple[str, ...]  # the options that may be typed with it
    own: tuple[str, ...] = ()  # of these, the ones that no task which makes a run reads


def compare(config: dict[str, Any]) -> int:
    from r2gen.tasks import compare  # not at the top: other commands wait for no metrics

    return compare.compare(config)


def audit(config: dict[str, Any]) -> int:
    from r2gen.tasks import audit  # nor for Pillow

    return audit.audit(config)


def status(config: dict[str, Any]) -> int:
    from r2gen.tasks import status  # nor for numpy

    return status.status(config)


TASKS = {
    "audit": Standalone(audit, reads=("data", "audit", "out"), own=("audit",)),
    "compare": Standalone(compare, reads=("runs", "compare", "data", "metrics", "out"), own=("runs", "compare")),
    "prepare": Standalone(prepare, reads=("data", "prepare", "fresh"), own=("prepare",)),
    "status": Standalone(status, reads=("sweep",), own=("sweep",)),
    "dashboard": Standalone(dashboard, reads=("sweep", "logger"), own=("sweep",)),
}


def refuse_unread(task: str, overrides: list[str]) -> None:
    """Raise UserError where something is typed that the task would not read."""
    for override in overrides:
        key = key_of(override)
        owners = [name for name, other in TASKS.items() if lies_under(key, *other.own)]
        if owners and task not in owners:
            raise UserError(f"{override} is for task={' and task='.join(owners)}: it changes nothing with task={task}")
        if task in TASKS and not lies_under(key, "task", *TASKS[task].reads):
            raise UserError(f"{override}: task={task} trains nothing; it reads {', '.join(TASKS[task].reads)} only")
