"""The tiny checkpoints in their families' published layouts, from $R2GEN_SHARED (default ../shared)."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("R2GEN_SHARED", ROOT.parent / "shared"))
PUBLISHED = SHARED / "lm" / "golden"
needs_published = pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"needs {PUBLISHED}")
FAMILIES = sorted(folder.name for folder in PUBLISHED.glob("*/")) if PUBLISHED.is_dir() else []


def golden(family: str) -> dict[str, Any]:
    """What golden.json says of the family's tokenizer."""
    facts: dict[str, Any] = json.loads((PUBLISHED / family / "golden.json").read_text(encoding="utf-8"))
    return facts["tokenizer"] | {"eos": facts["eos_ids_suppressed"], "pad": facts["pad_id"]}
