"""The file of task=predict resumes after a kill, keeps the reports of one checkpoint, and opens in a spreadsheet."""

from dataclasses import replace
from pathlib import Path

import pytest

from r2gen.compare.report_file import read_reports
from r2gen.errors import UserError
from r2gen.evaluate.report_file import ReportFile, ReportRow, findings_in

ROW = ReportRow("s1", 'The "heart", large.\nNo edema.', ["Cardiomegaly"], ["a/1.png", "a/2.png"], "", "run/greedy/1")
FAILED = replace(ROW, id="=s2", report="", findings=[], error="image x.png does not exist")


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
def test_rows_are_read_again_without_failed_and_torn_ones(name: str, tmp_path: Path) -> None:
    file = ReportFile(tmp_path / name)
    file.check()
    assert file.start(made_by=ROW.made_by, fresh=False) == set()
    for row in (ROW, FAILED, replace(ROW, id="=s3")):
        file.add(row)
    with file.path.open("ab") as out:
        out.write(b's4,"half a rep')
    file.check()
    assert file.start(made_by=ROW.made_by, fresh=False) == {"s1", "=s3"}
    assert b"half" not in file.path.read_bytes()
    assert b"x.png" not in file.path.read_bytes()
    assert file.path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UserError, match=r"another checkpoint or decoding \(run/greedy/1, this command: run/beam3/2\)"):
        file.start(made_by="run/beam3/2", fresh=False)
    assert file.start(made_by="run/beam3/2", fresh=True) == set()


def test_compare_reads_the_reports_and_a_spreadsheet_finds_no_formula(tmp_path: Path) -> None:
    file = ReportFile(tmp_path / "out.csv")
    file.start(made_by=ROW.made_by, fresh=False)
    for row in (ROW, replace(ROW, id="=1+1", report="-1")):
        file.add(row)
    assert read_reports(file.path).reports["s1"] == 'The "heart", large. No edema.'
    assert "\n'=1+1,'-1," in file.path.read_text()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("reports.txt", None, r"ends in .csv or .jsonl"),
        ("nowhere/reports.csv", None, "cannot be written: No such file"),
        ("table.csv", "image,report\na.png,x\n", "is not a file of task=predict"),
        ("table.jsonl", '{"image": "a.png"}\n', "is not a file of task=predict"),
        ("folder.csv", "", "is a folder"),
    ],
)
def test_another_file_is_never_replaced(name: str, content: str | None, words: str, tmp_path: Path) -> None:
    if content:
        (tmp_path / name).write_text(content)
    elif content == "":
        (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=words):
        ReportFile(tmp_path / name).check()


def test_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "out.csv").symlink_to(tmp_path / "other.csv")
    with pytest.raises(UserError, match="is a symbolic link"):
        ReportFile(tmp_path / "out.csv").check()


def test_findings_are_those_that_a_report_states_or_suspects() -> None:
    report = "The heart is enlarged. Possible pneumonia. No effusion."
    assert findings_in(report) == ["Cardiomegaly", "Pneumonia?"]
    assert findings_in("The lungs are clear.") == ["No Finding"]
