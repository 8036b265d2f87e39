"""Hostile files of reports: each is one message with file, line and fix, or a result that is said here."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2gen.compare.report_file import MAX_BYTES, MAX_CHARACTERS, read_reports
from r2gen.errors import UserError
from r2gen.evaluate.nlg import Bleu, Cider, RougeL
from r2gen.evaluate.scoring import score_reports

GOOD = '{"id": "1", "report": "clear ."}\n'


def file(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"holds no report"),
        ("\n \n", r"holds no report"),
        ("id,report\n", r"line 1, column 1: no JSON"),
        (GOOD + '{"id": "2", "report": "cl\n', r"line 2, column \d+: no JSON .*write one whole object a line"),
        (GOOD + '["2", "clear"]\n', r"line 2: \['2', 'clear'\] is no object"),
        (GOOD + '{"id": "2"}\n', r'line 2 has no "report" but id'),
        (GOOD + '{"study": "2", "report": "clear"}\n', r'line 2 has no "id" but study, report'),
        (GOOD + GOOD, r"line 2 \(id 1\): the id stands here and in line 1"),
        ('{"id": 1, "report": "a"}\n' + GOOD, r"line 2 \(id 1\): the id stands here and in line 1"),
        ('{"id": "2", "report": NaN}\n', r'line 1 \(id 2\): the report nan is no text: write ""'),
        ('{"id": "2", "report": null}\n', r'line 1 \(id 2\): the report None is no text: write ""'),
        ('{"id": "2", "report": ["a"]}\n', r"the report \['a'\] is no text"),
        ('{"id": null, "report": "a"}\n', r"line 1: None is no id"),
        ('{"id": NaN, "report": "a"}\n', r"line 1: nan is no id"),
        ('{"id": true, "report": "a"}\n', r"line 1: True is no id"),
        ('{"id": " ", "report": "a"}\n', r"line 1: ' ' is no id"),
        ('{"id": "2", "report": "a", "report": "b"}\n', r'line 1: "report" stands twice'),
        ('{"id": "2", "report": "\\ud800"}\n', r"line 1 \(id 2\) holds a half of a surrogate pair"),
        ('{"id": "2", "report": "a\0b"}\n', r"line 1: a zero byte is no text"),
        ("[" * 100_000, r"line 1: nested too deep"),
        (GOOD.encode() + '{"id": "2", "report": "größer"}\n'.encode("latin-1"), r"line 2: byte 0xf6 is no UTF-8: save"),
        (GOOD.encode("utf-16"), r"byte 0xff is no UTF-8 \(it looks like UTF-16\): save"),
        (GOOD.encode("utf-16-le"), r"line 1: a zero byte is no text \(it looks like UTF-16\)"),
        (json.dumps({"id": "2", "report": "clear " * 200_000}), r"line 1 \(id 2\): a report of 1,200,000 char"),
    ],
)
def test_a_hostile_jsonl_is_refused_in_one_message(content: str | bytes, message: str, tmp_path: Path):
    with pytest.raises(UserError, match=message) as error:
        read_reports(file(tmp_path, "bad.jsonl", content))
    assert str(error.value).startswith(str(tmp_path / "bad.jsonl"))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"line 1: 0 columns \"id\" among nothing: the first line must be id,report"),
        ("id,report\n", r"holds no report"),
        ("id,text\n1,clear\n", r'line 1: 0 columns "report" among id, text'),
        ("id;report\n1;clear\n", r'line 1: 0 columns "id" among id;report'),
        ("id,id,report\n1,1,clear\n", r'line 1: 2 columns "id"'),
        ("1,clear\n", r'line 1: 0 columns "id" among 1, clear'),
        ("id,report\n1,clear\n2\n", r"line 3 has 1 fields instead of 2"),
        ("id,report\n1,no effusion, no pneumothorax\n", r"line 2 has 3 fields instead of 2: put a report with a comma"),
        ('id,report\n1,"line one\nline two"\n2,"open\n', r"line 4: unexpected end of data: close every quote"),
        ('id,report\n1,"a"b\n', r"line 2: .*: close every quote"),
        ("id,report\n1,\n1,clear\n", r"line 3 \(id 1\): the id stands here and in line 2"),
        ("id,report\n1,NaN\n", r'line 2 \(id 1\): "NaN" is a missing value'),
        ("id,report\n,clear\n", r"line 2: '' is no id"),
        ("id,report\n1," + "a" * 1_000_000 + "\n", r"line 2: field larger than field limit \(131072\): shorten it"),
        ("id,report\n1," + "a" * (MAX_CHARACTERS + 1), r"line 2 \(id 1\): a report of 10,001 characters"),
        ("id,report\n1,größer\n".encode("latin-1"), r"line 2: byte 0xf6 is no UTF-8: save"),
        ("id,report\n1,clear\n".encode("utf-16"), r"it looks like UTF-16"),
    ],
)
def test_a_hostile_csv_is_refused_in_one_message(content: str | bytes, message: str, tmp_path: Path):
    with pytest.raises(UserError, match=message) as error:
        read_reports(file(tmp_path, "bad.csv", content))
    assert str(error.value).startswith(str(tmp_path / "bad.csv"))
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", r"holds no report"),
        ("[]", r"holds a list, no object \{id: \[report\]\}"),
        ('{"1": ["a", "b"]}', r"\(id 1\) has 2 texts: leave one"),
        ('{"1": [null]}', r"\(id 1\): the report None is no text"),
        ('{"1": ["a"], "1": ["b"]}', r'"1" stands twice'),
        ('{"1": ["a"],', r"line 1, column \d+: no JSON"),
    ],
)
def test_a_hostile_file_of_r2gengpt_is_refused_in_one_message(content: str, message: str, tmp_path: Path):
    with pytest.raises(UserError, match=message):
        read_reports(file(tmp_path, "test_result.json", content))


def test_what_is_no_file_of_reports_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"gone\.csv does not exist: name a run folder or a file of reports"):
        read_reports(tmp_path / "gone.csv")
    with pytest.raises(UserError, match=r"reports are read from a run folder, \.jsonl"):
        read_reports(file(tmp_path, "reports.xlsx", "x"))
    with pytest.raises(UserError, match="is neither a run folder"):
        read_reports(tmp_path)
    with pytest.raises(UserError, match=r"test_refs\.json holds references: name the reports"):
        read_reports(file(tmp_path, "test_refs.json", '{"1": ["a"]}'))
    file(tmp_path, "test_refs.json", '{"2": ["a"]}')
    with pytest.raises(UserError, match=r"have different ids \(such as 1\)"):
        read_reports(file(tmp_path, "test_result.json", '{"1": ["a"]}'))


def test_a_huge_file_is_refused_unread(tmp_path: Path):
    huge = tmp_path / "huge.jsonl"
    with huge.open("wb") as out:
        out.truncate(MAX_BYTES + 1)  # sparse: it takes no room
    started = time.monotonic()
    with pytest.raises(UserError, match=r"huge\.jsonl has 1\.0 GiB"):
        read_reports(huge)
    assert time.monotonic() - started < 1


def test_what_has_a_defined_result(tmp_path: Path):
    """A byte order mark is left out, numbers are ids, line breaks spaces; an empty report is one, and text is text."""
    script = "<script>alert(1)</script> | & $x_1$ \x1b[31m"
    lines = [{"id": 7, "report": "one\ntwo"}, {"id": "8", "report": ""}, {"id": "9", "report": script}]
    raw = b"\xef\xbb\xbf" + "\r\n".join(map(json.dumps, lines)).encode()
    assert read_reports(file(tmp_path, "a.jsonl", raw)).reports == {"7": "one two", "8": "", "9": script}
    raw = b'\xef\xbb\xbfid,more,report\r\n7,x,"one\r\ntwo, ""three"""\r\n8,x,\r\n'
    assert read_reports(file(tmp_path, "a.csv", raw)).reports == {"7": 'one two, "three"', "8": ""}
    file(tmp_path, "test_refs.json", '{"1": ["b"]}')
    found = read_reports(file(tmp_path, "test_result.json", '{"1": ["a"]}'))
    assert (found.reports, found.references) == ({"1": "a"}, {"1": "b"})
    assert read_reports(tmp_path) == found


def test_the_longest_report_accepted_is_scored_in_time(tmp_path: Path):
    sentence = "the lungs are clear . there is no pleural effusion or pneumothorax . "
    longest = (sentence * MAX_CHARACTERS)[:MAX_CHARACTERS]
    reports = read_reports(file(tmp_path, "a.jsonl", json.dumps({"id": "1", "report": longest}))).reports
    started = time.monotonic()
    metrics = {"bleu": Bleu(), "rouge_l": RougeL(), "cider": Cider()}
    score_reports(metrics, {"1": sentence * 3, "2": sentence}, reports | {"2": sentence})
    assert time.monotonic() - started < 5


@settings(max_examples=150, deadline=None)
@given(
    raw=st.binary(max_size=200) | st.text(alphabet='{}[]",:idreport12\n\\ ', max_size=200).map(str.encode),
    suffix=st.sampled_from((".jsonl", ".csv", ".json")),
)
def test_any_bytes_are_reports_or_one_message(raw: bytes, suffix: str, tmp_path_factory: pytest.TempPathFactory):
    path = file(tmp_path_factory.getbasetemp(), f"any{suffix}", raw)
    try:
        found = read_reports(path)
    except UserError:
        return
    assert found.reports
