"""README, CONTRIBUTING and docs/: the files that they name exist, and the README's commands compose."""

import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from run_in_process import run_in_process
from smallest_run import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = "r2gen|tests|conf|docs|benchmarks|sweeps|hydra_plugins"
# Files that the reader of a page has to write.
ELSEWHERE = {"docs/add-a-language-model.md": {"conf/lm/arcee.yaml"}}
README_COMMANDS = re.findall(r"^python run\.py ?(.*)$", (ROOT / "README.md").read_text().replace("\\\n", ""), re.M)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_exists(page: Path):
    text = page.read_text(encoding="utf-8")
    paths = set(re.findall(rf"(?<![\w./-])(?:{FOLDERS})/[\w./-]*\.(?:py|yaml|md|json|txt|js|css|html|png)\b", text))
    paths |= set(re.findall(r"`([\w/]+\.py)`", text))  # such as `lm/codecs.py`, in r2gen/
    links = {(page.parent / link).resolve() for link in re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", text)}
    missing = [path for path in paths if not any(f"/{file}".endswith(f"/{path}") for file in existing())]
    missing += [str(link) for link in links if not link.exists()]
    assert sorted(set(missing) - ELSEWHERE.get(str(page.relative_to(ROOT)), set())) == []


@pytest.mark.parametrize("command", README_COMMANDS)
def test_every_command_of_the_readme_composes(command: str, tmp_path: Path):
    words = [re.sub(r"=([\w.]+),.*", r"=\1", word.replace("glob(*)", "tiny")) for word in shlex.split(command)]
    if "--help" in words:
        return
    words = [word for word in words if word not in ("-m", "--cfg", "job")]
    status, output = run_in_process(*words, "--cfg", "job", cwd=tmp_path)
    assert status == 0, output


@cache
def existing() -> frozenset[str]:
    folders = [ROOT / folder for folder in FOLDERS.split("|")]
    files = [*ROOT.glob("*.*"), *(file for folder in folders for file in folder.rglob("*.*"))]
    return frozenset(str(file.relative_to(ROOT)) for file in files)
