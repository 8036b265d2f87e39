"""Where this project is."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CONF = ROOT / "conf"


def python_path() -> str:
    """PYTHONPATH of a process that imports this project: its root, then the paths of this process."""
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
