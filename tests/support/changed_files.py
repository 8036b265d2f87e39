"""Change the content of a JSON or CSV file."""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def change_json(file: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def change_csv(file: Path, change: Callable[[list[list[str]]], Any]) -> None:
    raw = file.read_bytes()
    text = (gzip.decompress(raw) if file.suffix == ".gz" else raw).decode()
    rows = list(csv.reader(text.splitlines()))
    change(rows)
    with gzip.open(file, "wt", newline="") if file.suffix == ".gz" else file.open("w", newline="") as out:
        csv.writer(out).writerows(rows)
