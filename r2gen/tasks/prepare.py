"""task=prepare: write the annotation of a data set from the layout in which it is published."""

from typing import Any

from r2gen.config import targets
from r2gen.errors import DONE, UserError
from r2gen.runs import provenance


def prepare(config: dict[str, Any]) -> int:
    """Let the chosen data set write its annotation, and print the counts; return the exit status."""
    target = config["data"]["_target_"]
    if "prepare" not in targets.members(target):
        raise UserError(
            f"task=prepare: data={config['choices']['data']} needs no preparation. Train on it as it is, or choose "
            "data=mimic_cxr."
        )
    arguments = {key: value for key, value in config["data"].items() if key != "_target_"}
    made = {"date": provenance.now(), "code": provenance.git_revision()}
    print(targets.class_of(target).prepare(arguments, config["prepare"], made=made, fresh=config["fresh"]))
    return DONE
