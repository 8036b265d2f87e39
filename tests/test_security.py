"""A data file, a checkpoint or a name cannot run code, leave its folder, fill the memory or control the terminal."""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from composed import composed
from run_in_process import run_in_process
from smallest_run import ROOT

from r2gen.config import targets
from r2gen.errors import UserError, printable
from r2gen.pages.csv_text import csv_text
from r2gen.runs.folder import RunFolder
from r2gen.runs.provenance import weights_hashes
from r2gen.runs.stored import refuse_other_weights

OUTSIDE = [
    "os.system",
    "torch.hub.load",
    "builtins.eval",
    "hydra.utils.call",
    "r2gen",
    "r2gen.__class__",
    "r2gen.errors.__builtins__",
    "r2gen.runs.folder.os",
    "r2gen.launch.processes.subprocess.Popen",
    "r2gen.launch.processes.os.system",
    "r2gen.runs.files.write_whole",
    "r2gen.ranks.stop.leave_on_signals",
    "r2gen.errors.UserError.mro",
    "r2gen./tmp/x.Evil",
    "r2gen...tests.smallest_run.run",
    "r2gen.r2gengpt..inspection.main",
]


@pytest.mark.parametrize("target", OUTSIDE)
def test_a_stored_configuration_builds_nothing_but_classes_of_r2gen(target: str):
    with pytest.raises(UserError, match=r"_target_="):
        targets.instantiate(targets.Target(target))


def test_control_characters_are_escaped_in_the_terminal():
    assert printable("a\x1b]0;title\x07\r\n\u202eb é") == "a\\x1b]0;title\\x07\\r\n\\u202eb é"
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "task=evaluate", "run_dir='/nope\x1b[2J'"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "/nope" in done.stderr
    assert "\x1b" not in done.stderr


def test_help_can_be_piped_to_a_program_that_stops_reading():
    line = f"{sys.executable} {ROOT / 'run.py'} --help | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "0"


def test_no_cell_of_a_csv_file_is_a_formula():
    assert csv_text(["job", "bleu"], [["=cmd|'/c calc'!A0", -0.5], ["@x", None]]) == (
        "job,bleu\n'=cmd|'/c calc'!A0,-0.5\n'@x,\n"
    )


def test_a_checkpoint_is_not_scored_on_a_changed_language_model(tmp_path: Path):
    lm = tmp_path / "lm"
    lm.mkdir()
    (lm / "model.safetensors").write_bytes(b"weights")
    config = composed("lm=llama2", f"lm.path={lm}")
    (tmp_path / "run.json").write_text(
        json.dumps({"format": 1, "git": {}, "status": "finished", "overrides": [], "weights": weights_hashes(config)})
    )
    refuse_other_weights(RunFolder(tmp_path), config)
    (lm / "model.safetensors").write_bytes(b"Weights")
    with pytest.raises(UserError, match=r"other weights:\n  lm\.path: the files have changed .*\nput the files it was"):
        refuse_other_weights(RunFolder(tmp_path), config)


def test_a_deflated_dicom_is_refused_before_it_is_inflated(tmp_path: Path):
    import resource
    import zlib

    pydicom = pytest.importorskip("pydicom")
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3"
    image = tmp_path / "bomb.dcm"
    with image.open("wb") as out:
        out.write(b"\0" * 128 + b"DICM")
        pydicom.filewriter.write_file_meta_info(out, meta, enforce_standard=True)
        packer = zlib.compressobj(9, wbits=-15)
        for _ in range(300):
            out.write(packer.compress(bytes(2**20)))
        out.write(packer.flush())
    assert image.stat().st_size < 2**20
    from r2gen.data.images import read_image

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=r"bomb\.dcm: it is deflated as a whole"):
        read_image(image)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # KiB


def test_every_test_on_the_page_of_promises_exists():
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    promises = [line.split("|")[-2] for line in page.splitlines() if line.startswith("| **")]
    named = [re.findall(r"`(tests/[\w/.]*)`", cell) for cell in promises]
    assert len(promises) >= 14
    assert all(named)
    assert all((ROOT / path).exists() for paths in named for path in paths)


def test_only_the_owner_can_read_what_a_command_writes(tmp_path: Path):
    (tmp_path / "reports.csv").write_text("id,report\n1,clear\n2,no effusion\n")
    (tmp_path / "test_result.json").write_text('{"1": ["clear"], "2": ["an effusion"]}')
    (tmp_path / "test_refs.json").write_text('{"1": ["clear"], "2": ["no effusion"]}')
    before = os.umask(0o022)
    try:
        assert run_in_process("task=audit", "data.train_studies=2", "out=audit", cwd=tmp_path)[0] == 0
        words = ("task=compare", "runs=[a=reports.csv,b=test_result.json]", "metrics=[bleu]", "out=compared")
        status, output = run_in_process(*words, cwd=tmp_path)
        assert status == 0, output
        refused = ("-m", "seed=1,2", "lm=llama2", "quant=nf4", "tune/lm=full", "hydra.sweep.dir=sweep")
        with pytest.raises(SystemExit):  # its jobs are skipped
            run_in_process(*refused, cwd=tmp_path)
        os.umask(0o022)
        assert run_in_process("task=status", "sweep=sweep", cwd=tmp_path)[0] == 0
    finally:
        os.umask(before)
    folders = [tmp_path / name for name in ("audit", "compared", "sweep")]
    written = [path for folder in folders for path in (folder, *folder.rglob("*"))]
    names = {"audit.json", "comparison.json", "sweep.json", "multirun.yaml", "sweep.html", "logs"}
    assert names <= {path.name for path in written}
    assert [str(path) for path in written if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
