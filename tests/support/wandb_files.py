"""The content of a run folder's offline W&B files, by W&B's own reader (`wandb leet inspect`)."""

import json
import subprocess
from pathlib import Path

from wandb.util import get_core_path


def read(run_dir: Path) -> list[dict]:
    """The W&B runs in the folder, oldest first: the output of `--summary`, with the first record in "run"."""
    runs = []
    for file in sorted(run_dir.glob("wandb/offline-run-*/*.wandb")):
        summary = json.loads(_inspected(file, "--summary", "--json"))
        records = [json.loads(line) for line in _inspected(file, "--json").splitlines()]
        (run,) = [record["run"] for record in records if record["type"] == "run"]
        runs.append(summary | {"run": run, "types": {record["type"] for record in records}})
    return runs


def _inspected(file: Path, *options: str) -> str:
    command = [get_core_path(), "leet", "inspect", "--no-observability", *options]
    command += ["--run-file", str(file), str(file.parent.parent)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def every_byte(run_dir: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted((run_dir / "wandb").rglob("*")) if file.is_file())
