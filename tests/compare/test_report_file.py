"""Invalid files of reports: each is one message with file, line and fix, or has a result that is tested here."""

import json
import tracemalloc
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
        ("", r"contains no report"),
        ("\n \n", r"contains no report"),
        ("id,report\n", r"line 1, column 1: not JSON"),
        (GOOD + '{"id": "2", "report": "cl\n', r"line 2, column \d+: not JSON .*Write one whole object per line"),
        (GOOD + '["2", "clear"]\n', r"line 2: \['2', 'clear'\] is not an object"),
        (GOOD + '{"id": "2"}\n', r'line 2: "report" is missing; there is id'),
        (GOOD + '{"study": "2", "report": "clear"}\n', r'line 2: "id" is missing; there is study, report'),
        (GOOD + GOOD, r"line 2 \(id 1\): the id is repeated after line 1"),
        ('{"id": 1, "report": "a"}\n' + GOOD, r"line 2 \(id 1\): the id is repeated after line 1"),
        ('{"id": "2", "report": NaN}\n', r'line 1 \(id 2\): the report nan is not a text\. Write ""'),
        ('{"id": "2", "report": null}\n', r'line 1 \(id 2\): the report None is not a text\. Write ""'),
        ('{"id": "2", "report": ["a"]}\n', r"the report \['a'\] is not a text"),
        ('{"id": null, "report": "a"}\n', r"line 1: None is not an id"),
        ('{"id": NaN, "report": "a"}\n', r"line 1: nan is not an id"),
        ('{"id": true, "report": "a"}\n', r"line 1: True is not an id"),
        ('{"id": " ", "report": "a"}\n', r"line 1: ' ' is not an id"),
        ('{"id": "2", "report": "a", "report": "b"}\n', r'line 1: "report" is given twice'),
        ('{"id": "2", "report": "\\ud800"}\n', r"line 1 \(id 2\): half of a surrogate pair"),
        ('{"id": "2", "report": "a\0b"}\n', r"line 1: a zero byte is not text"),
        ("[" * 100_000, r"line 1: nested too deeply"),
        (
            GOOD.encode() + '{"id": "2", "report": "größer"}\n'.encode("latin-1"),
            r"line 2: byte 0xf6 is not UTF-8\. Save",
        ),
        (GOOD.encode("utf-16"), r"byte 0xff is not UTF-8 \(it looks like UTF-16\)\. Save"),
        (GOOD.encode("utf-16-le"), r"line 1: a zero byte is not text \(it looks like UTF-16\)"),
        (json.dumps({"id": "2", "report": "clear " * 200_000}), r"line 1 \(id 2\): the report has 1,200,000 char"),
    ],
)
def test_an_invalid_jsonl_is_refused_with_one_message(content: str | bytes, message: str, tmp_path: Path):
    with pytest.raises(UserError, match=message) as error:
        read_reports(file(tmp_path, "bad.jsonl", content))
    assert str(error.value).startswith(str(tmp_path / "bad.jsonl"))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"line 1: 0 columns named \"id\" in nothing\. Write id,report into the first line"),
        ("id,report\n", r"contains no report"),
        ("id,text\n1,clear\n", r'line 1: 0 columns named "report" in id, text'),
        ("id;report\n1;clear\n", r'line 1: 0 columns named "id" in id;report'),
        ("id,id,report\n1,1,clear\n", r'line 1: 2 columns named "id"'),
        ("1,clear\n", r'line 1: 0 columns named "id" in 1, clear'),
        ("id,report\n1,clear\n2\n", r"line 3: 1 fields instead of 2"),
        (
            "id,report\n1,no effusion, no pneumothorax\n",
            r"line 2: 3 fields instead of 2\. Enclose a report",
        ),
        ('id,report\n1,"line one\nline two"\n2,"open\n', r"line 4: unexpected end of data\. Close every quote"),
        ('id,report\n1,"a"b\n', r"line 2: .*\. Close every quote"),
        ("id,report\n1,\n1,clear\n", r"line 3 \(id 1\): the id is repeated after line 2"),
        ("id,report\n1,NaN\n", r'line 2 \(id 1\): "NaN" is a missing value'),
        ("id,report\n,clear\n", r"line 2: '' is not an id"),
        (
            "id,report\n1," + "a" * 1_000_000 + "\n",
            r"line 2: field larger than field limit \(131072\)\. Shorten",
        ),
        ("id,report\n1," + "a" * (MAX_CHARACTERS + 1), r"line 2 \(id 1\): the report has 10,001 characters"),
        ("id,report\n1,größer\n".encode("latin-1"), r"line 2: byte 0xf6 is not UTF-8\. Save"),
        ("id,report\n1,clear\n".encode("utf-16"), r"it looks like UTF-16"),
    ],
)
def test_an_invalid_csv_is_refused_with_one_message(content: str | bytes, message: str, tmp_path: Path):
    with pytest.raises(UserError, match=message) as error:
        read_reports(file(tmp_path, "bad.csv", content))
    assert str(error.value).startswith(str(tmp_path / "bad.csv"))
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", r"contains no report"),
        ("[]", r"contains a list, not an object \{id: \[report\]\}"),
        ('{"1": ["a", "b"]}', r"\(id 1\): 2 texts\. Keep one"),
        ('{"1": [null]}', r"\(id 1\): the report None is not a text"),
        ('{"1": ["a"], "1": ["b"]}', r'"1" is given twice'),
        ('{"1": ["a"],', r"line 1, column \d+: not JSON"),
    ],
)
def test_an_invalid_file_of_r2gengpt_is_refused_with_one_message(content: str, message: str, tmp_path: Path):
    with pytest.raises(UserError, match=message):
        read_reports(file(tmp_path, "test_result.json", content))


def test_other_files_and_folders_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"gone\.csv: the file does not exist\. Give a run folder or a file of reports"):
        read_reports(tmp_path / "gone.csv")
    with pytest.raises(UserError, match=r"not a file of reports\. Give a run folder, \.jsonl"):
        read_reports(file(tmp_path, "reports.xlsx", "x"))
    with pytest.raises(UserError, match="neither a run folder"):
        read_reports(tmp_path)
    with pytest.raises(UserError, match=r"test_refs\.json: contains references\. Give the reports"):
        read_reports(file(tmp_path, "test_refs.json", '{"1": ["a"]}'))
    file(tmp_path, "test_refs.json", '{"2": ["a"]}')
    with pytest.raises(UserError, match=r"its ids differ from those of test_refs\.json \(such as 1\)"):
        read_reports(file(tmp_path, "test_result.json", '{"1": ["a"]}'))


def test_a_huge_file_is_refused_without_reading_it(tmp_path: Path):
    huge = tmp_path / "huge.jsonl"
    with huge.open("wb") as out:
        out.truncate(MAX_BYTES + 1)  # sparse: uses no disk space
    tracemalloc.start()
    with pytest.raises(UserError, match=r"huge\.jsonl: 1\.0 GiB is more than"):
        read_reports(huge)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_byte_order_marks_numbers_line_breaks_and_empty_reports_are_read(tmp_path: Path):
    """A byte order mark is dropped, a number is an id, a line break becomes a space, and a report may be empty."""
    script = "<script>alert(1)</script> | & $x_1$ \x1b[31m"
    lines = [{"id": 7, "report": "one\ntwo"}, {"id": "8", "report": ""}, {"id": "9", "report": script}]
    raw = b"\xef\xbb\xbf" + "\r\n".join(map(json.dumps, lines)).encode()
    assert read_reports(file(tmp_path, "a.jsonl", raw)).reports == {"7": "one two", "8": "", "9": script}
    raw = b'\xef\xbb\xbfid,more,report\r\n7,x,"one\r\ntwo, ""three"""\r\n8,x,\r\n'
    assert read_reports(file(tmp_path, "a.csv", raw)).reports == {"7": 'one two, "three"', "8": ""}
    file(tmp_path, "test_refs.json", '{"1": ["b"]}')
    content = read_reports(file(tmp_path, "test_result.json", '{"1": ["a"]}'))
    assert (content.reports, content.references) == ({"1": "a"}, {"1": "b"})
    assert read_reports(tmp_path) == content


def test_the_longest_accepted_report_is_scored(tmp_path: Path):
    """benchmarks/speed.py shows the seconds."""
    sentence = "the lungs are clear . there is no pleural effusion or pneumothorax . "
    longest = (sentence * MAX_CHARACTERS)[:MAX_CHARACTERS]
    reports = read_reports(file(tmp_path, "a.jsonl", json.dumps({"id": "1", "report": longest}))).reports
    metrics = {"bleu": Bleu(), "rouge_l": RougeL(), "cider": Cider()}
    scores = score_reports(metrics, {"1": sentence * 3, "2": sentence}, reports | {"2": sentence})
    assert 0 < scores.corpus["bleu_4"] < scores.corpus["bleu_1"] < 1


@settings(max_examples=150, deadline=None)
@given(
    raw=st.binary(max_size=200) | st.text(alphabet='{}[]",:idreport12\n\\ ', max_size=200).map(str.encode),
    suffix=st.sampled_from((".jsonl", ".csv", ".json")),
)
def test_any_bytes_give_reports_or_one_message(raw: bytes, suffix: str, tmp_path_factory: pytest.TempPathFactory):
    path = file(tmp_path_factory.getbasetemp(), f"any{suffix}", raw)
    try:
        content = read_reports(path)
    except UserError:
        return
    assert content.reports
