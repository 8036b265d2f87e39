"""The offline files of W&B in a run folder, read with W&B's own reader (`wandb leet inspect`)."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from wandb.util import get_core_path

TIMEOUT_S = 60  # against a hang


def read(run_dir: Path) -> list[dict[str, Any]]:
    """One object per W&B run, oldest first: what `--summary` prints, its first record as "run", and types of records.

    Every run has ended; this waits until W&B's own process has written that to the file.
    """
    runs = []
    for file in sorted(run_dir.glob("wandb/offline-run-*/*.wandb")):
        summary = _summary(file)
        deadline = time.monotonic() + TIMEOUT_S
        while summary["state"] == "unknown" and time.monotonic() < deadline:
            time.sleep(0.1)
            summary = _summary(file)
        records = [json.loads(line) for line in _inspect(file, "--json").splitlines()]
        (run,) = [record["run"] for record in records if record["type"] == "run"]
        runs.append(summary | {"run": run, "types": {record["type"] for record in records}})
    return runs


def _summary(file: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads(_inspect(file, "--summary", "--json"))
    return summary


def _inspect(file: Path, *options: str) -> str:
    command = [get_core_path(), "leet", "inspect", "--no-observability", *options]
    command += ["--run-file", str(file), str(file.parent.parent)]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True).stdout


def every_byte(run_dir: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted((run_dir / "wandb").rglob("*")) if file.is_file())
