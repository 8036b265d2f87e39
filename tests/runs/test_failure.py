"""A command that fails reports its code to the program that started it, also if it fails before it has a run folder."""

import json
from pathlib import Path

import pytest
from run_in_process import run_in_process

from r2gen.errors import FIXABLE, Code
from r2gen.runs.failure import VARIABLE, Failure, read_failure, report
from r2gen.runs.folder import RunFolder
from r2gen.runs.phase import Phase


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which a command reports its failure."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "failure.json"))
    return tmp_path / "failure.json"


@pytest.mark.parametrize(
    ("overrides", "code"),
    [
        (["lm=lama2"], "invalid"),
        (["trainer.batch_size=30"], "incompatible"),
        (["lm=llama2", "quant=nf4", "tune/lm=full"], "incompatible"),
    ],
)
def test_a_refused_command_reports_its_code(overrides: list[str], code: str, file: Path, tmp_path: Path):
    status, output = run_in_process(*overrides, cwd=tmp_path)
    assert status == FIXABLE
    failure = json.loads(file.read_text(encoding="utf-8"))
    assert (failure["code"], failure["phase"]) == (code, None)
    assert output.startswith(f"error: {failure['message']}")


def test_a_command_on_a_busy_folder_reports_so(file: Path, tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    folder.lock()
    assert run_in_process("run_dir=run", cwd=tmp_path)[0] == FIXABLE
    failure = read_failure(file)
    assert failure is not None
    assert failure.code is Code.BUSY
    folder.unlock()


def test_the_first_failure_of_a_command_counts(file: Path):
    first = Failure("out of memory", Code.MEMORY_TRAINING, Phase.TRAINING)
    report(first)
    report(Failure("rank 1 did not respond", Code.RANK_LOST))
    assert read_failure(file) == first


def test_a_command_that_reports_nothing_has_no_failure(file: Path):
    assert read_failure(file) is None
    file.write_text('{"code"', encoding="utf-8")
    assert read_failure(file) is None


def test_a_command_without_a_sweep_writes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    report(Failure("anything", Code.INVALID))
    assert not list(tmp_path.iterdir())
