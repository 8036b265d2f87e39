"""The phase of a job: building the model, training it, or generating reports. An error is reported with its phase."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum


class Phase(StrEnum):
    BUILD = "build"
    TRAINING = "training"
    GENERATION = "generation"


_current = [Phase.BUILD]  # of this process


def current_phase() -> Phase:
    return _current[0]


@contextmanager
def in_phase(phase: Phase) -> Iterator[None]:
    """Set the phase of this process, for a block or, as a decorator, for a function.

    An exception leaves the phase as it is, so that whoever reports it reads where it was raised.
    """
    before = _current[0]
    _current[0] = phase
    yield
    _current[0] = before
