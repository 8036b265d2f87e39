"""The text that a page shows, from its script run by node without a browser."""

import shutil
import subprocess
from pathlib import Path

import pytest


def shown_text(page: Path) -> str:
    """The text of the page after each of its controls was used once. Skips the test if node is not installed."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    command = [node, str(Path(__file__).with_name("page_dom.js")), str(page)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.split())
