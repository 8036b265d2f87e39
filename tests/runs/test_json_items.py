"""A large JSON object is read item by item, with the same values as json.loads, wherever its blocks end."""

import json
from pathlib import Path

import pytest

from r2gen.runs import json_items
from r2gen.runs.json_items import read_items

CONTENT = {"a": 12, "": [], "b c": {"x": [1.5, None, True], "y": 'é " } , : \n'}, "d": "", "e": -3.25e3, "f": {}}


@pytest.mark.parametrize("block", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("indent", [None, 0, 4])
def test_the_items_are_those_of_the_file(
    block: int, indent: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_items, "_BLOCK", block)
    for content in (CONTENT, {}, {"only": 1}):
        file = tmp_path / "a.json"
        file.write_text("\ufeff\n " + json.dumps(content, indent=indent, ensure_ascii=False) + " \n", encoding="utf-8")
        assert list(read_items(file)) == list(content.items())


def test_a_key_that_is_there_twice_is_given_twice(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1, "a": 2}')
    assert list(read_items(tmp_path / "a.json")) == [("a", 1), ("a", 2)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not begin with {"),
        ("[1]", "does not begin with {"),
        ('{"a": 1', "neither , nor } after a value"),
        ('{"a": 1,', "it ends too early"),
        ('{"a": 1,}', "character 8: Expecting value"),
        ('{"a": }', "character 6: Expecting value"),
        ('{"a" 1}', 'no "KEY": VALUE'),
        ("{1: 2}", 'no "KEY": VALUE'),
        ('{"a": 1} x', "does not end the file"),
        ('{"a": "x', "Unterminated string"),
        (f'{{"a": {"9" * 40}}}', "a whole number has 40 digits"),
        (f'{{"a": {"[" * 100}{"]" * 100}}}', "nested too deeply"),
        (f'{{"a": {"[" * 10**5}', "nested too deeply"),
    ],
)
def test_a_fault_has_its_position(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=message.replace("{", r"\{").replace("}", r"\}")):
        list(read_items(tmp_path / "a.json"))


def test_an_item_is_bounded_and_the_file_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_items, "LONGEST_ITEM", 100)
    monkeypatch.setattr(json_items, "_BLOCK", 50)
    file = tmp_path / "a.json"
    file.write_text(json.dumps({str(number): "x" * 60 for number in range(50)}))
    assert len(list(read_items(file))) == 50
    file.write_text(json.dumps({"a": "x" * 400}))
    with pytest.raises(ValueError, match="Unterminated string"):
        list(read_items(file))
