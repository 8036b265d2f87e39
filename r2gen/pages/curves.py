"""The training steps and validations of a run's train.jsonl, for the curves on a page."""

import math
from pathlib import Path

from r2gen.pages.document import JsonObject
from r2gen.runs.train_log import read_train_log


def curves_of(path: Path, *, most: int) -> JsonObject:
    """The steps of a train.jsonl, reduced to about `most`, and its validations.

    Steps that were trained twice (killed, then resumed) are taken from the later training. Raises UserError naming a
    broken line.
    """
    events: dict[str, list[JsonObject]] = {"step": [], "validation": []}
    for event in read_train_log(path):
        before = events[event["event"]]
        while before and before[-1]["step"] >= event["step"]:
            before.pop()
        before.append(event)
    return {"steps": _thinned(events["step"], most), "logged": len(events["step"]), "validations": events["validation"]}


def _thinned(steps: list[JsonObject], most: int) -> list[JsonObject]:
    """The steps with the lowest and the highest loss of each interval, so that a spike stays visible."""
    if len(steps) <= most:
        return steps
    length = math.ceil(2 * len(steps) / most)
    chosen = {0, len(steps) - 1}
    for start in range(0, len(steps), length):
        interval = range(start, min(start + length, len(steps)))
        chosen.add(min(interval, key=lambda index: _loss(steps[index])))
        chosen.add(max(interval, key=lambda index: _loss(steps[index])))
    return [steps[index] for index in sorted(chosen)]


def _loss(step: JsonObject) -> float:
    """The loss of a step as a sort key: NaN and infinity are the highest."""
    loss = step.get("loss")
    return float(loss) if isinstance(loss, int | float) and math.isfinite(loss) else math.inf
