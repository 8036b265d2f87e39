"""task=compare with files of other programs."""

import csv
import json
from pathlib import Path

import pytest
from compared import compare
from scored_run import references

from r2gen.errors import UserError


def test_files_of_other_programs_are_compared_with_runs(good: Path, tmp_path: Path):
    of = references()
    with (tmp_path / "mine.csv").open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([("id", "report"), *of.items()])
    theirs = tmp_path / "r2gengpt"
    theirs.mkdir()
    (theirs / "test_result.json").write_text(json.dumps({id: [text] for id, text in of.items()}), encoding="utf-8")
    (theirs / "test_refs.json").write_text(json.dumps({id: [text[:40]] for id, text in of.items()}), encoding="utf-8")
    comparison = compare(tmp_path / "out", good, tmp_path / "mine.csv", f"theirs={theirs}", studies=0, null_rows=[])
    assert {system["name"]: system["kind"] for system in comparison["systems"]} == {
        "good": "run",
        "mine": "file",
        "theirs": "file",
    }
    assert comparison["scores"]["theirs"]["bleu_4"]["value"] == pytest.approx(1)  # against the run's references
    assert any("theirs has its own references for 24 of 24 studies" in note for note in comparison["notes"])


def test_a_file_that_was_not_cleaned_as_the_references_is_named(good: Path, tmp_path: Path) -> None:
    of = references()
    for name, change in (("attached", (" . ", ". ")), ("commas", (" ", ", ")), ("same", (" . ", " . "))):
        lines = [json.dumps({"id": id, "report": text.replace(*change)}) for id, text in of.items()]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    cut = [json.dumps({"id": id, "report": text.removesuffix(" .")}) for id, text in of.items()]
    (tmp_path / "cut.jsonl").write_text("\n".join(cut), encoding="utf-8")
    files = [tmp_path / f"{name}.jsonl" for name in ("attached", "commas", "same", "cut")]
    notes = compare(tmp_path / "out", good, *files, studies=0, null_rows=[])["notes"]
    named = [note.split()[0] for note in notes if "was not cleaned as the references were" in note]
    assert named == ["attached", "commas"]
    assert any("compare.cleaner=iu_xray (or mimic_cxr) cleans all texts in the same way" in note for note in notes)


def test_a_file_alone_needs_its_own_references(tmp_path: Path):
    (tmp_path / "a.json").write_text(json.dumps(references()), encoding="utf-8")
    with pytest.raises(UserError, match=r"runs: none of the entries has references\. Add a run folder"):
        compare(tmp_path / "out", tmp_path / "a.json")
    (tmp_path / "test_refs.json").write_text(json.dumps(references()), encoding="utf-8")
    comparison = compare(tmp_path / "out", tmp_path / "a.json", studies=0)
    assert comparison["pairs"] == []
    assert any("no constant baseline" in note for note in comparison["notes"])
