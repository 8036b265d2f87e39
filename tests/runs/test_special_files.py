"""A FIFO, a socket or an endless device in place of a file is refused: no command waits for it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from run_in_process import run_in_process
from smallest_run import ROOT

from r2gen.errors import UserError
from r2gen.runs.special_files import refuse_special


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


def test_special_files_are_named_by_their_kind(fifo: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"^checkpoint=\S+/fifo is a FIFO \(named pipe\): give a regular file$"):
        refuse_special(fifo, option="checkpoint")
    with socket.socket(socket.AF_UNIX) as bound:
        os.chdir(tmp_path)
        bound.bind("socket")
        with pytest.raises(UserError, match="is a socket"):
            refuse_special(tmp_path / "socket")
    (tmp_path / "link").symlink_to("/dev/zero")
    with pytest.raises(UserError, match="is a device"):
        refuse_special(tmp_path / "link")
    for usual in ("/dev/null", "/dev/tty", str(tmp_path), str(tmp_path / "missing"), __file__, "a\0b"):
        refuse_special(usual)


@pytest.mark.parametrize(
    "statement", ["open('fifo')", "open('fifo', 'ab')", "Path('fifo').read_bytes()", "Image.open('fifo')"]
)
def test_a_process_of_a_command_opens_no_special_file(fifo: Path, statement: str):
    program = (
        "from pathlib import Path; from PIL import Image; from r2gen.runs.special_files import refuse_special_files\n"
        f"refuse_special_files(); open('/dev/null').read(); Path('file').write_text('x'); {statement}"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=fifo.parent, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stderr.splitlines()[-1] == "r2gen.errors.UserError: fifo is a FIFO (named pipe): give a regular file"


@pytest.mark.parametrize(
    "options",
    [
        "lm=llama2 lm.path=fifo",
        "vision=swin_base vision.path=fifo",
        "data=iu_xray data.root=fifo",
        "run_dir=fifo",
        "task=compare runs=[a] out=fifo",
        "trainer.nodes=2 trainer.batch_size=32 trainer.hostfile=fifo",
        "task=generate run_dir=run images=[fifo]",
        "task=prepare data=csv prepare.table=fifo.csv",
        "task=prepare data=csv prepare.table=fifo.parquet",
    ],
)
def test_an_option_that_names_a_special_file_is_refused(fifo: Path, options: str):
    for suffix in (".csv", ".parquet"):
        os.mkfifo(fifo.with_suffix(suffix))
    status, output = run_in_process(*options.split(), cwd=fifo.parent)
    assert status == 2
    assert output.startswith("error: ")
    assert output.count("\n") == 1, output


def test_an_annotation_that_is_a_fifo_is_refused(fifo: Path, tmp_path: Path):
    (tmp_path / "root" / "images").mkdir(parents=True)
    os.mkfifo(tmp_path / "root" / "annotation.json")
    status, output = run_in_process("data=iu_xray", "data.root=root", cwd=tmp_path)
    assert (status, output.count("\n")) == (2, 1)
    assert "annotation.json is a FIFO" in output
