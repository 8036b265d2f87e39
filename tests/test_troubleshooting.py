"""docs/troubleshooting.md: each command gives the message on the page, and the code contains each other message."""

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
ENTRIES = re.findall(r"^\| (?:`(.+?)`)? ?\| (`.+?`) \| .*\|$", PAGE, re.MULTILINE)
COMMANDS = [(options, message) for options, message in ENTRIES if options]
OTHERS = [message for options, message in ENTRIES if not options]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the commands run, with files and folders that are not what they should be."""
    folder = tmp_path_factory.mktemp("scratch")
    (folder / "file").write_text("no folder")
    for name in ("strange", "broken", "faulty", "newer", "torn", "cut", "linked"):
        (folder / name).mkdir()
    (folder / "strange" / "thesis.doc").write_text("")
    (folder / "broken" / "annotation.json").write_text("{")
    faulty = {"train": [{"id": "a", "report": "", "image_path": ["a.png"]}]}
    (folder / "faulty" / "annotation.json").write_text(json.dumps(faulty))
    facts = {"format": 99, "git": {"revision": "abc"}, "status": "finished", "overrides": []}
    (folder / "newer" / "run.json").write_text(json.dumps(facts))
    (folder / "torn" / "run.json").write_text('{"format"')
    (folder / "cut" / "sweep.json").write_text('{"format"')
    (folder / "linked" / "audit.json").symlink_to(folder / "file")
    return folder


@pytest.mark.parametrize(("options", "message"), COMMANDS, ids=[options for options, _ in COMMANDS])
def test_a_command_gives_the_message_on_the_page(
    options: str, message: str, scratch: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SOME_API_KEY", "a-secret-of-20-characters")
    before = sorted(scratch.rglob("*"))
    status, output = run_in_process(*shlex.split(options), cwd=scratch)
    assert status == 2, output
    assert output.startswith("error: ")
    assert "Traceback" not in output
    assert "a-secret-of-20-characters" not in output
    position = 0
    for part in fragments(message):
        position = output.find(part, position)
        assert position >= 0, output
    assert sorted(scratch.rglob("*")) == before, "the command created or removed files"


@pytest.mark.parametrize("message", OTHERS)
def test_the_other_messages_are_in_the_code(message: str):
    assert any(all(part in text for part in fragments(message)) for text in texts()), message


def test_every_line_of_the_tables_is_tested():
    messages = re.sub(r"^## Files in another form$.*?(?=^## )", "", PAGE, flags=re.MULTILINE | re.DOTALL)
    lines = [line for line in messages.splitlines() if line.startswith("| ") and not line.startswith("| options")]
    assert len(lines) == len(ENTRIES) >= 60


def fragments(message: str) -> list[str]:
    """The parts of a message that do not depend on names or numbers."""
    return [part.strip() for part in re.split(r"\.\.\.", message.replace("`", "")) if part.strip()]


@cache
def texts() -> list[str]:
    """Every string in r2gen/; a null character replaces each value in an f-string."""
    strings = []
    for file in (ROOT / "r2gen").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                strings.append(
                    "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values)
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                strings.append(node.value)
    return strings
