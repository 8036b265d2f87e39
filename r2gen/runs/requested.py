"""What a command asks for: the checked plain configuration of a composed one. Imports no torch."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from r2gen.config import check, rules
from r2gen.runs import stored
from r2gen.tasks import standalone


def group_choices(chosen: Mapping[str, str]) -> dict[str, str]:
    """The option of each of our groups, from `hydra.runtime.choices`."""
    return {group: choice for group, choice in chosen.items() if group.partition("/")[0] != "hydra"}


def configuration(composed: DictConfig, choices: dict[str, str], typed: list[str]) -> dict[str, Any]:
    """The configuration of a task, with `choices` in it; of a task on a run, what that run stored.

    Raises UserError where an option, or a combination of them, is refused.
    """
    task = str(OmegaConf.select(composed, "task"))
    standalone.refuse_unread(task, typed)
    if task in ("evaluate", "generate", "export"):
        return stored.configuration(composed, typed)
    plain = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(plain, dict)
    check.check(plain)  # type: ignore[arg-type]
    rules.refuse(plain, choices)  # type: ignore[arg-type]
    return {**plain, "choices": choices}
