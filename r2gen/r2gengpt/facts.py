"""The configuration that a checkpoint of R2GenGPT records. Its reader, inspection.py, runs in another process."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from r2gen.config.root import python_path
from r2gen.errors import FIXABLE, UserError

READER = "r2gen.r2gengpt.inspection"


@dataclass(frozen=True)
class Facts:
    mode: str  # shallow, delta or deep
    data: str | None  # iu or mimic; None if it is not recorded
    overrides: dict[str, str | int | float]  # option and value, as on the command line


def read_facts(file: Path) -> Facts:
    """The facts of a checkpoint, read in a process that imports torch. Raises UserError if it cannot be imported."""
    done = subprocess.run(
        [sys.executable, "-m", READER, str(file)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": python_path()},
    )
    if done.returncode == FIXABLE:
        raise UserError(done.stderr.strip().splitlines()[-1])
    if done.returncode:
        raise RuntimeError(f"{READER} ended with status {done.returncode}:\n{done.stderr}")
    return Facts(**json.loads(done.stdout))
