"""docs/troubleshooting.md: each command is answered as it says, and each other message is one that the code has."""

import ast
import json
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from run_in_process import run_in_process
from smallest_run import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (?:`(.+?)`)? ?\| (`.+?`) \| .*\|$", PAGE, re.MULTILINE)
TYPED = [(typed, answer) for typed, answer in ROWS if typed]
OTHERS = [answer for typed, answer in ROWS if not typed]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands are typed: files and folders that are not what they should be."""
    folder = tmp_path_factory.mktemp("scratch")
    (folder / "file").write_text("no folder")
    for name in ("strange", "broken", "faulty", "newer", "torn"):
        (folder / name).mkdir()
    (folder / "strange" / "thesis.doc").write_text("")
    (folder / "broken" / "annotation.json").write_text("{")
    faulty = {"train": [{"id": "a", "report": "", "image_path": ["a.png"]}]}
    (folder / "faulty" / "annotation.json").write_text(json.dumps(faulty))
    facts = {"format": 99, "git": {"revision": "abc"}, "status": "finished", "overrides": []}
    (folder / "newer" / "run.json").write_text(json.dumps(facts))
    (folder / "torn" / "run.json").write_text('{"format"')
    return folder


@pytest.mark.parametrize(("typed", "answer"), TYPED, ids=[typed for typed, _ in TYPED])
def test_a_command_is_answered_as_the_page_says(
    typed: str, answer: str, scratch: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SOME_API_KEY", "a-secret-of-20-signs")
    before = sorted(scratch.rglob("*"))
    status, said = run_in_process(*shlex.split(typed), cwd=scratch)
    assert status == 2, said
    assert said.startswith("error: ")
    assert "Traceback" not in said
    assert "a-secret-of-20-signs" not in said
    place = 0
    for part in fragments(answer):
        place = said.find(part, place)
        assert place >= 0, said
    assert sorted(scratch.rglob("*")) == before, "nothing was made, nothing was lost"


@pytest.mark.parametrize("answer", OTHERS)
def test_the_other_messages_are_in_the_code(answer: str):
    assert any(all(part in text for part in fragments(answer)) for text in texts()), answer


def test_every_line_of_the_tables_is_tested():
    lines = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| typed")]
    assert len(lines) == len(ROWS) >= 60


def fragments(answer: str) -> list[str]:
    """The parts of an answer that are always there."""
    return [part.strip() for part in re.split(r"\.\.\.", answer.replace("`", "")) if part.strip()]


@cache
def texts() -> list[str]:
    """Every text in r2gen, with a blank sign where a value is put in."""
    found = []
    for file in (ROOT / "r2gen").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append(
                    "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values)
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found
